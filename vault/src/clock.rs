//! The one door of this crate to the clock, for one question alone: which master key is current. It refuses to be asked
//! for any rule about people; those take `now` from their callers.

use chrono::{DateTime, Utc};

/// Now.
#[expect(clippy::disallowed_methods, reason = "the door")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}
