//! The port: what a database must do to hold read models.

use std::time::Duration;

use async_trait::async_trait;
use events::{Digest, LogIdentity, Partition, Position, StreamId};

use crate::{
    ChangeFeed, Changed, Due, Page, Place, Query, ReadModel, Rebuild, Row, RowKey, Search, Value,
    Waiting, checks,
};

/// A table of a read model: the definition it was built for, and which build of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Generation {
    /// The read model's name.
    pub model: String,
    /// Hex, from the definition's columns, key and revision.
    pub definition_hash: String,
    /// Counts the builds of the read model.
    pub number: u32,
    /// The table's name.
    pub table: String,
}

/// How far a generation has taken in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The last event taken in.
    pub position: Position,
    /// The partition's running digest after it.
    pub digest: Digest,
    /// How often rows behind it were amended, by streams that were parked and tried again.
    pub amended: u64,
}

/// A stream whose events wait behind one that could not be projected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The stream.
    pub stream: StreamId,
    /// Its partition.
    pub partition: Partition,
    /// The first event that waits.
    pub position: Position,
    /// Why, for operators.
    pub error: String,
}

/// What a batch does to a table: the net states of the rows it touched.
#[derive(Debug, Clone, Default)]
pub struct RowWrites {
    /// Rows to insert or replace.
    pub upserts: Vec<(RowKey, Row)>,
    /// Rows to remove.
    pub deletes: Vec<RowKey>,
    /// Streams to park from now on.
    pub park: Vec<Parked>,
    /// How many more events wait in parked streams.
    pub wait: Vec<(StreamId, u64)>,
    /// Parked streams that were tried again: `None` waits no more, the others wait from another place on, or still.
    pub retried: Vec<(StreamId, Option<Parked>)>,
    /// Events that are left out for good, since they cannot be projected and an operator discarded them.
    pub discarded: Vec<(StreamId, Position)>,
}

impl RowWrites {
    /// Nothing beside rows is written.
    pub(crate) fn is_rows_alone(&self) -> bool {
        self.park.is_empty()
            && self.wait.is_empty()
            && self.retried.is_empty()
            && self.discarded.is_empty()
    }
}

/// What one read model has to commit of one partition.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// The read model.
    pub model: &'a ReadModel,
    /// Its table.
    pub generation: &'a Generation,
    /// The partition.
    pub partition: Partition,
    /// The checkpoint that was loaded.
    pub from: Checkpoint,
    /// The checkpoint to move to.
    pub to: Checkpoint,
    /// What is written with it.
    pub writes: &'a RowWrites,
}

/// How a read model stands.
#[derive(Debug, Clone)]
pub struct Status {
    /// The generation that readers of the definition see.
    pub generation: Generation,
    /// The log its checkpoints speak of.
    pub log: LogIdentity,
    /// A checkpoint for each partition, in order.
    pub checkpoints: Vec<Checkpoint>,
    /// The streams that wait.
    pub parked: Vec<Parked>,
}

/// A fault of the store of read models.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be reached or timed out: trying again may help.
    #[error("the read model database is unavailable: {0}")]
    Unavailable(String),
    /// The settings or what is stored are wrong: trying again will not help. Says what to do.
    #[error("{0}")]
    Invalid(String),
    /// A query took longer than it may: it reads too much, or lacks an index. Only [`ReadStore::list`] and what stands on
    /// it give this.
    #[error("the query took longer than {0:?}")]
    TooSlow(Duration),
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The checkpoint is not what was loaded: another worker has moved on. Load anew.
    #[error("another worker has moved the checkpoint")]
    Fenced,
    /// The database refuses the rows themselves (too long, out of range …): deterministic.
    #[error("the database refuses the rows: {0}")]
    Refused(String),
    /// Something broke; it may help to try again after loading the checkpoint anew.
    #[error(transparent)]
    Fault(#[from] Error),
}

