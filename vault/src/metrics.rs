//! What the vault tells of itself.

use instruments::metrics::{Counter, Gauge, Histogram, LATENCIES, Metrics};

pub(crate) static KEY_QUERIES: Counter = Counter::new(
    "showcaller_data_key_queries_total",
    "Queries for data keys; keys that are remembered need none.",
);
pub(crate) static HASHING: Gauge = Gauge::new(
    "showcaller_password_hashes_waiting",
    "Passwords that are hashed, or wait for a core.",
);
pub(crate) static HASH: Histogram = Histogram::new(
    "showcaller_password_hash_seconds",
    "Hashing one password, waiting for a core included.",
    LATENCIES,
);
pub(crate) static REFUSED: Counter = Counter::new(
    "showcaller_password_hashes_refused_total",
    "Passwords that were not hashed, since too many waited.",
);

/// The metrics of a process that opens the vault.
pub static METRICS: Metrics = &[&KEY_QUERIES, &HASHING, &HASH, &REFUSED];
