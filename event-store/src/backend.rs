//! What the writer needs of a database: to commit a batch at once. It refuses to know who waits for an answer.

use async_trait::async_trait;
use events::{Partition, Position, StreamId, Version};
use uuid::Uuid;

use crate::Error;
use crate::tails::Tail;

/// A stream that a batch touches.
pub(crate) struct Claim<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The tail that the batch's rows were chained to; `None` if there are none: then its tail is only reported.
    pub tail: Option<Tail>,
}

/// One event of a batch.
pub(crate) struct Row<'a> {
    /// Index of its stream among the batch's.
    pub claim: usize,
    /// The stream's partition.
    pub partition: Partition,
    /// Its version.
    pub version: Version,
    /// The event.
    pub event: &'a events::NewEvent,
    /// Its hash.
    pub hash: events::Hash,
    /// On an append's first event: the command's id, and how many events it appends.
    pub command: Option<(Uuid, usize)>,
}

/// Appends that go in together, in this order.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    /// Every command that must not be in the log yet, with the index of its stream.
    pub commands: Vec<(Uuid, usize)>,
    /// Every stream, once.
    pub claims: Vec<Claim<'a>>,
    /// Every event that goes in if its stream's claim holds.
    pub rows: Vec<Row<'a>>,
    /// Every tail claimed was read or written by this backend since its last failure, and every stream has one: then
    /// unique indexes are enough to find out whether all of it can go in.
    pub optimistic: bool,
}

/// A command that is in the log already.
pub(crate) struct Known {
    /// Its index among the batch's commands.
    pub command: usize,
    /// Where it was carried out.
    pub stream: StreamId,
    /// The version of its first event.
    pub first: Version,
    /// Where its last event left the stream.
    pub last: Tail,
    /// The position of its last event.
    pub position: Position,
}

/// Which appends went in, and where.
pub(crate) enum Landed {
    /// Those of all streams that have not moved, together: their events have the positions after this one, in their
    /// order.
    After(Position),
    /// By command of the batch: the position of its last event, if it went in.
    Each(Vec<Option<Position>>),
}

/// What became of a batch.
pub(crate) struct Outcome {
    /// Which of its appends went in.
    pub landed: Landed,
    /// The commands found in the log.
    pub known: Vec<Known>,
    /// The streams of which some rows did not go in, because the tail was another or because one of their commands was in
    /// the log: index and real tail.
    pub moved: Vec<(usize, Tail)>,
    /// The commands whose events the store will never take: index and why.
    pub refused: Vec<(usize, String)>,
}

/// Why there is no outcome.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The batch may or may not be in the log. Committing it again is safe: it waits for the first try to end, then
    /// finds its commands.
    Unknown(String),
    /// The database refuses something in the batch; nothing of it is in the log.
    Refused(String),
    /// Nothing can be appended through this store any more.
    Fatal(String),
}

impl Failure {
    /// The error for a caller who is told of it.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Unknown(why) => Error::Unavailable(why),
            Self::Refused(why) | Self::Fatal(why) => Error::Invalid(why),
        }
    }
}

/// A database that commits batches: one connection, made anew after a failure.
#[async_trait]
pub(crate) trait Backend: Send + 'static {
    /// Where streams end, in the order asked for. Read without a lock: only a guess by the time it arrives.
    async fn tails(&mut self, streams: &[StreamId]) -> Result<Vec<Tail>, Failure>;

    /// Commits what can go in of a batch, durably.
    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Outcome, Failure>;
}