/// A database that projections write to: what the projector and `verify` need. Whatever only copies read models for
/// others to read (a mirror) implements this and no more.
#[async_trait]
pub trait ProjectionStore: Send + Sync + 'static {
    /// Makes sure that a generation for this definition exists, with its table, checkpoints at zero and (when no other is
    /// live) made live; returns it. Idempotent, safe from several processes at once.
    async fn prepare(&self, model: &ReadModel, log: LogIdentity) -> Result<Generation, Error>;

    /// The live generation of a read model.
    async fn live(&self, model: &str) -> Result<Option<Generation>, Error>;

    /// The checkpoints of a generation, one a partition, with the log they speak of.
    async fn checkpoints(
        &self,
        generation: &Generation,
    ) -> Result<(LogIdentity, Vec<Checkpoint>), Error>;

    /// Makes this generation the one that readers of its definition see, if it is at or past the one before it in every
    /// partition; and live, unless a newer definition is. Where there is none of its definition, the live one is the one
    /// before it.
    async fn swap(&self, generation: &Generation) -> Result<bool, Error>;

    /// The rows with these keys in one partition; keys without a row are left out.
    async fn load_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error>;

    /// Up to `limit` rows of one partition that a change looks for, in no order.
    async fn find_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        search: &Search,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error>;

    /// Up to `limit` rows of one partition that are due, the oldest first.
    async fn due_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        due: &Due,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error>;

    /// One transaction: moves the checkpoint if it is still what was loaded (else [`CommitError::Fenced`], nothing written),
    /// then writes the rows with as few statements as there are tables. A database that serves queries notes which rows
    /// changed in its journal ([`ReadStore::changes_since`]).
    async fn commit(&self, commit: Commit<'_>) -> Result<(), CommitError>;

    /// Commits of several read models; the answers are in their order, and each is that of a commit by itself. One
    /// transaction for all of them, where the database gains by it.
    async fn commit_together(&self, commits: &[Commit<'_>]) -> Vec<Result<(), CommitError>> {
        let mut answers = Vec::with_capacity(commits.len());
        for commit in commits {
            answers.push(self.commit(*commit).await);
        }
        answers
    }

    /// The events of a generation that were left out for good.
    async fn discarded(
        &self,
        _generation: &Generation,
    ) -> Result<Vec<(StreamId, Position)>, Error> {
        Ok(Vec::new())
    }

    /// The parked streams of a generation.
    async fn parked(&self, generation: &Generation) -> Result<Vec<Parked>, Error>;

    /// Up to `limit` stored rows of one partition with keys after `after`, in the order of the key, for comparing. The
    /// checkpoint is of the same snapshot.
    async fn scan(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error>;

    /// Lets go of what the journal need not hold any longer: what is older than 24 h, or too much of one partition. To be
    /// called every few minutes. A database without a journal has nothing to do.
    async fn prune_changes(&self, _generation: &Generation) -> Result<(), Error> {
        Ok(())
    }

    /// Can be reached now; for `/health/ready`.
    async fn check(&self) -> Result<(), Error>;
}

/// A database that the query API serves from: rows as readers see them, and how fresh they are.
///
/// Readers see the live generation where it was built for their definition. Otherwise, as while an older and a newer
/// version run side by side, they see the one of their own definition for as long as somebody feeds it, and after that the
/// live one if it has the columns.
#[async_trait]
pub trait ReadStore: ProjectionStore {
    /// The row with this key, as readers see it (sums summed): the key columns first, then the others, then `_position`
    /// and `_updated_at`.
    async fn get(&self, model: &ReadModel, key: &RowKey) -> Result<Option<Vec<Value>>, Error> {
        checks::key(model, key)?;
        let query = Query::new(model, model.with_key(key), 1);
        Ok(self.list(model, &query).await?.rows.pop())
    }

    /// Rows as readers see them: one statement, so one snapshot. [`Error::TooSlow`] where the database worked on it for
    /// longer than [`Options::query_timeout`](crate::Options::query_timeout).
    async fn list(&self, model: &ReadModel, query: &Query) -> Result<Page, Error>;

    /// Which rows changed from a place of the table until now, in one snapshot. `None`: the journal does not lead here
    /// from there, since readers see another table, the place is too long ago, or too much has changed.
    async fn changes_since(
        &self,
        model: &ReadModel,
        place: &Place,
    ) -> Result<Option<Changed>, Error>;

    /// How what readers see stands, in one snapshot.
    async fn status(&self, model: &ReadModel) -> Result<Option<Status>, Error>;

    /// A table of this definition has caught up with the log, and is fed: `Ok` says so, the error what is missing.
    async fn is_built(&self, model: &ReadModel) -> Result<(), Error>;

    /// Builds that were asked for, or that a changed definition needed; the latest first, at most 200.
    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Error>;

    /// The parked streams of what readers see, in the order of read models, partitions and positions; at most `limit`.
    async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>, Error>;

    /// Returns when checkpoints may have moved, or after `patience`. It may return early, and it may miss a change that
    /// comes between a look at the checkpoints and this call, so it never waits for more than a fraction of a second;
    /// [`ReadStore::changes`] misses none.
    async fn wait_for_change(&self, patience: std::time::Duration);

    /// What tells of changes: take it first, look at the checkpoints, then wait on it.
    fn changes(&self) -> ChangeFeed;
}
