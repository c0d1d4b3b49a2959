//! Bringing the events of one log into another, empty one, of whichever kind: ids, versions, metadata, hashes and order stay;
//! positions stay where neither log has gaps. It refuses a log that is not empty, a stream that does not begin at its first
//! event, and an event whose hash is not that of what it holds.

use std::pin::pin;
use std::time::Duration;

use events::{CommandId, Digest, Hash, NewEvent, Position, RecordedEvent, StreamId, Version};
use futures::stream::{Stream, StreamExt, TryStreamExt, try_unfold};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    Append, AppendError, Appended, Error, EventStore, Expected, Filter, MAX_BYTES, MAX_EVENTS,
    check,
};

/// How many appends, and bytes of them, are on their way at once: they commit together, and bound the memory that an import
/// takes.
const AT_ONCE: usize = 1_024;
const BYTES_AT_ONCE: usize = 16 << 20;

/// What an import brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Imported {
    /// How many events.
    pub events: u64,
    /// How many of them stand at another position than before.
    pub moved: u64,
    /// The position of the last one here.
    pub head: Position,
    /// The running digest of all of them, in the order of the log: equal digests, equal events.
    pub digest: Digest,
}

/// Why an import stopped. What it brought until then stays in the log: remove that log before another try.
#[derive(Debug, thiserror::Error)]
pub enum ImportError<E> {
    /// The log holds events already.
    #[error("the log is not empty: events are imported into an empty one alone")]
    NotEmpty,
    /// The source failed.
    #[error("{0}")]
    Source(E),
    /// An event cannot stand in a log.
    #[error("the event at position {position} of the source cannot be imported: {why}")]
    Event {
        /// Its position in the source.
        position: Position,
        /// Why.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// The events of one command, as they were appended together.
struct Group {
    append: Append,
    bytes: usize,
    brought: Brought,
}

/// What is known of a group's events by the source.
struct Brought {
    stream: StreamId,
    /// Of the last of them.
    version: Version,
    position: Position,
    /// By event.
    hashes: Vec<Hash>,
}

/// The lease that says that a log is being filled: taken before the first event, and given up when all is there. One that was
/// never given up says that the log holds a part.
const FILLING: &str = "import";
/// How long nobody else may begin.
const FILLING_ALONE: Duration = Duration::from_secs(1);

/// Whether a log was being filled by [`import`] and [`complete`] was never said: it holds a part, and nobody may serve it.
pub async fn is_half_filled(store: &dyn EventStore) -> Result<bool, Error> {
    Ok(store.lease(FILLING).await?.is_some())
}

/// Says that a log which was filled by [`import`] is whole, with all that belongs to it.
pub async fn complete(store: &dyn EventStore) -> Result<(), Error> {
    store.release_lease(FILLING, filler(store)).await
}

/// The same for every process, so that another try may begin.
fn filler(store: &dyn EventStore) -> Uuid {
    store.identity().epoch
}

/// Appends all events, in the order of `source`, which is that of their positions. `progress` hears the number of events
/// that are durable, now and then. Memory is bounded; nothing is held of streams that are done. Until [`complete`] the log
/// counts as half-filled, unless nothing was brought.
pub async fn import<E>(
    store: &dyn EventStore,
    source: impl Stream<Item = Result<RecordedEvent, E>>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Imported, ImportError<E>> {
    let first = store
        .read_all(Position::ZERO, &Filter::default(), 1)
        .await?;
    if !first.events.is_empty() {
        return Err(ImportError::NotEmpty);
    }
    let filling = store.acquire_lease(FILLING, filler(store), FILLING_ALONE);
    if filling.await?.is_none() {
        return Err(Error::Unavailable("somebody else is filling it".into()).into());
    }
    let mut imported = Imported::default();
    let brought = bring(store, source, progress, &mut imported).await;
    if store.head().await? == Position::ZERO {
        complete(store).await?;
    }
    brought.map(|()| imported)
}

async fn bring<E>(
    store: &dyn EventStore,
    source: impl Stream<Item = Result<RecordedEvent, E>>,
    progress: &mut (dyn FnMut(u64) + Send),
    imported: &mut Imported,
) -> Result<(), ImportError<E>> {
    let mut groups = pin!(groups(source));
    let mut waiting = Vec::with_capacity(AT_ONCE);
    let mut bytes = 0;
    while let Some(group) = groups.try_next().await? {
        bytes += group.bytes;
        waiting.push(group);
        if waiting.len() >= AT_ONCE || bytes >= BYTES_AT_ONCE {
            imported.take(store, std::mem::take(&mut waiting)).await?;
            bytes = 0;
            progress(imported.events);
        }
    }
    imported.take(store, waiting).await?;
    progress(imported.events);
    Ok(())
}

impl Imported {
    /// Appends groups in their order, and checks what became of each.
    async fn take<E>(
        &mut self,
        store: &dyn EventStore,
        groups: Vec<Group>,
    ) -> Result<(), ImportError<E>> {
        let (appends, whats): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .map(|group| (group.append, group.brought))
            .unzip();
        let answers = store.append_all(appends).await;
        for (what, answer) in whats.into_iter().zip(answers) {
            self.check(&what, answer)?;
        }
        Ok(())
    }

    fn check<E>(
        &mut self,
        what: &Brought,
        answer: Result<Appended, AppendError>,
    ) -> Result<(), ImportError<E>> {
        let position = what.position;
        let stopped = |why: String| ImportError::Event { position, why };
        let appended = answer.map_err(|error| match error {
            AppendError::Fault(fault @ Error::Unavailable(_)) => ImportError::Store(fault),
            AppendError::WrongVersion { actual } => stopped(format!(
                "the source has version {} of {} after version {actual}: whole streams alone can be imported",
                what.version, what.stream
            )),
            other => stopped(other.to_string()),
        })?;
        if appended.repeated {
            return Err(stopped("its command stands in the source twice".into()));
        }
        if what.hashes.last() != Some(&appended.hash) {
            return Err(stopped(
                "its hash, or that of an event before it in its stream, is not that of what the source holds: the source was changed".into(),
            ));
        }
        if appended.position <= self.head {
            return Err(stopped(
                "the log took it in another order: somebody else wrote to it".into(),
            ));
        }
        let count = what.hashes.len() as u64;
        self.events += count;
        if appended.position != position {
            self.moved += count;
        }
        self.head = appended.position;
        for hash in &what.hashes {
            self.digest = self.digest.then(hash);
        }
        Ok(())
    }
}

/// Puts together what was appended together: neighbours of one stream with one command.
fn groups<E>(
    source: impl Stream<Item = Result<RecordedEvent, E>>,
) -> impl Stream<Item = Result<Group, ImportError<E>>> {
    let state = (Box::pin(source), None::<Group>, false);
    try_unfold(state, |(mut source, mut open, ended)| async move {
        if ended {
            return Ok(None);
        }
        loop {
            let Some(event) = source
                .next()
                .await
                .transpose()
                .map_err(ImportError::Source)?
            else {
                return Ok(open.take().map(|group| (group, (source, None, true))));
            };
            open = Some(match open.take() {
                None => Group::begin(event)?,
                Some(mut group) if group.takes(&event) => {
                    group.push(event);
                    group
                }
                Some(group) => {
                    let next = Group::begin(event)?;
                    return Ok(Some((group, (source, Some(next), false))));
                }
            });
        }
    })
}

impl Group {
    fn begin<E>(event: RecordedEvent) -> Result<Self, ImportError<E>> {
        let position = event.position;
        let before = event
            .version
            .get()
            .checked_sub(1)
            .ok_or_else(|| ImportError::Event {
                position,
                why: "its version is 0: versions count from 1".into(),
            })?;
        let mut group = Self {
            append: Append {
                stream: event.stream.clone(),
                expected: Expected::Exact(Version::new(before)),
                command_id: command_of(&event),
                events: vec![],
            },
            bytes: 0,
            brought: Brought {
                stream: event.stream.clone(),
                version: event.version,
                position,
                hashes: vec![],
            },
        };
        group.push(event);
        Ok(group)
    }

    fn takes(&self, event: &RecordedEvent) -> bool {
        self.append.stream == event.stream
            && self.append.command_id == command_of(event)
            && self.brought.version.plus(1) == event.version
            && self.append.events.len() < MAX_EVENTS
            && self.bytes + event.data.len() + event.metadata.len() + event.type_name.len()
                <= MAX_BYTES
    }

    fn push(&mut self, event: RecordedEvent) {
        self.brought.version = event.version;
        self.brought.position = event.position;
        self.brought.hashes.push(event.hash);
        let new = NewEvent {
            id: event.id,
            type_name: event.type_name,
            schema_version: event.schema_version,
            data: event.data,
            metadata: event.metadata,
        };
        self.bytes += check::bytes(&new);
        self.append.events.push(new);
    }
}

/// The command that an event's metadata names; an event that names none is taken for a command of its own.
fn command_of(event: &RecordedEvent) -> CommandId {
    #[derive(Deserialize)]
    struct Commanded {
        command_id: Option<Uuid>,
    }
    let commanded: Option<Commanded> = serde_json::from_str(&event.metadata).ok();
    let named = commanded.and_then(|commanded| commanded.command_id);
    CommandId(named.unwrap_or(event.id.0))
}
