//! Writes how the projector stands into the read model `projection-status`: once a second, what changed, for the partitions
//! whose messages come to this process.
//!
//! Its checkpoints count writes, since no event makes these rows: what fences two writers, and what the journal of changed
//! rows stands on, is the same as everywhere. Refuses: to hold up anything. What cannot be written is forgotten, and looked
//! at again in a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use events::{Digest, Partition, Position};
use read_models::{
    Checkpoint, Commit, CommitError, Error, Generation, ReadModel, Row, RowKey, RowWrites,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock;
use crate::context::Context;
use crate::options::PRUNE_PAUSE;
use crate::read_models::projection_status::{Look, rows, says_the_same};
use crate::status::Status;

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How often rows are written that say nothing new: whoever finds older ones knows that nobody looks any more.
const REFRESH: Duration = Duration::from_mins(1);
/// What a rate is taken over.
const WINDOW: usize = 10;
/// Most rows of a partition: more read models than anybody has.
const ROWS: u32 = 10_000;

pub(crate) struct Observing {
    pub(crate) context: Arc<Context>,
    pub(crate) model: Arc<ReadModel>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) live: bool,
    pub(crate) status: watch::Receiver<Status>,
}

/// What stands in one partition of the table, as far as this process knows.
struct Written {
    checkpoint: Checkpoint,
    rows: BTreeMap<RowKey, Row>,
    at: Instant,
}

impl Observing {
    /// Until shutdown.
    pub(crate) async fn run(mut self) {
        let mut written: Vec<Option<Written>> = Vec::new();
        let (mut rates, mut pruned) = (Rates::default(), Instant::now());
        // Where there is none before it, readers see it at once.
        self.live = self.swap().await;
        while self.context.pause(PAUSE).await {
            let status = self.status.borrow().clone();
            let look = Look {
                at: clock::now(),
                instant: Instant::now(),
            };
            rates.take(&status, look.instant);
            written.resize_with(status.consuming.len(), || None);
            for ((partition, place), ours) in (0..).zip(&mut written).zip(&status.consuming) {
                let partition = Partition(partition);
                let wanted = rows(&status, partition, look, |model| {
                    rates.tenths(model, usize::from(partition.0))
                });
                let before = place.take().filter(|_| *ours);
                if *ours {
                    *place = self.write(partition, before, wanted).await;
                }
            }
            self.live = self.live || self.swap().await;
            if pruned.elapsed() >= PRUNE_PAUSE {
                pruned = Instant::now();
                self.complain(self.context.store.prune_changes(&self.generation).await);
            }
        }
    }

    /// Writes what is not so yet. Nothing is known of the table after whatever goes wrong.
    async fn write(
        &self,
        partition: Partition,
        before: Option<Written>,
        wanted: BTreeMap<RowKey, Row>,
    ) -> Option<Written> {
        let mut written = match before {
            Some(written) => written,
            None => self.complain(self.load(partition).await)?,
        };
        let Some(writes) = self.difference(&written, &wanted) else {
            return Some(written);
        };
        let to = Checkpoint {
            position: self.next(partition, written.checkpoint.position).await?,
            digest: Digest::ZERO,
            amended: 0,
        };
        let commit = Commit {
            model: &self.model,
            generation: &self.generation,
            partition,
            from: written.checkpoint,
            to,
            writes: &writes,
        };
        match self.context.store.commit(commit).await {
            Ok(()) => {
                (written.checkpoint, written.at) = (to, Instant::now());
                for key in writes.deletes {
                    written.rows.remove(&key);
                }
                written.rows.extend(writes.upserts);
                Some(written)
            }
            // Another process looks after this partition now.
            Err(CommitError::Fenced) => None,
            Err(error) => {
                tracing::warn!(%partition, %error, "the status of projections cannot be written");
                None
            }
        }
    }

    async fn load(&self, partition: Partition) -> Result<Written, Error> {
        let (checkpoint, rows) = self
            .context
            .store
            .scan(&self.model, &self.generation, partition, None, ROWS)
            .await?;
        Ok(Written {
            checkpoint,
            rows: rows.into_iter().collect(),
            // As old as can be told.
            at: Instant::now() - REFRESH,
        })
    }

