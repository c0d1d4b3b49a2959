//! What every crate measures with: counters, gauges and histograms that Prometheus reads, and spans that belong to W3C
//! traces. It depends on nothing, so that everything can depend on it. It refuses to listen and to send: whoever owns the
//! process asks it for [`metrics::render`] and [`trace::take`].

mod clock;
pub mod metrics;
pub mod process;
pub mod trace;
