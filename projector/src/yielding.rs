//! Builds make way for what readers wait for. While queues bring live read models events, builds take their steps one at a
//! time, and each waits until no such batch is under way, though not for ever: a build always comes to its end.
//!
//! Refuses: to slow a build down when there is nothing live to wait for.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout};

use crate::options::{LIVE_LATELY, LONGEST_YIELD, YIELDED_STEPS};

/// Who is at work.
pub(crate) struct Yielding {
    /// How many live batches are under way.
    live: watch::Sender<usize>,
    turn: Semaphore,
    seen: Mutex<Seen>,
}

struct Seen {
    /// When the last live batch ended.
    live: Option<Instant>,
    /// How long the last steps of builds took, about: as long as the last, or half of what it was before.
    step: Duration,
}

/// A turn at the database, until it is dropped.
pub(crate) enum Turn<'y> {
    Live { _live: Live<'y> },
    Step { _step: Step<'y> },
}

/// A live batch, until it is dropped.
pub(crate) struct Live<'y>(&'y Yielding);

/// A step of a build, until it is dropped.
pub(crate) struct Step<'y> {
    yielding: &'y Yielding,
    began: Instant,
    _turn: Option<SemaphorePermit<'y>>,
}

impl Yielding {
    pub(crate) fn new() -> Self {
        Self {
            live: watch::Sender::new(0),
            turn: Semaphore::new(1),
            seen: Mutex::new(Seen {
                live: None,
                step: Duration::ZERO,
            }),
        }
    }

    /// Begins a batch that readers wait for.
    pub(crate) fn live(&self) -> Live<'_> {
        self.live.send_modify(|live| *live += 1);
        Live(self)
    }

    /// A turn of what readers see, at once; or of a build, when it may.
    pub(crate) async fn turn(&self, serves: bool) -> Turn<'_> {
        if serves {
            Turn::Live { _live: self.live() }
        } else {
            Turn::Step {
                _step: self.step().await,
            }
        }
    }

    /// Begins a step of a build, when it is its turn.
    pub(crate) async fn step(&self) -> Step<'_> {
        let turn = if self.is_live() {
            // It is never closed.
            let turn = self.turn.acquire().await.ok();
            let patience = (self.seen().step * YIELDED_STEPS).min(LONGEST_YIELD);
            let mut live = self.live.subscribe();
            _ = timeout(patience, live.wait_for(|live| *live == 0)).await;
            turn
        } else {
            None
        };
        Step {
            yielding: self,
            began: Instant::now(),
            _turn: turn,
        }
    }

    /// Live batches come, or came until just now.
    fn is_live(&self) -> bool {
        *self.live.borrow() > 0
            || self
                .seen()
                .live
                .is_some_and(|ended| ended.elapsed() < LIVE_LATELY)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.seen().live = Some(Instant::now());
        self.0.live.send_modify(|live| *live -= 1);
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let mut seen = self.yielding.seen();
        seen.step = self.began.elapsed().max(seen.step / 2);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn with_nothing_live_steps_are_taken_side_by_side() {
        let yielding = Yielding::new();
        let _one = yielding.step().now_or_never().unwrap();
        let _other = yielding.step().now_or_never().unwrap();
    }

    #[tokio::test]
    async fn a_step_waits_for_live_batches_but_not_for_ever() {
        let yielding = Yielding::new();
        yielding.seen().step = Duration::from_mins(1);
        let live = yielding.live();
        let mut step = Box::pin(yielding.step());
        assert!(step.as_mut().now_or_never().is_none());
        drop(live);
        drop(step.await);

        yielding.seen().step = Duration::from_millis(1);
        let _live = yielding.live();
        let _step = yielding.step().await;
    }

    #[tokio::test]
    async fn shortly_after_a_live_batch_steps_are_still_taken_one_at_a_time() {
        let yielding = Yielding::new();
        drop(yielding.live());
        // However long this test takes.
        yielding.seen().live = Some(Instant::now() + Duration::from_hours(1));
        let step = yielding.step().await;
        assert!(yielding.step().now_or_never().is_none());
        drop(step);
        let _step = yielding.step().await;
        yielding.seen().live = None;
        assert!(yielding.step().now_or_never().is_some());
    }
}
