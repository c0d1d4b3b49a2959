//! The one driver of every decider: load (cached state, then the tail), decide, encrypt, append at the expected version;
//! on a conflict start over, a bounded number of times. It refuses to know HTTP.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use event_store::{Append, AppendError, Appended, EventStore, Expected};
use events::{
    Actor, CommandId, DomainEvent, Hash, LogIdentity, Metadata, NewEvent, Personal, RecordedEvent,
    StreamId, Version,
};
use moka::sync::Cache;
use uuid::Uuid;
use vault::{DataKey, KeyError, Keys, Vault};

use crate::{Aggregate, CommandError};

/// How often a command starts over when other processes write the same stream.
const MAX_ATTEMPTS: usize = 20;
/// How many streams' states a cache holds.
const CACHED_STREAMS: u64 = 100_000;
/// How many events are read at a time.
const PAGE: usize = 1_000;
/// How many locks the streams of one aggregate share.
const STRIPES: usize = 4_096;

/// What the executor works with.
#[derive(Clone)]
pub struct Stores {
    /// The log.
    pub log: Arc<dyn EventStore>,
    /// Keys of persons.
    pub vault: Vault,
    /// Keys of the system.
    pub keys: Arc<Keys>,
}

/// Where a command comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who gives it.
    pub actor: Actor,
    /// The session of the token.
    pub session: Option<Uuid>,
    /// The client's address.
    pub address: Option<String>,
    /// When it was accepted.
    pub now: DateTime<Utc>,
    /// The request it belongs to.
    pub correlation_id: Uuid,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// A command on its way to a decider.
pub struct Order<'a, A: Aggregate> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The person whose data key encrypts what is personal in the events.
    pub person: Option<Uuid>,
    /// The command.
    pub command: &'a A::Command,
    /// Its id; `retryable` says that the client chose it and may send it again.
    pub command_id: CommandId,
    /// The client gave an Idempotency-Key.
    pub retryable: bool,
    /// What tells this command from another under the same id: its name and body, without passwords.
    pub content: &'a [u8],
    /// The version the client has seen.
    pub if_match: Option<Version>,
    /// Where it comes from.
    pub origin: &'a Origin,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The stream.
    pub stream: StreamId,
    /// Its version after the command.
    pub version: Version,
    /// Where the command's last event stands; `None` when there was nothing to do.
    pub appended: Option<Appended>,
    /// The types of its events, in order.
    pub event_types: Vec<String>,
}

/// A decider's state at a version.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    /// The state; personal values in it are ciphertext.
    pub state: A,
    /// The version it was folded to.
    pub version: Version,
}

/// Runs one kind of aggregate.
pub struct Executor<A: Aggregate> {
    stores: Stores,
    identity: LogIdentity,
    states: Cache<StreamId, Arc<Loaded<A>>>,
    stripes: Box<[tokio::sync::Mutex<()>]>,
    in_flight: Arc<InFlight>,
}

