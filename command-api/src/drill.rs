//! Crash drills: in debug builds, a test may name one point at which the process dies as if it was killed. In release
//! builds there is nothing of it.

/// Every point, by the name that is given to `SHOWCALLER_TEST_CRASH_AT`: what was going on, and what had just been done.
#[doc(hidden)]
pub const CRASH_POINTS: &[&str] = &[
    "register.key",
    "register.credential",
    "register.claim",
    "register.intent",
    "register.event",
    "register.challenge",
    "register.mail",
    "send.mail",
    "verify.claim",
    "verify.event",
    "change-email.intent",
    "change-email.event",
    "change-email.challenge",
    "change-email.mail",
    "change-email.notice",
    "confirm-email.claim",
    "confirm-email.event",
    "confirm-email.notice",
    "forgot-password.intent",
    "forgot-password.event",
    "forgot-password.challenge",
    "forgot-password.mail",
    "reset-password.credential",
    "reset-password.event",
    "reset-password.old-credentials",
    "reset-password.sessions-in-vault",
    "reset-password.sessions",
    "reset-password.notice",
    "log-in.session",
    "log-in.event",
    "close.intent",
    "close.event",
    "close.sessions-in-vault",
    "close.sessions",
    "close.keys",
    "erase.intent",
    "erase.ledger",
    "erase.event",
    "erase.sessions-in-vault",
    "erase.sessions",
    "erase.keys",
    "erase.vault",
    "erase.intent-done",
];

#[cfg(debug_assertions)]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Lets this process die when it comes to the point of this name.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub fn crash_at(name: &str) {
    assert!(
        CRASH_POINTS.contains(&name),
        "there is no crash point {name:?}"
    );
    ARMED.get_or_init(|| name.to_owned());
}

/// Dies here, if a test says so.
#[inline]
pub(crate) fn crash_point(work: &str, done: &str) {
    #[cfg(debug_assertions)]
    {
        let is_it = |name: &str| {
            name.split_once('.')
                .is_some_and(|(of, after)| of == work && after == done)
        };
        // Unlisted, no drill would come here.
        debug_assert!(
            work.is_empty() || CRASH_POINTS.iter().any(|name| is_it(name)),
            "the crash point {work}.{done} is not listed"
        );
        if ARMED.get().is_some_and(|armed| is_it(armed)) {
            std::process::abort();
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = (work, done);
}
