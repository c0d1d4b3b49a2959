//! The port: what every event store promises. One contract suite runs against every adapter.

use std::time::Duration;

use async_trait::async_trait;
use events::{
    CommandId, Digest, EventId, Hash, LogIdentity, NewEvent, Partition, Position, RecordedEvent,
    StreamId, Version,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a stream must be for an append to go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// At exactly this version; [`Version::ZERO`] begins the stream.
    Exact(Version),
    /// Whatever it is.
    Any,
    /// Begun already.
    Exists,
}

/// One command's events for one stream: all go in, or none.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// The version it must have.
    pub expected: Expected,
    /// Checked before the version: a command that is in the log already gets its first answer.
    pub command_id: CommandId,
    /// At least one.
    pub events: Vec<NewEvent>,
}

/// Where a command's events stand in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The stream's version at the first of them.
    pub first: Version,
    /// The stream's version at the last of them.
    pub last: Version,
    /// The log position of the last of them.
    pub position: Position,
    /// The hash of the last of them.
    pub hash: Hash,
    /// The command had been appended before: this is its first answer again. After a lost connection nobody can tell a
    /// repetition of the very same events from the append itself; then this is `false`.
    pub repeated: bool,
}

/// Why an append is not in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The stream has another version than expected.
    #[error("the stream is at version {actual}")]
    WrongVersion {
        /// The version it has.
        actual: Version,
    },
    /// The command id is in the log for another stream.
    #[error("the command was carried out on another stream")]
    OtherStream,
    /// Something broke; nothing is known to be appended, and appending the same command again is safe.
    #[error(transparent)]
    Fault(#[from] Error),
}

/// A fault of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store can't be reached, is shutting down or timed out: trying again may help.
    #[error("the event store is unavailable: {0}")]
    Unavailable(String),
    /// The settings or what is stored are wrong: trying again will not help. Says what to do.
    #[error("{0}")]
    Invalid(String),
}

/// Which events a reader wants. Every condition must hold; an empty list is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this partition.
    pub partition: Option<Partition>,
    /// Only these categories.
    pub categories: Vec<String>,
}

/// A run of events in the order of the log.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What matched, at most as many as were asked for.
    pub events: Vec<RecordedEvent>,
    /// Everything up to and including this position has been looked at: where the next page begins. A page without
    /// events whose `through` moved on is not the end: the filter left out what was looked at. It is the log's head, below
    /// the position asked for, if that lies beyond the head.
    pub through: Position,
}

impl Page {
    /// The page of what was found when everything up to `end` was looked at for at most `limit` events.
    pub(crate) fn looked_at(events: Vec<RecordedEvent>, limit: usize, end: Position) -> Self {
        let through = match events.last() {
            Some(last) if events.len() >= limit => last.position,
            _ => end,
        };
        Self { events, through }
    }
}

/// A lease's number: it rises with each new holder, and writes under an old one are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// The lease has another holder now.
#[derive(Debug, thiserror::Error)]
pub enum Fenced {
    /// Another instance leads.
    #[error("another instance holds the lease")]
    Lost,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Error),
}

/// A lease as it stands, for those who only look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Who has it.
    pub holder: Uuid,
    /// Its number.
    pub fence: Fence,
    /// How long it still lasts; negative: it has run out. `None` where the store has no clock to tell.
    pub remaining_ms: Option<i64>,
}

/// How far one partition has been taken in, provably.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// The partition's last event taken in.
    pub position: Position,
    /// The running digest after it.
    pub digest: Digest,
}

/// How far the relay has published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayCheckpoint {
    /// The log it speaks of.
    pub log: LogIdentity,
    /// Everything up to and including this position is confirmed by the broker.
    pub position: Position,
    /// One mark a partition, in their order.
    pub partitions: Vec<Mark>,
}

impl RelayCheckpoint {
    /// Before the first event of a log.
    pub fn start(log: LogIdentity) -> Self {
        Self {
            log,
            position: Position::ZERO,
            partitions: vec![Mark::default(); usize::from(log.partitions)],
        }
    }

