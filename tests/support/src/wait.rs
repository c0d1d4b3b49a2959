//! Waiting on a condition with a deadline, for async tests and for this crate's own blocking code.
//!
//! Refuses: to wait without a bound, and to fail without saying where and on what it waited.

use std::fmt::Debug;
use std::panic::Location;
use std::process::Command;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a check may answer: `bool`, `Option<T>` or `Result<T, E>`.
pub trait Condition {
    /// What the wait gives once the condition is met.
    type Met;

    /// The value when met, else what was seen instead.
    fn met(self) -> Result<Self::Met, String>;
}

impl Condition for bool {
    type Met = ();

    fn met(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

impl<T> Condition for Option<T> {
    type Met = T;

    fn met(self) -> Result<T, String> {
        self.ok_or_else(|| "None".into())
    }
}

impl<T, E: Debug> Condition for Result<T, E> {
    type Met = T;

    fn met(self) -> Result<T, String> {
        self.map_err(|error| format!("Err({error:?})"))
    }
}

/// Asks `check` again and again until it is met, and gives its value.
///
/// ```no_run
/// # async fn demo() {
/// use std::time::Duration;
/// let row = test_support::eventually(Duration::from_secs(5), || async { Some(42) }).await;
/// # }
/// ```
///
/// # Panics
/// When `within` has passed first; the message names the caller's line and the last thing seen.
#[track_caller]
pub fn eventually<F, A>(
    within: Duration,
    mut check: F,
) -> impl Future<Output = <A::Output as Condition>::Met>
where
    F: FnMut() -> A,
    A: Future<Output: Condition>,
{
    let caller = Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + within;
        let mut pause = FIRST_PAUSE;
        let mut seen = "nothing: the first check did not answer".to_owned();
        loop {
            match tokio::time::timeout_at(deadline, check()).await {
                Ok(answer) => match answer.met() {
                    Ok(value) => return value,
                    Err(other) => seen = other,
                },
                Err(tokio::time::error::Elapsed { .. }) => panic!(
                    "{caller}: not met within {within:?}, and the last check hung; before it: {seen}"
                ),
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{caller}: not met within {within:?}; last seen: {seen}"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The blocking form: true once `check` is, false when `within` has passed.
pub(crate) fn becomes_true(within: Duration, mut check: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    let mut pause = FIRST_PAUSE;
    loop {
        if check() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs blocking work off the async threads, and passes its panic on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("the test's runtime ended first: {error}"),
        },
    }
}

/// Runs a command to its end, and gives what it printed.
pub(crate) fn succeeds(mut command: Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}{complaint}",
        output.status
    );
    printed.trim_end().to_owned()
}