    /// What has to be written: every row that says something else, and all of them when they get old.
    fn difference(&self, written: &Written, wanted: &BTreeMap<RowKey, Row>) -> Option<RowWrites> {
        let old = written.at.elapsed() >= REFRESH;
        let differs = |key: &RowKey, row: &Row| {
            let before = written.rows.get(key);
            old || before.is_none_or(|before| !says_the_same(&self.model, before, row))
        };
        let upserts = wanted.iter().filter(|(key, row)| differs(key, row));
        let deletes = written.rows.keys().filter(|key| !wanted.contains_key(*key));
        let writes = RowWrites {
            upserts: upserts
                .map(|(key, row)| (key.clone(), row.clone()))
                .collect(),
            deletes: deletes.cloned().collect(),
            ..RowWrites::default()
        };
        (!writes.upserts.is_empty() || !writes.deletes.is_empty()).then_some(writes)
    }

    /// The number of the next write. A build that is to take another's place counts on from where that one is.
    async fn next(&self, partition: Partition, known: Position) -> Option<Position> {
        let mut last = known;
        if !self.live
            && let Some(live) = self.complain(self.context.store.live(&self.model.name).await)?
        {
            let (_, places) = self.complain(self.context.store.checkpoints(&live).await)?;
            let place = places.get(usize::from(partition.0))?;
            last = last.max(place.position);
        }
        Some(Position::new(last.get() + 1))
    }

    async fn swap(&self) -> bool {
        self.complain(self.context.store.swap(&self.generation).await)
            .unwrap_or(false)
    }

    fn complain<T>(&self, result: Result<T, Error>) -> Option<T> {
        result
            .inspect_err(|error| {
                tracing::warn!(model = self.model.name, %error, "the status of projections cannot be kept");
            })
            .ok()
    }
}

/// How many events each partition of each read model takes in, over the last looks.
#[derive(Default)]
struct Rates {
    looks: VecDeque<(Instant, Vec<Vec<u64>>)>,
}

impl Rates {
    fn take(&mut self, status: &Status, at: Instant) {
        let counts = status.read_models.iter().map(|model| {
            let places = model.partitions.iter();
            places.map(|place| place.events).collect()
        });
        self.looks.push_back((at, counts.collect()));
        if self.looks.len() > WINDOW + 1 {
            self.looks.pop_front();
        }
    }

    /// Tenths of an event a second.
    fn tenths(&self, model: usize, partition: usize) -> i64 {
        let count = |(at, counts): &(Instant, Vec<Vec<u64>>)| {
            Some((*at, *counts.get(model)?.get(partition)?))
        };
        let ends = self.looks.front().zip(self.looks.back());
        let Some((from, to)) = ends.and_then(|(a, b)| count(a).zip(count(b))) else {
            return 0;
        };
        let seconds = (to.0 - from.0).as_secs_f64();
        if seconds == 0.0 {
            return 0;
        }
        (to.1.saturating_sub(from.1) as f64 * 10.0 / seconds).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{PartitionStatus, ReadModelStatus};

    #[test]
    fn a_rate_is_of_the_last_ten_seconds() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let mut look = |second: u64, events: u64| {
            let place = PartitionStatus {
                events,
                ..PartitionStatus::default()
            };
            let status = Status {
                read_models: vec![ReadModelStatus {
                    name: "accounts".into(),
                    generation: 1,
                    live: true,
                    partitions: vec![place],
                }],
                ..Status::default()
            };
            rates.take(&status, start + Duration::from_secs(second));
            rates.tenths(0, 0)
        };
        assert_eq!(look(0, 1_000), 0);
        assert_eq!(look(1, 1_025), 250);
        assert_eq!(look(2, 1_025), 125);
        for second in 3..=10 {
            look(second, 1_025);
        }
        assert_eq!(look(11, 1_025), 0);
        assert_eq!(rates.tenths(1, 0), 0);
    }
}