    /// As the stores keep it: JSON.
    pub(crate) fn to_stored(&self) -> Result<String, Error> {
        serde_json::to_string(self)
            .map_err(|error| Error::Invalid(format!("the relay's checkpoint: {error}")))
    }

    pub(crate) fn from_stored(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| {
            Error::Invalid(format!(
                "the stored checkpoint of the relay cannot be read: {error}"
            ))
        })
    }
}

/// An append-only log of events in streams.
///
/// Promises, proved by the contract suite: readers see events in the order of their positions and never skip one that
/// commits late; a command id is appended once, for ever, from whichever process; versions have no gaps; when an answer
/// says appended, it is durable.
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Which log this is.
    fn identity(&self) -> LogIdentity;

    /// Positions have no gaps here.
    fn gapless(&self) -> bool;

    /// Appends one command's events. Dropping the future does not undo an append that was handed over.
    async fn append(&self, append: Append) -> Result<Appended, AppendError>;

    /// Appends several commands' events, handed over in this order: what goes in of them goes in one after another. The
    /// answers are in the same order. They are held in memory, so give a bounded number.
    async fn append_all(&self, appends: Vec<Append>) -> Vec<Result<Appended, AppendError>>;

    /// Where a command's events stand, if it was appended to any stream: with that stream.
    async fn find_command(&self, command: CommandId)
    -> Result<Option<(StreamId, Appended)>, Error>;

    /// Up to `limit` events of a stream after a version.
    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, Error>;

    /// The version of a stream's last event; [`Version::ZERO`] for a stream without events.
    async fn stream_version(&self, stream: &StreamId) -> Result<Version, Error>;

    /// The last event of each stream, in the order of the streams' names (by bytes): up to `limit` streams of a category
    /// (`None`: of all) after a name. SQL stores walk an index; elsewhere the whole log is read.
    async fn last_of_streams(
        &self,
        category: Option<&str>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, Error> {
        crate::streams::scan(self, category, after, limit).await
    }

    /// Up to `limit` events of the log after a position, in its order. `through` never passes an event that is not
    /// committed yet. Fewer events than `limit`, or none, are not the end: only `through` says how far was looked.
    async fn read_all(&self, after: Position, filter: &Filter, limit: usize)
    -> Result<Page, Error>;

    /// The event with this id. SQL stores look for it in the database, among the newest events first (an index on ids would
    /// cost every append, and nothing but this asks for them); elsewhere the log is read from its beginning.
    async fn find_event(&self, id: EventId) -> Result<Option<RecordedEvent>, Error> {
        crate::streams::find(self, id).await
    }

    /// The position of the last committed event.
    async fn head(&self) -> Result<Position, Error>;

    /// Returns when the log may hold events after `position`, or after `patience`. Wakes for appends of other processes
    /// too (by notification or polling).
    async fn wait_beyond(&self, position: Position, patience: Duration);

    /// Takes or renews the named lease for `ttl`; `None` while another holder's has not run out.
    async fn acquire_lease(
        &self,
        name: &str,
        holder: Uuid,
        ttl: Duration,
    ) -> Result<Option<Fence>, Error>;

    /// Gives the named lease up, if `holder` has it.
    async fn release_lease(&self, name: &str, holder: Uuid) -> Result<(), Error>;

    /// The named lease, if somebody took it and has not given it up.
    async fn lease(&self, name: &str) -> Result<Option<Held>, Error>;

    /// The relay's checkpoint, if there is one.
    async fn load_relay_checkpoint(&self) -> Result<Option<RelayCheckpoint>, Error>;

    /// Stores the relay's checkpoint, if `fence` is still the newest of the lease `name`.
    async fn save_relay_checkpoint(
        &self,
        name: &str,
        fence: Fence,
        checkpoint: &RelayCheckpoint,
    ) -> Result<(), Fenced>;

    /// Ends background work after what was handed over is done.
    async fn close(&self);
}
