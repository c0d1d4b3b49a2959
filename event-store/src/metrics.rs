//! What appending tells of itself. Written once a batch, or by the one task that answers.

use instruments::metrics::{Counter, Histogram, LATENCIES, Metrics, SIZES};

pub(crate) static APPENDED: Counter = Counter::new(
    "showcaller_events_appended_total",
    "Events that this process appended to the log.",
);
pub(crate) static APPEND: Histogram = Histogram::new(
    "showcaller_append_seconds",
    "From an append's being handed over until its answer, waiting for others included.",
    LATENCIES,
);
pub(crate) static COMMIT: Histogram = Histogram::new(
    "showcaller_append_commit_seconds",
    "One commit of all the appends that waited.",
    LATENCIES,
);
pub(crate) static BATCH: Histogram = Histogram::new(
    "showcaller_append_batch_size",
    "Appends that were committed together.",
    SIZES,
);
pub(crate) static FAULTS: Counter = Counter::new(
    "showcaller_append_faults_total",
    "Commits that failed, or whose answer was lost; each is tried again.",
);

/// The metrics of a process that appends.
pub static METRICS: Metrics = &[&APPENDED, &APPEND, &COMMIT, &BATCH, &FAULTS];
