//! How many requests may be under way at once: as many as can be answered about as quickly as when there is little to do.
//! Those beyond are refused at once, so that under more load than the process can carry the others do not get slow too.
//!
//! For each route it is remembered how long its requests take while hardly any other is under way; what the slowest of a
//! hundred takes then is the route's budget, for the average of a busy time. By Little's law as many requests may then be under way as leave in a
//! second, times their budget. The limit follows that while requests take longer than their budget, and grows while they
//! do not.
//!
//! Refuses: to judge a request by the time that it was set aside (waiting for a projection, or for a core to hash a
//! password on): that has bounds of its own.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use instruments::metrics::Gauge;
use tokio::time::Instant;

use crate::queueing::{Queueing, cores};

/// The least number of requests that may be under way, for each core: with fewer, a process that waits for others would
/// refuse what it has the time for.
const LEAST_A_CORE: usize = 32;
/// Of that, a process is left one part in so many whose requests wait for its own cores.
const LESS: usize = 4;
/// How many may be under way before anything is known.
const FIRST: usize = 256;
/// How often the limit is set, and how many answers that takes, unless they do not come for so long.
const WINDOW: Duration = Duration::from_millis(20);
const ANSWERS: u32 = 10;
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
/// So many slow windows in a row are more than a disk that takes a breath; and for so long after a request was refused, one
/// is enough.
const PATIENCE: u32 = 3;
const STRICT: Duration = Duration::from_secs(1);
/// A request that finds no more than this many others under way shows how long its route takes.
const CALM: usize = 2;
/// How many of these must have been seen, and how many are remembered about.
const KNOWN: u32 = 200;
const REMEMBERED: u32 = 4_096;
/// Up to 2^24 microseconds.
const PLACES: usize = 48;
/// The bounds of a budget; before a route is known, it has the longest.
const SHORTEST: Duration = Duration::from_millis(3);
const LONGEST: Duration = Duration::from_secs(1);

/// Lets in requests of one kind.
pub(crate) struct Admission {
    bounds: (usize, usize),
    queueing: Arc<Queueing>,
    shown: &'static Gauge,
    state: Mutex<State>,
}

struct State {
    active: usize,
    limit: usize,
    began: Instant,
    peak: usize,
    refused: bool,
    /// How many windows in a row were slow.
    slow: u32,
    strict_until: Option<Instant>,
    answers: u32,
    took: Duration,
    budgets: Duration,
    /// How long requests wait now before they are seen.
    queueing: Duration,
    routes: HashMap<String, Route>,
}

/// How long requests of a route take while there is little to do, by powers of the square root of two.
struct Route {
    seen: u32,
    counts: [u32; PLACES],
}

/// A request that was let in; it leaves when it is dropped.
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    route: String,
    entered: Instant,
    calm: bool,
    /// How long it was set aside; since when it is.
    aside: Mutex<(Duration, Option<Instant>)>,
}

tokio::task_local! {
    static ADMITTED: Arc<Admitted>;
}

/// Awaits what has a bound of its own: meanwhile the request does not count as one that is under way, and this time is not
/// held against it.
pub async fn set_aside<F: Future>(waiting: F) -> F::Output {
    let _back = ADMITTED
        .try_with(|admitted| Aside::begin(Arc::clone(admitted)))
        .ok();
    waiting.await
}

struct Aside(Arc<Admitted>);

impl Aside {
    fn begin(admitted: Arc<Admitted>) -> Self {
        admitted.admission.lock().active -= 1;
        lock(&admitted.aside).1 = Some(Instant::now());
        Self(admitted)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let mut aside = lock(&self.0.aside);
        if let Some(since) = aside.1.take() {
            aside.0 += since.elapsed();
        }
        drop(aside);
        self.0.admission.lock().active += 1;
    }
}

impl Admission {
    pub(crate) fn new(most: usize, queueing: Arc<Queueing>, shown: &'static Gauge) -> Arc<Self> {
        let limit = FIRST.min(most);
        let least = (LEAST_A_CORE * cores()).min(FIRST).min(most);
        shown.set(limit as i64);
        Arc::new(Self {
            bounds: (least, most),
            queueing,
            shown,
            state: Mutex::new(State::new(limit, Instant::now())),
        })
    }

