//! How long requests wait for their turn before anything can look at them: while the process has more to do than its cores
//! can, they stand in the runtime's queue, those that will be refused among them.
//!
//! Refuses: to take a machine for busy with requests that is busy with something else.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// How often somebody stands in line.
const PAUSE: Duration = Duration::from_millis(10);
/// With fewer requests ahead than so many a core, the wait is not for requests.
const CROWD_A_CORE: u64 = 4;
/// What the newest wait counts for, among those before.
const NEWEST: f64 = 0.25;

/// The line in front of a process's requests, measured from the first of them on.
pub(crate) struct Queueing {
    line: Arc<Line>,
    probe: OnceLock<AbortHandle>,
}

#[derive(Default)]
struct Line {
    /// Requests whose turn came.
    came: AtomicU64,
    waited_us: AtomicU64,
}

impl Queueing {
    pub(crate) fn new() -> Self {
        Self {
            line: Arc::default(),
            probe: OnceLock::new(),
        }
    }

    /// A request's turn has come.
    pub(crate) fn note(&self) {
        self.line.came.fetch_add(1, Ordering::Relaxed);
        // With the first, there is sure to be a runtime.
        self.probe
            .get_or_init(|| tokio::spawn(probe(Arc::clone(&self.line))).abort_handle());
    }

    /// How long one that comes now is going to wait, if many stand there.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_micros(self.line.waited_us.load(Ordering::Relaxed))
    }
}

impl Drop for Queueing {
    fn drop(&mut self) {
        if let Some(probe) = self.probe.get() {
            probe.abort();
        }
    }
}

/// How many there are for this process.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Lets everything pass that is ready. The runtime's own way to yield is not taken: woken by it, a task may go first.
async fn stand_in_line() {
    let mut stood = false;
    poll_fn(|context| {
        if std::mem::replace(&mut stood, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Stands in line now and then, for ever.
async fn probe(line: Arc<Line>) {
    let crowd = CROWD_A_CORE * cores() as u64;
    let mut smooth = 0.0;
    loop {
        sleep(PAUSE).await;
        let (began, came) = (Instant::now(), line.came.load(Ordering::Relaxed));
        stand_in_line().await;
        let ahead = line.came.load(Ordering::Relaxed) - came;
        let waited = if ahead >= crowd {
            began.elapsed().as_secs_f64()
        } else {
            0.0
        };
        smooth += (waited - smooth) * NEWEST;
        line.waited_us
            .store((smooth * 1e6) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Keeps the only core busy with so many things at a time.
    async fn work(queueing: &Arc<Queueing>, things: usize, requests: bool) {
        for _ in 0..things {
            let queueing = Arc::clone(queueing);
            tokio::spawn(async move {
                if requests {
                    queueing.note();
                }
                let began = Instant::now();
                while began.elapsed() < WORK {
                    std::hint::spin_loop();
                }
            });
        }
        sleep(PAUSE / 2).await;
    }

    #[tokio::test]
    async fn a_crowd_of_requests_is_waited_for() {
        let crowd = 10 * CROWD_A_CORE as usize * cores();
        let queueing = Arc::new(Queueing::new());
        queueing.note();
        let began = Instant::now();
        while queueing.waited() < 5 * WORK {
            work(&queueing, crowd, true).await;
            assert!(began.elapsed() < PATIENCE);
        }
        while !queueing.waited().is_zero() {
            sleep(PAUSE).await;
            assert!(began.elapsed() < 2 * PATIENCE);
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_not_taken_for_one() {
        let queueing = Arc::new(Queueing::new());
        queueing.note();
        for _ in 0..5 {
            work(&queueing, 50, false).await;
            assert_eq!(queueing.waited(), Duration::ZERO);
        }
    }
}
