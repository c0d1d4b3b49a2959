//! A lane: one partition of one generation of a read model, and its place in the log. Events go in once, in order,
//! whoever brings them: the queue, healing or a rebuild.
//!
//! Refuses: to take events that leave a gap, and to go on after a doubt without loading its checkpoint anew.

mod expiring;
mod loading;
mod retrying;
mod together;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use events::{Heartbeat, Partition, Position, RecordedEvent, StreamId};
use read_models::{CommitError, Error, Generation, ReadModel};
use tokio::sync::{Mutex, Notify};

use crate::ahead::{Ahead, Table};
use crate::context::Context;
use crate::options::{Pauses, TRIES_IN_PLACE};
use crate::status::{Board, State};
use crate::wishes::Discards;

pub(crate) use together::{flush_together, take_together};

/// When to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once, where rows change: readers wait for these events. A checkpoint alone waits for more, or for
    /// [`Lane::flush`].
    Now,
    /// When enough has been folded: the log is being caught up with.
    WhenFull,
}

/// What became of events that were brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// They are in, or were before.
    Done,
    /// There is a gap before them: read the log.
    Behind,
    /// The database fails again and again.
    Failing,
    /// The lane stands still until an operator acts; the status says why.
    Stopped,
    /// The projector is to stop.
    Shutdown,
}

impl Taken {
    /// Trying once more would change nothing.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::Done | Self::Stopped | Self::Shutdown)
    }
}

/// Why an attempt went no further.
enum Trouble {
    Behind,
    /// The database refuses rows that were folded from events which are in memory no more.
    Refused(String),
    Fenced,
    Fault(String),
    Stop(String),
}

enum Work<'a> {
    /// Finds out where the lane stands.
    Locate,
    Take {
        after: Position,
        through: Position,
        events: &'a [RecordedEvent],
        pace: Pace,
    },
    Flush,
    /// Tries a parked stream again.
    Retry(&'a StreamId),
}

pub(crate) struct Lane {
    pub(crate) context: Arc<Context>,
    pub(crate) model: Arc<ReadModel>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) partition: Partition,
    pub(crate) board: Board,
    /// Wakes the read model's task when a lane has fallen behind.
    pub(crate) fell_behind: Arc<Notify>,
    mode: AtomicU8,
    /// Something was taken in and not committed.
    waits: AtomicBool,
    held: Mutex<Held>,
    discards: Discards,
}

#[derive(Default)]
struct Held {
    /// `None`: load before use. An attempt takes it out, and only a successful one puts it back.
    ahead: Option<Ahead>,
    /// Up to here some event makes rows that the database refuses: commit page by page, to find it.
    careful: Position,
}

const CATCHING_UP: u8 = 0;
const FOLLOWING: u8 = 1;
const STOPPED: u8 = 2;

impl Lane {
    pub(crate) fn new(
        context: Arc<Context>,
        model: Arc<ReadModel>,
        generation: Arc<Generation>,
        partition: Partition,
        board: Board,
        fell_behind: Arc<Notify>,
        discards: Discards,
    ) -> Self {
        let (mode, waits) = (AtomicU8::new(CATCHING_UP), AtomicBool::new(false));
        let held = Mutex::default();
        Self {
            context,
            model,
            generation,
            partition,
            board,
            fell_behind,
            mode,
            waits,
            held,
            discards,
        }
    }

