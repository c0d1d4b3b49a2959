//! How the projector stands, for `/health/ready`, operators and tests.

use std::sync::{Mutex, PoisonError};

use events::Position;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::heads::Heads;

/// How every read model stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The read models, in the order they were given; empty until all are prepared.
    pub read_models: Vec<ReadModelStatus>,
    /// For each partition: its queue is subscribed to.
    pub subscribed: Vec<bool>,
    /// For each partition: its messages come to this process, and not to another one of its group. Stands until they come to
    /// another subscription, also while the broker is down.
    pub consuming: Vec<bool>,
}

/// How one read model stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadModelStatus {
    /// Its name.
    pub name: String,
    /// The number of the generation that is fed.
    pub generation: u32,
    /// That generation is the one readers of its definition see.
    pub live: bool,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionStatus>,
}

/// How one partition of a read model stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The last event that was committed, as far as this process knows.
    pub position: Position,
    /// The last event that is known of, from messages, heartbeats or the log; never before `position`.
    pub head: Position,
    /// When the first event was heard of that is not committed, to a tenth of a second; `None` when none is.
    pub behind_since: Option<Instant>,
    /// Events committed since this process began, those that change no row included.
    pub events: u64,
    /// How many of its streams are parked.
    pub parked: usize,
    /// What it is at.
    pub state: State,
}

/// What a partition of a read model is at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Reads the log in big pages.
    #[default]
    CatchingUp,
    /// Takes what its queue brings.
    Following,
    /// Something broke, and is being tried again.
    Retrying(String),
    /// Stopped, until an operator has done what this says.
    Stopped(String),
}

impl Status {
    /// Every read model is live, and every partition of it follows its queue.
    pub fn is_following(&self) -> bool {
        !self.read_models.is_empty()
            && self.read_models.iter().all(|model| {
                model.live && model.partitions.iter().all(|p| p.state == State::Following)
            })
    }

    /// What stands still, and why: `read model, partition, reason`.
    pub fn stopped(&self) -> impl Iterator<Item = (&str, usize, &str)> {
        self.read_models.iter().flat_map(|model| {
            let partitions = model.partitions.iter().enumerate();
            partitions.filter_map(|(partition, status)| match &status.state {
                State::Stopped(reason) => Some((model.name.as_str(), partition, reason.as_str())),
                _ => None,
            })
        })
    }
}

/// One partition's place in the status, as long as that speaks of its generation.
#[derive(Debug)]
pub(crate) struct Board {
    status: watch::Sender<Status>,
    model: usize,
    generation: u32,
    partition: usize,
    latest: Mutex<PartitionStatus>,
    heads: Mutex<Heads>,
}

impl Board {
    pub(crate) fn new(
        status: watch::Sender<Status>,
        model: usize,
        generation: u32,
        partition: usize,
    ) -> Self {
        Self {
            status,
            model,
            generation,
            partition,
            latest: Mutex::default(),
            heads: Mutex::default(),
        }
    }

    /// What was written last.
    pub(crate) fn latest(&self) -> PartitionStatus {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    /// The last event that was committed.
    pub(crate) fn position(&self) -> Position {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.position
    }

    /// There is an event at this position.
    pub(crate) fn hear(&self, position: Position) {
        let heads = self.look(|heads| heads.hear(position, Instant::now()));
        self.write(|status| (status.head, status.behind_since) = heads);
    }

    /// Everything up to this position is committed; so many events more than before.
    pub(crate) fn reach(&self, position: Position, events: u64) {
        let heads = self.look(|heads| heads.reach(position));
        self.write(|status| {
            (status.head, status.behind_since) = heads;
            status.position = position;
            status.events += events;
        });
    }

    fn look(&self, work: impl FnOnce(&mut Heads)) -> (Position, Option<Instant>) {
        // Whole after every statement, so a panic elsewhere spoils nothing.
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut heads);
        (heads.head(), heads.behind_since())
    }

    pub(crate) fn write(&self, change: impl FnOnce(&mut PartitionStatus)) {
        self.status.send_if_modified(|status| {
            // Within the status, so that a status which begins to speak of this generation misses nothing.
            let now = {
                let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
                change(&mut latest);
                latest.clone()
            };
            let model = status.read_models.get_mut(self.model);
            let model = model.filter(|model| model.generation == self.generation);
            let place = model.and_then(|model| model.partitions.get_mut(self.partition));
            let changes = place.as_ref().is_some_and(|place| **place != now);
            if let Some(place) = place {
                *place = now;
            }
            changes
        });
    }
}
