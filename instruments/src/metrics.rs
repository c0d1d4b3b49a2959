//! Numbers that a process keeps of itself. Each is a `static` beside the code that it tells of, with its name and its help,
//! and costs an atomic addition or two when it is written. It refuses labels whose values anybody else makes up: a label
//! is a route's template, a read model's name, an outcome; never an id.

mod exposition;
mod family;
mod histogram;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

pub use exposition::{Observations, render};
pub use family::Family;
pub use histogram::{Cells, Histogram, LATENCIES, SIZES};

use exposition::Page;

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 when the process begins.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// Its name in the text format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric is called, and what it says.
#[derive(Debug)]
pub struct About {
    /// Its name, with the unit last: `_seconds`, `_bytes`, `_total` for counters.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// One line.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

/// Something that can be shown to Prometheus.
pub trait Metric: Sync {
    /// What it is.
    fn about(&self) -> &About;

    /// Writes what it knows by itself.
    #[doc(hidden)]
    fn write(&self, page: &mut Page<'_>);
}

/// The metrics of a crate.
pub type Metrics = &'static [&'static dyn Metric];

/// A number that only rises.
#[derive(Debug)]
pub struct Counter {
    about: About,
    value: AtomicU64,
}

impl Counter {
    /// At 0.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            about: about(name, Kind::Counter, help, &[]),
            value: AtomicU64::new(0),
        }
    }

    /// As many more.
    pub fn add(&self, more: u64) {
        self.value.fetch_add(more, Ordering::Relaxed);
    }
}

impl Metric for Counter {
    fn about(&self) -> &About {
        &self.about
    }

    fn write(&self, page: &mut Page<'_>) {
        page.sample("", "", self.value.load(Ordering::Relaxed) as f64);
    }
}

impl family::Member for AtomicU64 {
    const KIND: Kind = Kind::Counter;

    fn write(&self, page: &mut Page<'_>, labels: &str) {
        page.sample("", labels, self.load(Ordering::Relaxed) as f64);
    }
}

/// A number that goes up and down.
#[derive(Debug)]
pub struct Gauge {
    about: About,
    value: AtomicI64,
}

impl Gauge {
    /// At 0.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            about: about(name, Kind::Gauge, help, &[]),
            value: AtomicI64::new(0),
        }
    }

    /// From now on it is this.
    pub fn set(&self, value: i64) {
        self.value.store(value, Ordering::Relaxed);
    }

    /// One more until the guard is dropped.
    pub fn hold(&'static self) -> Held {
        self.value.fetch_add(1, Ordering::Relaxed);
        Held(self)
    }
}

/// One of what a gauge counts.
#[derive(Debug)]
pub struct Held(&'static Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.value.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metric for Gauge {
    fn about(&self) -> &About {
        &self.about
    }

    fn write(&self, page: &mut Page<'_>) {
        page.sample("", "", self.value.load(Ordering::Relaxed) as f64);
    }
}

/// What somebody else keeps, and tells when it is asked for; see [`Observations`].
#[derive(Debug)]
pub struct Observed(About);

impl Observed {
    /// A gauge with these labels.
    pub const fn gauge(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self(about(name, Kind::Gauge, help, labels))
    }

    /// A counter with these labels.
    pub const fn counter(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self(about(name, Kind::Counter, help, labels))
    }
}

impl Metric for Observed {
    fn about(&self) -> &About {
        &self.0
    }

    fn write(&self, _page: &mut Page<'_>) {}
}

const fn about(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
) -> About {
    About {
        name,
        kind,
        help,
        labels,
    }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