impl<A: Aggregate> Executor<A> {
    /// An executor with an empty cache. `in_flight` is shared by all executors of a process.
    pub fn new(stores: Stores, in_flight: Arc<InFlight>) -> Self {
        Self {
            identity: stores.log.identity(),
            stores,
            states: Cache::new(CACHED_STREAMS),
            stripes: (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect(),
            in_flight,
        }
    }

    /// The state as it stands in the log now.
    pub async fn load(&self, stream: &StreamId) -> Result<Arc<Loaded<A>>, CommandError> {
        self.catch_up(stream, self.states.get(stream)).await
    }

    /// Carries a command out, once.
    pub async fn execute(&self, order: Order<'_, A>) -> Result<Outcome, CommandError> {
        let _in_flight = self
            .in_flight
            .enter(order.command_id)
            .ok_or(CommandError::InFlight)?;
        let Some(key) = self.data_key(order.person, order.stream).await? else {
            // A stream that never began has no key, and its decider says what that means.
            let loaded = self.load(order.stream).await?;
            return match Self::judge(&order, &loaded) {
                Err(refusal) => Err(refusal),
                Ok(_) => Err(CommandError::fault(KeyError::Missing)),
            };
        };
        let fingerprint = match &key {
            Some(key) => key.fingerprint(&[order.content]),
            None => self.stores.keys.fingerprint(&[order.content]),
        };
        // One command at a time on a stream in this process: conflicts are left to other processes.
        let _turn = self.turn(order.stream).await;
        let mut cached = self.states.get(order.stream);
        for _ in 0..MAX_ATTEMPTS {
            let (loaded, fresh) = match cached.take() {
                Some(loaded) => (loaded, false),
                None => (self.load(order.stream).await?, true),
            };
            let refusal = match Self::judge(&order, &loaded) {
                Ok(events) if !events.is_empty() => {
                    match self
                        .append(&order, &loaded, &events, key.as_deref(), &fingerprint)
                        .await?
                    {
                        Some(outcome) => return Ok(outcome),
                        // Another process moved on.
                        None => continue,
                    }
                }
                answer => answer.err(),
            };
            // An answer that appends nothing is given only of what the log says now.
            if fresh {
                return self
                    .answer_without_events(&order, &loaded, refusal, &fingerprint)
                    .await;
            }
        }
        Err(CommandError::Conflict)
    }

    /// The first answer of a command that was carried out before, if it was.
    pub async fn first_answer(
        &self,
        command_id: CommandId,
        fingerprint: &str,
    ) -> Result<Option<Outcome>, CommandError> {
        match self.stores.log.find_command(command_id).await? {
            Some((stream, appended)) => self
                .recall(stream, appended, command_id, fingerprint)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    fn judge(order: &Order<'_, A>, loaded: &Loaded<A>) -> Result<Vec<A::Event>, CommandError> {
        if let Some(seen) = order.if_match
            && seen != loaded.version
        {
            return Err(CommandError::Stale {
                seen,
                actual: loaded.version,
            });
        }
        loaded
            .state
            .decide(order.command)
            .map_err(|refusal| CommandError::Refused {
                code: A::code(&refusal),
                detail: refusal.to_string(),
            })
    }

    async fn answer_without_events(
        &self,
        order: &Order<'_, A>,
        loaded: &Loaded<A>,
        refusal: Option<CommandError>,
        fingerprint: &str,
    ) -> Result<Outcome, CommandError> {
        if order.retryable
            && let Some(outcome) = self.first_answer(order.command_id, fingerprint).await?
        {
            return Ok(outcome);
        }
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(Outcome {
                stream: order.stream.clone(),
                version: loaded.version,
                appended: None,
                event_types: Vec::new(),
            }),
        }
    }

    async fn append(
        &self,
        order: &Order<'_, A>,
        loaded: &Loaded<A>,
        events: &[A::Event],
        key: Option<&DataKey>,
        fingerprint: &str,
    ) -> Result<Option<Outcome>, CommandError> {
        let events = seal(order, events, key, fingerprint)?;
        let append = Append {
            stream: order.stream.clone(),
            expected: Expected::Exact(loaded.version),
            command_id: order.command_id,
            events: events.clone(),
        };
        match self.stores.log.append(append).await {
            Ok(appended) if appended.repeated => {
                self.states.invalidate(order.stream);
                self.recall(
                    order.stream.clone(),
                    appended,
                    order.command_id,
                    fingerprint,
                )
                .await
                .map(Some)
            }
            Ok(appended) => {
                self.remember(order.stream, loaded, &events, &appended)?;
                Ok(Some(Outcome {
                    stream: order.stream.clone(),
                    version: appended.last,
                    appended: Some(appended),
                    event_types: events.into_iter().map(|event| event.type_name).collect(),
                }))
            }
            Err(AppendError::WrongVersion { .. }) => {
                self.states.invalidate(order.stream);
                Ok(None)
            }
            Err(AppendError::OtherStream) => Err(CommandError::KeyReused),
            Err(AppendError::Fault(fault)) => Err(fault.into()),
        }
    }

    /// Folds what was stored, not what was decided: what the cache holds is what a reader of the log would get.
    fn remember(
        &self,
        stream: &StreamId,
        loaded: &Loaded<A>,
        events: &[NewEvent],
        appended: &Appended,
    ) -> Result<(), CommandError> {
        let mut state = loaded.state.clone();
        for (event, version) in events.iter().zip(appended.first.get()..) {
            let recorded = RecordedEvent {
                position: appended.position,
                stream: stream.clone(),
                version: Version::new(version),
                id: event.id,
                type_name: event.type_name.clone(),
                schema_version: event.schema_version,
                data: event.data.clone(),
                metadata: String::new(),
                hash: Hash::ZERO,
            };
            state = state.evolve(&A::Event::decode(&recorded).map_err(CommandError::fault)?);
        }
        self.states.insert(
            stream.clone(),
            Arc::new(Loaded {
                state,
                version: appended.last,
            }),
        );
        Ok(())
    }

    async fn recall(
        &self,
        stream: StreamId,
        appended: Appended,
        command_id: CommandId,
        fingerprint: &str,
    ) -> Result<Outcome, CommandError> {
        let count = (appended.last.get() - appended.first.get() + 1) as usize;
        let before = Version::new(appended.first.get() - 1);
        let events = self.stores.log.read_stream(&stream, before, count).await?;
        let mut event_types = Vec::with_capacity(events.len());
        for event in events {
            let metadata = event.parse_metadata().map_err(CommandError::fault)?;
            if metadata.command_id != command_id
                || metadata.fingerprint.as_deref() != Some(fingerprint)
            {
                return Err(CommandError::KeyReused);
            }
            event_types.push(event.type_name);
        }
        Ok(Outcome {
            stream,
            version: appended.last,
            appended: Some(appended),
            event_types,
        })
    }

    async fn catch_up(
        &self,
        stream: &StreamId,
        from: Option<Arc<Loaded<A>>>,
    ) -> Result<Arc<Loaded<A>>, CommandError> {
        let known = from.unwrap_or_else(|| {
            Arc::new(Loaded {
                state: A::default(),
                version: Version::ZERO,
            })
        });
        let mut events = self
            .stores
            .log
            .read_stream(stream, known.version, PAGE)
            .await?;
        if events.is_empty() {
            return Ok(known);
        }
        let Loaded {
            mut state,
            mut version,
        } = (*known).clone();
        while !events.is_empty() {
            let last_page = events.len() < PAGE;
            for event in &events {
                state = state.evolve(&A::Event::decode(event).map_err(CommandError::fault)?);
                version = event.version;
            }
            if last_page {
                break;
            }
            events = self.stores.log.read_stream(stream, version, PAGE).await?;
        }
        let loaded = Arc::new(Loaded { state, version });
        self.states.insert(stream.clone(), Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The key of the person a stream belongs to: `Some(None)` where there is no person, `None` where the stream has not
    /// begun.
    async fn data_key(
        &self,
        person: Option<Uuid>,
        stream: &StreamId,
    ) -> Result<Option<Option<Arc<DataKey>>>, CommandError> {
        let Some(person) = person else {
            return Ok(Some(None));
        };
        match self.stores.vault.data_key(person).await {
            Ok(key) => Ok(Some(Some(key))),
            Err(KeyError::Missing) if self.load(stream).await?.version == Version::ZERO => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn turn(&self, stream: &StreamId) -> tokio::sync::MutexGuard<'_, ()> {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(stream);
        self.stripes[hash as usize % STRIPES].lock().await
    }

    /// Which log the executor appends to.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// What the executor works with.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }
}

/// Encodes events and encrypts what is personal in them.
fn seal<A: Aggregate>(
    order: &Order<'_, A>,
    events: &[A::Event],
    key: Option<&DataKey>,
    fingerprint: &str,
) -> Result<Vec<NewEvent>, CommandError> {
    let origin = order.origin;
    let mut sealed = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let id = order.command_id.event_id(index);
        let (type_name, mut data) = event.encode().map_err(CommandError::fault)?;
        let mut address = None;
        if let Some(key) = key {
            key.seal_event(order.stream, id, &mut data)
                .map_err(CommandError::fault)?;
            if let Some(text) = &origin.address {
                let text = serde_json::Value::String(text.clone());
                address = Some(Personal::Sealed(key.seal_value(
                    order.stream,
                    id,
                    "metadata/address",
                    &text,
                )));
            }
        } else if holds_personal(&data) {
            return Err(CommandError::fault(format!(
                "{type_name} holds personal fields, but {} names no person for {}",
                std::any::type_name::<A>(),
                order.stream
            )));
        }
        let metadata = Metadata {
            command_id: order.command_id,
            correlation_id: origin.correlation_id,
            causation_id: order.command_id.0,
            actor: origin.actor.clone(),
            session: origin.session,
            address,
            recorded_at: origin.now,
            fingerprint: Some(fingerprint.to_owned()),
            traceparent: origin.traceparent.clone(),
        };
        sealed.push(NewEvent {
            id,
            schema_version: A::Event::schema_version(&type_name),
            type_name,
            data: data.to_string(),
            metadata: serde_json::to_string(&metadata).map_err(CommandError::fault)?,
        });
    }
    Ok(sealed)
}

fn holds_personal(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(map) => {
            map.contains_key(events::PERSONAL_MARKER) || map.values().any(holds_personal)
        }
        serde_json::Value::Array(list) => list.iter().any(holds_personal),
        _ => false,
    }
}

/// The commands this process is carrying out right now.
#[derive(Debug, Default)]
pub struct InFlight(Mutex<HashSet<CommandId>>);

impl InFlight {
    /// Enters a command, unless it is being carried out already.
    pub fn enter(self: &Arc<Self>, command: CommandId) -> Option<InFlightGuard> {
        let entered = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(command);
        entered.then(|| InFlightGuard(Arc::clone(self), command))
    }
}

/// Leaves when dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<InFlight>, CommandId);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.1);
    }
}