    /// Something that was taken in waits for [`Lane::flush`].
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::SeqCst)
    }

    pub(crate) fn is_following(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == FOLLOWING
    }

    pub(crate) fn is_catching_up(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == CATCHING_UP
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.mode.load(Ordering::SeqCst) == STOPPED
    }

    /// From now on the queue's consumer brings events, unless the lane has stopped.
    pub(crate) fn follow(&self) {
        if self.turn(CATCHING_UP, FOLLOWING) {
            self.board.write(|status| status.state = State::Following);
        }
    }

    /// From now on the read model's task brings events, unless the lane has stopped.
    pub(crate) fn fall_behind(&self) {
        if self.turn(FOLLOWING, CATCHING_UP) {
            self.board.write(|status| {
                if status.state == State::Following {
                    status.state = State::CatchingUp;
                }
            });
            self.fell_behind.notify_one();
        }
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.mode
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Takes nothing in from now on, since its generation is gone.
    pub(crate) fn retire(&self) {
        self.mode.store(STOPPED, Ordering::SeqCst);
    }

    fn stop(&self, reason: &str) {
        let (model, partition) = (&self.model.name, self.partition);
        tracing::error!(model, %partition, reason, "projection stopped");
        self.mode.store(STOPPED, Ordering::SeqCst);
        self.board
            .write(|status| status.state = State::Stopped(reason.to_owned()));
    }

    /// The position up to which the partition's events are in.
    pub(crate) async fn locate(&self) -> Result<Position, Taken> {
        self.work(Work::Locate).await
    }

    /// Takes in `events`: everything that the partition holds after `after`, up to `through`.
    pub(crate) async fn take(
        &self,
        after: Position,
        through: Position,
        events: &[RecordedEvent],
        pace: Pace,
    ) -> Taken {
        if let Some(last) = events.last() {
            self.board.hear(last.position);
        }
        self.work(Work::Take {
            after,
            through,
            events,
            pace,
        })
        .await
        .err()
        .unwrap_or(Taken::Done)
    }

    /// Commits whatever waits for it.
    pub(crate) async fn flush(&self) -> Taken {
        self.work(Work::Flush).await.err().unwrap_or(Taken::Done)
    }

    /// Compares with what the relay says; true when the relay knows of later events.
    pub(crate) async fn compare(&self, beat: &Heartbeat) -> bool {
        let held = self.held.lock().await;
        let Some(ahead) = &held.ahead else {
            return true;
        };
        if ahead.reached.position == beat.position && ahead.reached.digest != beat.digest {
            self.stop(&format!(
                "corrupted: at position {} its digest is not the one of the events that were published; run showcaller verify",
                beat.position
            ));
        }
        ahead.covered < beat.position
    }

    async fn work(&self, work: Work<'_>) -> Result<Position, Taken> {
        let mut held = self.held.lock().await;
        let (mut pauses, mut faults) = (Pauses::new(), 0);
        loop {
            if self.is_stopped() {
                return Err(Taken::Stopped);
            }
            match self.attempt(&mut held, &work).await {
                Ok(covered) => return Ok(covered),
                Err(Trouble::Behind) => return Err(Taken::Behind),
                Err(Trouble::Stop(reason)) => self.stop(&reason),
                Err(Trouble::Refused(reason)) => {
                    tracing::warn!(model = self.model.name, partition = %self.partition, reason, "looking for the event");
                    return Err(Taken::Behind);
                }
                Err(Trouble::Fenced) => {
                    // Another projector has moved on; what it has not taken is still to be taken.
                    tracing::debug!(model = self.model.name, partition = %self.partition, "fenced: loading anew");
                }
                Err(Trouble::Fault(reason)) => {
                    let (model, partition) = (&self.model.name, self.partition);
                    tracing::warn!(model, %partition, reason, "projection failed; trying again");
                    self.board
                        .write(|status| status.state = State::Retrying(reason));
                    faults += 1;
                    if faults == TRIES_IN_PLACE {
                        return Err(Taken::Failing);
                    }
                    if !self.context.pause(pauses.next()).await {
                        return Err(Taken::Shutdown);
                    }
                }
            }
            if self.context.shutdown.is_cancelled() {
                return Err(Taken::Shutdown);
            }
            if matches!(work, Work::Flush) && !self.is_stopped() {
                // What waited for its commit is forgotten: it must be read again.
                return Err(Taken::Behind);
            }
        }
    }

    async fn attempt(&self, held: &mut Held, work: &Work<'_>) -> Result<Position, Trouble> {
        let mut ahead = match held.ahead.take() {
            Some(ahead) => ahead,
            None => self.load().await?,
        };
        match *work {
            Work::Locate => {}
            Work::Flush => self.commit_waiting(&mut ahead, held).await?,
            Work::Retry(stream) => {
                self.commit_waiting(&mut ahead, held).await?;
                self.try_again(&mut ahead, stream).await?;
            }
            Work::Take { after, .. } if after > ahead.covered => {
                held.ahead = Some(ahead);
                return Err(Trouble::Behind);
            }
            Work::Take {
                after,
                through,
                events,
                pace,
            } => {
                self.check_place(&ahead, after, events)?;
                if ahead.reached.position < held.careful {
                    self.commit_waiting(&mut ahead, held).await?;
                    self.settle(&mut ahead, events).await?;
                } else {
                    ahead
                        .absorb(&self.table(), beyond(events, ahead.reached.position))
                        .await?;
                    if ahead.is_full() || (pace == Pace::Now && ahead.changes_rows()) {
                        self.commit_waiting(&mut ahead, held).await?;
                    }
                }
                ahead.covered = ahead.covered.max(through);
            }
        }
        let covered = ahead.covered;
        self.report(&mut ahead);
        held.ahead = Some(ahead);
        Ok(covered)
    }

    async fn commit_waiting(&self, ahead: &mut Ahead, held: &mut Held) -> Result<(), Trouble> {
        match ahead.flush(&self.table()).await {
            Ok(()) => Ok(()),
            Err(CommitError::Refused(reason)) => {
                held.careful = ahead.reached.position;
                Err(Trouble::Refused(reason))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn table(&self) -> Table<'_> {
        Table {
            store: &*self.context.store,
            model: &self.model,
            generation: &self.generation,
            partition: self.partition,
        }
    }

    /// Takes events in and commits. When the database refuses the rows, halves the events until the one is found whose
    /// rows it refuses, and parks that one's stream.
    async fn settle(&self, ahead: &mut Ahead, events: &[RecordedEvent]) -> Result<(), Trouble> {
        let table = self.table();
        let mut slices = vec![events];
        while let Some(slice) = slices.pop() {
            let slice = beyond(slice, ahead.reached.position);
            if slice.is_empty() {
                continue;
            }
            ahead.absorb(&table, slice).await?;
            let reason = match ahead.flush(&table).await {
                Ok(()) => continue,
                Err(CommitError::Refused(reason)) => reason,
                Err(error) => return Err(error.into()),
            };
            *ahead = self.load().await?;
            match slice {
                [event] if ahead.is_parked(event) => return Err(Trouble::Fault(reason)),
                [event] => {
                    if !ahead.leave_out(event) {
                        ahead.park(self.partition, event, &reason);
                    }
                    slices.push(slice);
                }
                _ => {
                    let (first, second) = slice.split_at(slice.len() / 2);
                    slices.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    fn report(&self, ahead: &mut Ahead) {
        self.waits.store(ahead.is_ahead(), Ordering::SeqCst);
        let following = self.is_following();
        self.board.reach(ahead.stored.position, ahead.take_count());
        self.board.write(|status| {
            status.parked = ahead.parked_streams();
            if matches!(status.state, State::Retrying(_)) {
                status.state = if following {
                    State::Following
                } else {
                    State::CatchingUp
                };
            }
        });
    }
}

/// The events after a position.
fn beyond(events: &[RecordedEvent], position: Position) -> &[RecordedEvent] {
    &events[events.partition_point(|event| event.position <= position)..]
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Fault(error.to_string())
    }
}

impl From<CommitError> for Trouble {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Fenced => Self::Fenced,
            other => Self::Fault(other.to_string()),
        }
    }
}
