//! Lanes of one partition taking in the same events, and committing what they make of them together: with many read
//! models, a transaction for each would be most of the work.
//!
//! Refuses: to handle trouble. A lane that meets any takes the events by itself, as if nothing had been tried.

use std::sync::Arc;

use events::{Position, RecordedEvent};
use futures::future::join_all;
use read_models::{Commit, CommitError, ProjectionStore, RowWrites};
use tokio::sync::MutexGuard;

use super::{Held, Lane, Pace, Taken, beyond};
use crate::ahead::Ahead;

/// A lane that has taken events in; it is locked until what it writes is committed.
struct Begun<'l> {
    lane: &'l Lane,
    held: MutexGuard<'l, Held>,
    ahead: Ahead,
    writes: RowWrites,
}

/// What became of a lane at first.
enum Beginning<'l> {
    /// Everything is in.
    Done,
    Begun(Box<Begun<'l>>),
    Trouble,
}

/// Takes `events` into lanes of one partition, at once ([`Pace::Now`]); see [`Lane::take`]. The answers are in the order of
/// the lanes.
pub(crate) async fn take_together(
    store: &dyn ProjectionStore,
    lanes: &[Arc<Lane>],
    after: Position,
    through: Position,
    events: &[RecordedEvent],
) -> Vec<Taken> {
    let beginnings = join_all(lanes.iter().map(|lane| lane.begin(after, through, events))).await;
    let outcomes = commit_together(store, beginnings, None).await;
    // What is in already is passed over.
    by_themselves(lanes, outcomes, |lane| {
        lane.take(after, through, events, Pace::Now)
    })
    .await
}

/// Commits what waits in lanes of one partition; see [`Lane::flush`]. The answers are in the order of the lanes.
pub(crate) async fn flush_together(store: &dyn ProjectionStore, lanes: &[Arc<Lane>]) -> Vec<Taken> {
    let beginnings = join_all(lanes.iter().map(|lane| lane.begin_to_flush())).await;
    // What could not be committed is forgotten: it must be read again.
    let outcomes = commit_together(store, beginnings, Some(Taken::Behind)).await;
    by_themselves(lanes, outcomes, Lane::flush).await
}

/// What became of each lane, once those that met trouble have tried alone.
async fn by_themselves<'l, F: Future<Output = Taken>>(
    lanes: &'l [Arc<Lane>],
    outcomes: Vec<Option<Taken>>,
    alone: impl Fn(&'l Lane) -> F,
) -> Vec<Taken> {
    let alone = &alone;
    let settled = lanes
        .iter()
        .zip(outcomes)
        .map(|(lane, outcome)| async move {
            match outcome {
                Some(taken) => taken,
                None => alone(lane).await,
            }
        });
    join_all(settled).await
}

/// Commits what lanes have begun: what became of each, nothing for those that met trouble before, and `failed` for those
/// whose commit failed.
async fn commit_together(
    store: &dyn ProjectionStore,
    beginnings: Vec<Beginning<'_>>,
    failed: Option<Taken>,
) -> Vec<Option<Taken>> {
    let mut outcomes = Vec::with_capacity(beginnings.len());
    let mut begun = Vec::with_capacity(beginnings.len());
    for (index, beginning) in beginnings.into_iter().enumerate() {
        outcomes.push(matches!(beginning, Beginning::Done).then_some(Taken::Done));
        if let Beginning::Begun(lane) = beginning {
            begun.push((index, lane));
        }
    }
    let commits: Vec<Commit<'_>> = begun.iter().map(|(_, begun)| begun.commit()).collect();
    let answers = if commits.is_empty() {
        Vec::new()
    } else {
        store.commit_together(&commits).await
    };
    for ((index, begun), answer) in begun.into_iter().zip(answers) {
        outcomes[index] = if begun.end(answer) {
            Some(Taken::Done)
        } else {
            failed.clone()
        };
    }
    outcomes
}

impl Lane {
    async fn begin(
        &self,
        after: Position,
        through: Position,
        events: &[RecordedEvent],
    ) -> Beginning<'_> {
        let mut held = self.held.lock().await;
        if self.is_stopped() {
            return Beginning::Trouble;
        }
        let Some(mut ahead) = held.ahead.take() else {
            return Beginning::Trouble;
        };
        if after > ahead.covered || ahead.reached.position < held.careful {
            held.ahead = Some(ahead);
            return Beginning::Trouble;
        }
        // From here on, whatever fails leaves the lane to be loaded anew.
        if self.check_place(&ahead, after, events).is_err() {
            return Beginning::Trouble;
        }
        let new = beyond(events, ahead.reached.position);
        if ahead.absorb(&self.table(), new).await.is_err() {
            return Beginning::Trouble;
        }
        ahead.covered = ahead.covered.max(through);
        // Rows that are due wait until there is more to commit.
        let commits = ahead.is_ahead() && (ahead.changes_rows() || ahead.is_full());
        self.begin_with(held, ahead, commits)
    }

    async fn begin_to_flush(&self) -> Beginning<'_> {
        let mut held = self.held.lock().await;
        if self.is_stopped() {
            return Beginning::Trouble;
        }
        match held.ahead.take() {
            Some(ahead) if ahead.reached.position >= held.careful => {
                let commits = ahead.is_ahead();
                self.begin_with(held, ahead, commits)
            }
            ahead => {
                held.ahead = ahead;
                Beginning::Trouble
            }
        }
    }

    fn begin_with<'l>(
        &'l self,
        mut held: MutexGuard<'l, Held>,
        mut ahead: Ahead,
        commits: bool,
    ) -> Beginning<'l> {
        if commits {
            let writes = ahead.take_writes();
            return Beginning::Begun(Box::new(Begun {
                lane: self,
                held,
                ahead,
                writes,
            }));
        }
        self.report(&mut ahead);
        held.ahead = Some(ahead);
        Beginning::Done
    }
}

impl Begun<'_> {
    fn commit(&self) -> Commit<'_> {
        Commit {
            model: &self.lane.model,
            generation: &self.lane.generation,
            partition: self.lane.partition,
            from: self.ahead.stored,
            to: self.ahead.reached,
            writes: &self.writes,
        }
    }

    /// Takes the answer; true if the events are in.
    fn end(mut self, answer: Result<(), CommitError>) -> bool {
        match answer {
            Ok(()) => {
                self.ahead.committed(self.writes);
                self.lane.report(&mut self.ahead);
                self.held.ahead = Some(self.ahead);
                true
            }
            Err(error) => {
                let (model, partition) = (&self.lane.model.name, self.lane.partition);
                if let CommitError::Fenced = error {
                    tracing::debug!(model, %partition, "fenced: loading anew");
                } else {
                    tracing::warn!(model, %partition, %error, "a commit failed; what it held is tried again");
                }
                if let CommitError::Refused(_) = error {
                    self.held.careful = self.ahead.reached.position;
                }
                false
            }
        }
    }
}
