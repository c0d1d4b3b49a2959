//! What query-api tells of itself.

use std::sync::atomic::AtomicU64;

use instruments::metrics::{Family, Histogram, LATENCIES, Metrics, Observations, Observed};

use crate::QueryState;

static HITS: Observed = Observed::counter(
    "showcaller_query_cache_hits_total",
    "Queries that were answered from memory.",
    &[],
);
static MISSES: Observed = Observed::counter(
    "showcaller_query_cache_misses_total",
    "Queries that were answered by the database.",
    &[],
);
static SHARED: Observed = Observed::counter(
    "showcaller_query_cache_shared_total",
    "Those of the misses that somebody else's question answered.",
    &[],
);
static LISTENERS: Observed = Observed::gauge(
    "showcaller_live_listeners",
    "Live answers that are open.",
    &[],
);
pub(crate) static WAITS: Family<AtomicU64> = Family::new(
    "showcaller_token_waits_total",
    "Queries that had to wait for what their position token names, by outcome: reached, or the error's code.",
    &["outcome"],
);
pub(crate) static WAITED: Histogram = Histogram::new(
    "showcaller_token_wait_seconds",
    "How long these queries waited.",
    LATENCIES,
);

/// The metrics of query-api.
pub static METRICS: Metrics = &[&HITS, &MISSES, &SHARED, &LISTENERS, &WAITS, &WAITED];

/// Notes what the query routes count.
pub fn observe(state: &QueryState, observations: &mut Observations) {
    let counts = state.cache_counts();
    observations.note(&HITS, &[], counts.hits as f64);
    observations.note(&MISSES, &[], counts.misses as f64);
    observations.note(&SHARED, &[], counts.shared as f64);
    observations.note(&LISTENERS, &[], state.listeners_open() as f64);
}
