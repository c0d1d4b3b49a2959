//! What one partition of a read model has taken in beyond its stored checkpoint: net rows, waiting for their commit.
//!
//! Refuses: to live on after a failed commit. Its owner drops it and loads anew, so memory never leads the database.

mod rows;

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use events::{Partition, Position, RecordedEvent, StreamId};
use read_models::{
    Changes, Checkpoint, Commit, CommitError, Error, EventPlace, Generation, Parked,
    ProjectionStore, ReadModel, RowKey, RowWrites, Rows, Search, fold,
};

use crate::cache::Cache;
use crate::options::{EVENTS_A_COMMIT, REASON_CHARS, ROWS_A_COMMIT};
use crate::wishes::Discards;

/// The table that is written to.
pub(crate) struct Table<'a> {
    pub(crate) store: &'a dyn ProjectionStore,
    pub(crate) model: &'a ReadModel,
    pub(crate) generation: &'a Generation,
    pub(crate) partition: Partition,
}

/// A partition's state in memory, loaded at its checkpoint.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// What the database has.
    pub(crate) stored: Checkpoint,
    /// What was taken in: the same, and what waits for the commit.
    pub(crate) reached: Checkpoint,
    /// The partition holds no event after `reached` up to here.
    pub(crate) covered: Position,
    /// The first event that waits, for each parked stream.
    parked: HashMap<StreamId, Position>,
    to_park: Vec<Parked>,
    /// How many more events wait in parked streams.
    to_wait: HashMap<StreamId, u64>,
    retried: Vec<(StreamId, Option<Parked>)>,
    discarded: Vec<(StreamId, Position)>,
    /// An event that the database refuses, and that may be left out.
    left_out: Option<Position>,
    discards: Discards,
    rows: Rows,
    /// What was looked for since the last commit: every stored row that is found stands in `rows`.
    found: HashSet<Search>,
    cache: Cache,
    events: usize,
    /// Events committed and not counted yet.
    committed: usize,
}

impl Ahead {
    /// Nothing taken in beyond a checkpoint.
    pub(crate) fn new(
        stored: Checkpoint,
        parked: Vec<Parked>,
        cached_rows: usize,
        discards: Discards,
    ) -> Self {
        Self {
            stored,
            reached: stored,
            covered: stored.position,
            parked: parked.into_iter().map(|p| (p.stream, p.position)).collect(),
            to_park: Vec::new(),
            to_wait: HashMap::new(),
            retried: Vec::new(),
            discarded: Vec::new(),
            left_out: None,
            discards,
            rows: Rows::new(),
            found: HashSet::new(),
            // Before the first event the table is empty.
            cache: Cache::new(cached_rows, stored == Checkpoint::default()),
            events: 0,
            committed: 0,
        }
    }

