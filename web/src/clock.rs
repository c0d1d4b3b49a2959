//! The one door of this crate to the clock. It refuses to be asked from deep inside: what is judged by time takes it as a
//! parameter.

use std::sync::Arc;

use chrono::{DateTime, Utc};

/// Tells the time.
pub(crate) type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// The clock of this machine.
#[expect(clippy::disallowed_methods, reason = "the door")]
pub(crate) fn system() -> Clock {
    Arc::new(Utc::now)
}
