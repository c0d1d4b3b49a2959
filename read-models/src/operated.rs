//! What operators may ask of a database of read models, by way of the projector: other builds beside the live one, going
//! back, dropping, trying parked streams again. It refuses to know how the wish came, and to do it twice.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::{LogIdentity, Partition, Position, StreamId, Version};

use crate::{Checkpoint, Error, Generation, Parked, ReadModel, ReadStore, Row, RowKey};

/// A generation, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The table.
    pub generation: Generation,
    /// SQL dashboards, and readers of this definition, see it.
    pub live: bool,
    /// Readers of this definition see it.
    pub serves: bool,
    /// Readers saw it before, and it is kept for going back to it.
    pub kept: bool,
    /// The version of the operators' stream whose event asked for it; zero where its definition did.
    pub asked: Version,
    /// It is to be compared, row by row, with the one that serves before it takes its place.
    pub compare: bool,
    /// It was compared and is different: kept to be looked at, and neither fed nor swapped in.
    pub refused: bool,
}

/// What an operator wants of one read model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Another build of the same definition.
    Build {
        /// Compare it before the swap.
        compare: bool,
    },
    /// No build that was asked for, after all.
    Cancel,
    /// The build that was live before this one.
    RollBack,
    /// No builds but the one that is live.
    DropKept,
    /// Parked streams are to be tried again.
    Retry {
        /// This stream alone.
        stream: Option<StreamId>,
        /// Those alone whose error holds this text.
        cause: Option<String>,
        /// Who asked.
        by: String,
    },
}

/// What became of a wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// It is done, now or before.
    Done,
    /// It is for a process with another definition of the read model.
    NotMine,
    /// What it takes is not there yet: try again.
    NotYet,
}

/// What a build is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Asked for, and not begun.
    Waiting,
    /// Reads the log.
    Building,
    /// Is compared with the one that serves.
    Comparing,
    /// Has taken its place.
    Live,
    /// Is different from the one that serves, which stays.
    Different,
    /// Was cancelled, or another was asked for before it was done.
    Cancelled,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Building,
        Self::Comparing,
        Self::Live,
        Self::Different,
        Self::Cancelled,
    ];

    /// Its name, as it is stored and told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Building => "building",
            Self::Comparing => "comparing",
            Self::Live => "live",
            Self::Different => "different",
            Self::Cancelled => "cancelled",
        }
    }

    /// The phase of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Nothing follows any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Live | Self::Different | Self::Cancelled)
    }
}

/// How far a build is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What it is at.
    pub phase: Phase,
    /// Events read by the process that builds it.
    pub events: u64,
    /// How far it has come in the log.
    pub position: Position,
    /// How far the log goes.
    pub head: Position,
    /// Events a second.
    pub rate: u64,
    /// Seconds until it is at the head, if that can be told.
    pub left_s: Option<u64>,
    /// What there is to say: differences that were found.
    pub detail: Option<String>,
}

impl Progress {
    /// Nothing is known but the phase.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase,
            events: 0,
            position: Position::ZERO,
            head: Position::ZERO,
            rate: 0,
            left_s: None,
            detail: None,
        }
    }
}

/// A build that was asked for, or that a changed definition needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    /// The read model.
    pub model: String,
    /// The number of its generation.
    pub generation: u32,
    /// The version of the operators' stream whose event asked for it; zero where its definition did.
    pub asked: Version,
    /// It is compared before it takes the other's place.
    pub compare: bool,
    /// How far it is.
    pub progress: Progress,
    /// When it was asked for.
    pub began_at: DateTime<Utc>,
    /// When this was written.
    pub updated_at: DateTime<Utc>,
}

/// A parked stream, with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The read model.
    pub model: String,
    /// The number of the generation that it waits for.
    pub generation: u32,
    /// Where, and why.
    pub parked: Parked,
    /// How many events wait, as far as the log was taken in.
    pub events: u64,
    /// Since when.
    pub parked_at: DateTime<Utc>,
    /// How often it was tried again.
    pub retries: u32,
    /// When last.
    pub retried_at: Option<DateTime<Utc>>,
    /// Who asked for that.
    pub retried_by: Option<String>,
    /// It is about to be tried again.
    pub retrying: bool,
}

/// The rows of two generations in one snapshot, each with its checkpoint.
pub type Pair = [(Checkpoint, Vec<(RowKey, Row)>); 2];

/// A database whose read models are operated: what the projector does for operators.
#[async_trait]
pub trait OperatedStore: ReadStore {
    /// The generations of a read model over this log, of any definition, in the order of their numbers.
    async fn builds(&self, model: &str, log: LogIdentity) -> Result<Vec<Build>, Error>;

    /// Up to which version of the operators' stream everything is done. A read model that is new here begins with
    /// `first`: what was wished before it was made speaks of tables that are gone.
    async fn acted(&self, model: &str, log: LogIdentity, first: Version) -> Result<Version, Error>;

    /// Does what the event at `version` of the operators' stream asks for, once, whoever else tries; in one transaction.
    async fn act(
        &self,
        model: &ReadModel,
        log: LogIdentity,
        version: Version,
        wish: &Wish,
    ) -> Result<Acted, Error>;

    /// The parked streams of a generation that are to be tried again.
    async fn to_retry(&self, generation: &Generation) -> Result<Vec<Parked>, Error>;

    /// Writes down how far a build is, for other processes. One that is [`Phase::Different`] is refused from then on.
    async fn note(&self, generation: &Generation, progress: &Progress) -> Result<(), Error>;

    /// Up to `limit` rows of one partition of two generations of one definition, with keys after `after`, in one snapshot.
    async fn scan_pair(
        &self,
        model: &ReadModel,
        pair: [&Generation; 2],
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<Pair, Error>;
}