    /// How many events were committed since this was last asked.
    pub(crate) fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.committed) as u64
    }

    /// Something waits for a commit.
    pub(crate) fn is_ahead(&self) -> bool {
        self.reached != self.stored
    }

    /// What waits is more than a checkpoint.
    pub(crate) fn changes_rows(&self) -> bool {
        !(self.rows.is_empty() && self.to_park.is_empty() && self.discarded.is_empty())
    }

    /// As much waits for a commit as may.
    pub(crate) fn is_full(&self) -> bool {
        self.events >= EVENTS_A_COMMIT || self.rows.len() >= ROWS_A_COMMIT
    }

    /// How many streams are parked.
    pub(crate) fn parked_streams(&self) -> usize {
        self.parked.len()
    }

    /// The first event of a parked stream that waits.
    pub(crate) fn parked_from(&self, stream: &StreamId) -> Option<Position> {
        self.parked.get(stream).copied()
    }

    /// The events of this stream wait from this event on.
    pub(crate) fn park(&mut self, partition: Partition, event: &RecordedEvent, reason: &str) {
        let parked = parked(partition, event, reason);
        let (stream, position, error) = (&parked.stream, parked.position, &parked.error);
        tracing::error!(%partition, %stream, %position, error, "stream parked: its events wait from here on");
        self.parked.insert(stream.clone(), position);
        self.to_park.push(parked);
    }

    /// An event cannot be projected: it is left out, if an operator said so, else its stream is parked.
    fn fail(&mut self, partition: Partition, event: &RecordedEvent, reason: &str) {
        if self.discards.hold(event.position) {
            let (stream, position) = (event.stream.clone(), event.position);
            tracing::warn!(%partition, %stream, %position, reason, "left out, as an operator wants it");
            self.discarded.push((stream, position));
        } else {
            self.park(partition, event, reason);
            self.wait(event);
        }
    }

    fn wait(&mut self, event: &RecordedEvent) {
        *self.to_wait.entry(event.stream.clone()).or_default() += 1;
    }

    /// Leaves an event out whose rows the database refuses, if an operator said so.
    pub(crate) fn leave_out(&mut self, event: &RecordedEvent) -> bool {
        let may = self.discards.hold(event.position);
        if may {
            self.left_out = Some(event.position);
        }
        may
    }

    /// Takes in events of a parked stream behind the checkpoint; it stays parked from `after` on. Nothing else may wait for
    /// a commit.
    pub(crate) async fn retry(
        &mut self,
        table: &Table<'_>,
        stream: &StreamId,
        events: &[RecordedEvent],
        after: &[RecordedEvent],
    ) -> Result<(), Error> {
        self.parked.remove(stream);
        self.reached.amended += 1;
        self.take_in(table, events).await?;
        let failed = self.to_park.pop();
        let parked = match (failed, after.first()) {
            (Some(failed), _) => Some(failed),
            (None, Some(next)) => Some(parked(table.partition, next, "tried again up to here")),
            (None, None) => None,
        };
        if let Some(parked) = &parked {
            self.parked.insert(stream.clone(), parked.position);
            *self.to_wait.entry(stream.clone()).or_default() += after.len() as u64;
        }
        self.retried.push((stream.clone(), parked));
        Ok(())
    }

    /// A parked stream that was tried again fails at this event, behind which so many wait, itself included.
    pub(crate) fn park_again(
        &mut self,
        partition: Partition,
        event: &RecordedEvent,
        reason: &str,
        waiting: u64,
    ) {
        self.reached.amended += 1;
        self.parked.insert(event.stream.clone(), event.position);
        self.to_wait.insert(event.stream.clone(), waiting);
        let parked = parked(partition, event, reason);
        self.retried.push((event.stream.clone(), Some(parked)));
    }

    /// This event waits behind one that could not be projected.
    pub(crate) fn is_parked(&self, event: &RecordedEvent) -> bool {
        let first = if self.parked.is_empty() {
            None
        } else {
            self.parked.get(&event.stream)
        };
        first.is_some_and(|first| event.position >= *first)
    }

    /// Takes in events of the partition, every one after `reached`, in order. An event that cannot be projected parks
    /// its stream; nothing is written yet.
    pub(crate) async fn absorb(
        &mut self,
        table: &Table<'_>,
        events: &[RecordedEvent],
    ) -> Result<(), Error> {
        for event in events {
            self.reached.digest = self.reached.digest.then(&event.hash);
            self.reached.position = event.position;
        }
        self.events += events.len();
        self.covered = self.covered.max(self.reached.position);
        self.take_in(table, events).await
    }

    /// Makes of events what the read model makes of them.
    async fn take_in(&mut self, table: &Table<'_>, events: &[RecordedEvent]) -> Result<(), Error> {
        let mut changes = Vec::with_capacity(events.len());
        for event in events
            .iter()
            .filter(|event| table.model.takes(&event.stream))
        {
            if self.is_parked(event) {
                self.wait(event);
            } else if self.left_out == Some(event.position) {
                self.fail(table.partition, event, "the database refuses its rows");
            } else {
                match project(table.model, event) {
                    Ok(made) if made.is_empty() => {}
                    Ok(made) => changes.push((event, made)),
                    Err(reason) => self.fail(table.partition, event, &reason),
                }
            }
        }
        let mut unseen = self.load(table, &changes).await?;
        for (event, made) in changes {
            // An event before it in this very batch may have parked the stream.
            if self.is_parked(event) {
                self.wait(event);
                continue;
            }
            let keys: Vec<RowKey> = made
                .keys()
                .filter(|key| unseen.contains(*key))
                .cloned()
                .collect();
            match fold(&mut self.rows, made, EventPlace::of(table.partition, event)) {
                Ok(()) => {
                    for key in &keys {
                        unseen.remove(key);
                    }
                }
                Err(error) => {
                    self.fail(table.partition, event, &error.to_string());
                }
            }
        }
        // What nothing replaced after all stays as it is in the table, whatever that is.
        for key in unseen {
            self.rows.remove(&key);
        }
        Ok(())
    }

    /// Takes rows out that are due; they go with the next commit. What was taken in since knows better of a row.
    pub(crate) fn let_go(&mut self, keys: impl IntoIterator<Item = RowKey>) {
        for key in keys {
            if !self.rows.contains_key(&key) {
                self.cache.take(&key);
                self.rows.insert(key, None);
            }
        }
    }

    /// Rows that are due wait for a commit, and nothing else does.
    pub(crate) fn lets_go_alone(&self) -> bool {
        !self.is_ahead() && !self.rows.is_empty()
    }

    /// What waits is to be committed though no event came: then rows change behind the checkpoint, as when a stream is tried
    /// again.
    pub(crate) fn amend(&mut self) {
        self.reached.amended += 1;
    }

    /// Commits what was taken in: rows, parked streams and checkpoint in one fenced transaction. After an error this
    /// state is worth nothing.
    pub(crate) async fn flush(&mut self, table: &Table<'_>) -> Result<(), CommitError> {
        if !self.is_ahead() {
            return Ok(());
        }
        let writes = self.take_writes();
        table
            .store
            .commit(Commit {
                model: table.model,
                generation: table.generation,
                partition: table.partition,
                from: self.stored,
                to: self.reached,
                writes: &writes,
            })
            .await?;
        self.committed(writes);
        Ok(())
    }

    /// What is to be written with the checkpoint. Unless it is [`Ahead::committed`], this state is worth nothing.
    pub(crate) fn take_writes(&mut self) -> RowWrites {
        let mut writes = RowWrites {
            park: std::mem::take(&mut self.to_park),
            wait: self.to_wait.drain().collect(),
            retried: std::mem::take(&mut self.retried),
            discarded: std::mem::take(&mut self.discarded),
            upserts: Vec::new(),
            deletes: Vec::new(),
        };
        self.found.clear();
        for (key, row) in self.rows.drain() {
            match row {
                Some(row) => writes.upserts.push((key, row)),
                None => writes.deletes.push(key),
            }
        }
        writes
    }

    /// The database has what was taken in.
    pub(crate) fn committed(&mut self, writes: RowWrites) {
        self.stored = self.reached;
        self.committed += std::mem::take(&mut self.events);
        for (key, row) in writes.upserts {
            self.cache.put(key, Some(row));
        }
        for key in writes.deletes {
            self.cache.put(key, None);
        }
    }
}

fn parked(partition: Partition, event: &RecordedEvent, reason: &str) -> Parked {
    // What a database refuses in a row must not make it refuse the reason too.
    let reason = reason.chars().filter(|c| *c != '\0');
    Parked {
        stream: event.stream.clone(),
        partition,
        position: event.position,
        error: reason.take(REASON_CHARS).collect(),
    }
}

/// Runs the projection. A panic is as deterministic as an error, and must not take the process with it.
pub(crate) fn project<'m>(
    model: &'m ReadModel,
    event: &RecordedEvent,
) -> Result<Changes<'m>, String> {
    let mut changes = Changes::new(model);
    match catch_unwind(AssertUnwindSafe(|| (model.project)(event, &mut changes))) {
        Ok(Ok(())) => Ok(changes),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "the projection panicked at {} version {}",
            event.stream, event.version
        )),
    }
}

#[cfg(test)]
mod tests;
