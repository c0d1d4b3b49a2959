//! The one door of this crate to the clock, for two questions alone: when the projector observed itself, and which rows
//! are due. It refuses to be asked by projections: rows of events know only when the events were recorded.

use chrono::{DateTime, Utc};

/// Now.
#[expect(clippy::disallowed_methods, reason = "the door")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}
