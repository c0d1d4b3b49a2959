//! What command-api tells of itself.

use std::sync::atomic::AtomicU64;

use instruments::metrics::{Counter, Family, Metrics};

static LOG_INS: Family<AtomicU64> = Family::new(
    "showcaller_log_ins_total",
    "Log-ins by outcome: ok, wrong, code_required, throttled (an address that waits after failures), rate_limited.",
    &["outcome"],
);
static MAILS: Family<AtomicU64> = Family::new(
    "showcaller_mails_total",
    "Mails by outcome: sent, refused (for good), deferred (tried again).",
    &["outcome"],
);
pub(crate) static CONFLICTS: Counter = Counter::new(
    "showcaller_command_conflicts_total",
    "Times that a command started over, since another process had written the same stream.",
);

/// The metrics of command-api.
pub static METRICS: Metrics = &[&LOG_INS, &MAILS, &CONFLICTS];

pub(crate) fn log_in(outcome: &str) {
    LOG_INS.add(&[outcome]);
}

pub(crate) fn mail(outcome: &str) {
    MAILS.add(&[outcome]);
}