    /// Lets a request in, if there is room.
    pub(crate) fn enter(self: &Arc<Self>, route: &str) -> Option<Arc<Admitted>> {
        let calm = {
            let mut state = self.lock();
            state.queueing = self.queueing.waited();
            state.enter()?
        };
        Some(Arc::new(Admitted {
            admission: Arc::clone(self),
            route: route.to_owned(),
            entered: Instant::now(),
            calm,
            aside: Mutex::default(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Admitted {
    /// Runs what the request asks for.
    pub(crate) async fn run<F: Future>(self: Arc<Self>, request: F) -> F::Output {
        ADMITTED.scope(self, request).await
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let took = self.entered.elapsed().saturating_sub(lock(&self.aside).0);
        let admission = &self.admission;
        let mut state = admission.lock();
        if state.leave(
            &self.route,
            took,
            self.calm,
            Instant::now(),
            admission.bounds,
        ) {
            admission.shown.set(state.limit as i64);
        }
    }
}

impl State {
    fn new(limit: usize, now: Instant) -> Self {
        Self {
            active: 0,
            limit,
            began: now,
            peak: 0,
            refused: false,
            slow: 0,
            strict_until: None,
            answers: 0,
            took: Duration::ZERO,
            budgets: Duration::ZERO,
            queueing: Duration::ZERO,
            routes: HashMap::new(),
        }
    }

    /// Lets a request in if there is room, and tells whether hardly any other is under way.
    fn enter(&mut self) -> Option<bool> {
        if self.active >= self.limit {
            self.refused = true;
            return None;
        }
        let calm = self.active <= CALM && self.queueing < SHORTEST / 10;
        self.active += 1;
        self.peak = self.peak.max(self.active);
        Some(calm)
    }

    /// A request that took so long is answered. True if the limit was looked at.
    fn leave(
        &mut self,
        route: &str,
        took: Duration,
        calm: bool,
        now: Instant,
        bounds: (usize, usize),
    ) -> bool {
        self.active -= 1;
        self.note(route, took, calm);
        let window = now.saturating_duration_since(self.began);
        let due = (window >= WINDOW && self.answers >= ANSWERS) || window >= LONGEST_WINDOW;
        if due {
            self.judge(window, now, bounds);
            self.began = now;
        }
        due
    }

    fn note(&mut self, route: &str, took: Duration, calm: bool) {
        if !self.routes.contains_key(route) {
            self.routes.insert(route.to_owned(), Route::new());
        }
        let Some(route) = self.routes.get_mut(route) else {
            return;
        };
        if calm {
            route.note(took);
        }
        self.answers += 1;
        self.took += took;
        self.budgets += route.budget();
    }

    fn judge(&mut self, window: Duration, now: Instant, (least, most): (usize, usize)) {
        if self.refused {
            (self.refused, self.strict_until) = (false, Some(now + STRICT));
        }
        let strict = self.strict_until.is_some_and(|until| now < until);
        let queued = self.queueing * self.answers;
        let slow = self.took + queued > self.budgets;
        self.slow = if slow { self.slow + 1 } else { 0 };
        if slow && (strict || self.slow >= PATIENCE) {
            // Little's law: what may be under way is what leaves in a second, times how long it may take.
            let left = self.budgets.saturating_sub(queued);
            let fitting = (left.as_secs_f64() / window.as_secs_f64()) as usize;
            // Where requests wait for the cores and for nobody else, fewer of them keep the cores as busy.
            let least = if queued * 2 > self.budgets {
                least.div_ceil(LESS)
            } else {
                least
            };
            self.limit = fitting.max(least).min(self.limit);
        } else if !slow && (self.peak * 10 >= self.limit * 9 || self.limit < FIRST) {
            // Room is made where it is asked for, or was taken away in a time that is over.
            self.limit = (self.limit + self.limit / 10 + 1).min(most);
        }
        self.peak = self.active;
        self.answers = 0;
        self.took = Duration::ZERO;
        self.budgets = Duration::ZERO;
    }
}

impl Route {
    fn new() -> Self {
        Self {
            seen: 0,
            counts: [0; PLACES],
        }
    }

    fn note(&mut self, took: Duration) {
        let place = (took.as_micros().max(1) as f64).log2() * 2.0;
        let place = (place as usize).min(self.counts.len() - 1);
        self.counts[place] += 1;
        self.seen += 1;
        if self.seen >= REMEMBERED {
            // What was seen long ago counts for less.
            self.seen = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.seen += *count;
            }
        }
    }

    /// As long as the slowest of a hundred takes while there is little to do.
    fn budget(&self) -> Duration {
        if self.seen < KNOWN {
            return LONGEST;
        }
        let (mut beyond, allowed) = (0, self.seen / 100);
        let slow = self
            .counts
            .iter()
            .enumerate()
            .rev()
            .find_map(|(place, count)| {
                beyond += count;
                (beyond > allowed).then_some(place)
            });
        let upper = 2_f64.powf((slow.unwrap_or_default() + 1) as f64 / 2.0);
        Duration::from_micros(upper as u64).clamp(SHORTEST, LONGEST)
    }
}

// What is guarded is whole after every statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
