//! The one driver of every decider: load (cached state, then the tail), decide, encrypt, append at the expected version;
//! on a conflict start over, a bounded number of times. It refuses to know HTTP.

use std::sync::Arc;

use event_store::{Append, AppendError, Appended, EventStore, Expected};
use events::{CommandId, DomainEvent, StreamId, Version};
use instruments::trace::{Context, Kind, Span};
use uuid::Uuid;
use vault::{DataKey, KeyError, Keys, Vault};

use crate::in_flight::InFlight;
use crate::metrics;
use crate::seal::seal;
use crate::states::States;
use crate::{Aggregate, CommandError, Decider, Order, Outcome};

/// How often a command starts over when other processes write the same stream.
const MAX_ATTEMPTS: usize = 20;
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

/// A decider's state at a version.
#[derive(Debug, Clone, Default)]
pub struct Loaded<A> {
    /// The state; personal values in it are ciphertext.
    pub state: A,
    /// The version it was folded to.
    pub version: Version,
}

impl<A: Decider<Event: DomainEvent>> Loaded<A> {
    /// With what the log holds of the stream after this version.
    pub(crate) async fn with_tail(
        self,
        log: &dyn EventStore,
        stream: &StreamId,
    ) -> Result<Self, CommandError> {
        let Self {
            mut state,
            mut version,
        } = self;
        loop {
            let events = log.read_stream(stream, version, PAGE).await?;
            for event in &events {
                state = state.evolve(&A::Event::decode(event).map_err(CommandError::fault)?);
                version = event.version;
            }
            if events.len() < PAGE {
                return Ok(Self { state, version });
            }
        }
    }
}

/// Runs one kind of aggregate.
pub struct Executor<A: Aggregate> {
    stores: Stores,
    states: States<Loaded<A>>,
    stripes: Box<[tokio::sync::Mutex<()>]>,
    in_flight: Arc<InFlight>,
}

impl<A: Aggregate> Executor<A> {
    /// An executor with an empty cache. `in_flight` is shared by all executors of a process.
    pub fn new(stores: Stores, in_flight: Arc<InFlight>) -> Self {
        Self {
            stores,
            states: States::new(),
            stripes: (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect(),
            in_flight,
        }
    }

    /// The state as it stands in the log now: what the cache has, and the tail of the stream after it.
    pub async fn load(&self, stream: &StreamId) -> Result<Arc<Loaded<A>>, CommandError> {
        let known = self.states.get(stream).unwrap_or_default();
        let loaded = (*known)
            .clone()
            .with_tail(&*self.stores.log, stream)
            .await?;
        if loaded.version == known.version {
            return Ok(known);
        }
        let loaded = Arc::new(loaded);
        self.states.insert(stream.clone(), Arc::clone(&loaded));
        Ok(loaded)
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
                    let appended = self
                        .append(&order, &loaded, &events, key.as_deref(), &fingerprint)
                        .await?;
                    if let Some(outcome) = appended {
                        return Ok(outcome);
                    }
                    // Another process moved on.
                    metrics::CONFLICTS.add(1);
                    continue;
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
    async fn first_answer(
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

    /// The first answer to a command that was carried out before, if it was.
    pub(crate) async fn recall_first(
        &self,
        person: Option<Uuid>,
        command_id: CommandId,
        content: &[u8],
    ) -> Result<Option<Outcome>, CommandError> {
        self.recall_any(command_id, content, |_| person).await
    }

    /// The same, where only the stream that is found tells the person.
    pub(crate) async fn recall_any(
        &self,
        command_id: CommandId,
        content: &[u8],
        person: impl Fn(&StreamId) -> Option<Uuid>,
    ) -> Result<Option<Outcome>, CommandError> {
        let Some((stream, appended)) = self.stores.log.find_command(command_id).await? else {
            return Ok(None);
        };
        let fingerprint = match person(&stream) {
            Some(person) => self
                .stores
                .vault
                .data_key(person)
                .await?
                .fingerprint(&[content]),
            None => self.stores.keys.fingerprint(&[content]),
        };
        self.recall(stream, appended, command_id, &fingerprint)
            .await
            .map(Some)
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
            .map_err(CommandError::refused::<A>)
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
        let event_types = events.iter().map(|event| event.type_name.clone()).collect();
        // What was encoded is folded, not what was decided: the cache holds what a reader of the log would get.
        let mut state = loaded.state.clone();
        for event in &events {
            let event = A::Event::parse(&event.type_name, event.schema_version, &event.data)
                .map_err(CommandError::fault)?;
            state = state.evolve(&event);
        }
        let append = Append {
            stream: order.stream.clone(),
            expected: Expected::Exact(loaded.version),
            command_id: order.command_id,
            events,
        };
        let span = Context::collected(order.origin.traceparent.as_deref()).map(|parent| {
            Span::under(&parent, format!("append {}", A::CATEGORY), Kind::Internal)
                .with("showcaller.events", append.events.len() as u64)
        });
        let appended = self.stores.log.append(append).await;
        drop(span);
        match appended {
            Ok(appended) if appended.repeated => self
                .recall(
                    order.stream.clone(),
                    appended,
                    order.command_id,
                    fingerprint,
                )
                .await
                .map(Some),
            Ok(appended) => {
                let version = appended.last;
                self.states
                    .insert(order.stream.clone(), Arc::new(Loaded { state, version }));
                Ok(Some(Outcome {
                    stream: order.stream.clone(),
                    version,
                    appended: Some(appended),
                    event_types,
                }))
            }
            Err(AppendError::WrongVersion { actual }) => {
                // What is cached is good as far as it goes, but for a log that was set back behind it.
                if actual < loaded.version {
                    self.states.forget(order.stream);
                }
                Ok(None)
            }
            Err(AppendError::OtherStream) => Err(CommandError::KeyReused),
            Err(AppendError::Fault(fault)) => Err(fault.into()),
        }
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

    /// What the executor works with.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }
}
