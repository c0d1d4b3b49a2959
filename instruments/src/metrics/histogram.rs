//! Counts by size. It refuses floating point while it counts: durations are whole microseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exposition::Page;
use super::family::Member;
use super::{About, Kind, Metric, about};

const MOST_BOUNDS: usize = 15;
const MICROS: f64 = 1e6;

/// The bounds of durations, in microseconds: from half a millisecond to ten seconds.
pub const LATENCIES: Bounds = Bounds {
    upper: &[
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 5_000_000, 10_000_000,
    ],
    unit: MICROS,
};

/// The bounds of numbers of things.
pub const SIZES: Bounds = Bounds {
    upper: &[
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000,
    ],
    unit: 1.0,
};

/// Upper bounds, and how many of what is counted are one of what is shown.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    upper: &'static [u64],
    unit: f64,
}

/// What a histogram has counted.
#[derive(Debug)]
pub struct Cells {
    bounds: Bounds,
    /// One for each bound, and one for what is beyond the last.
    counts: [AtomicU64; MOST_BOUNDS + 1],
    sum: AtomicU64,
}

impl Cells {
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; MOST_BOUNDS + 1],
            sum: AtomicU64::new(0),
        }
    }

    /// One that took so long.
    pub fn took(&self, time: Duration) {
        self.count(time.as_micros() as u64);
    }

    fn count(&self, size: u64) {
        let place = self.bounds.upper.partition_point(|upper| *upper < size);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(size, Ordering::Relaxed);
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self::new(LATENCIES)
    }
}

impl Member for Cells {
    const KIND: Kind = Kind::Histogram;

    fn write(&self, page: &mut Page<'_>, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut sum = 0;
        for (place, count) in self
            .counts
            .iter()
            .enumerate()
            .take(self.bounds.upper.len() + 1)
        {
            sum += count.load(Ordering::Relaxed);
            let bound = match self.bounds.upper.get(place) {
                Some(upper) => (*upper as f64 / self.bounds.unit).to_string(),
                None => "+Inf".to_owned(),
            };
            let labels = format!("{labels}{comma}le=\"{bound}\"");
            page.sample("_bucket", &labels, sum as f64);
        }
        let total = self.sum.load(Ordering::Relaxed) as f64 / self.bounds.unit;
        page.sample("_sum", labels, total);
        page.sample("_count", labels, sum as f64);
    }
}

/// Counts by size: of durations in seconds, or of numbers of things.
#[derive(Debug)]
pub struct Histogram {
    about: About,
    cells: Cells,
}

impl Histogram {
    /// Of nothing yet.
    pub const fn new(name: &'static str, help: &'static str, bounds: Bounds) -> Self {
        Self {
            about: about(name, Kind::Histogram, help, &[]),
            cells: Cells::new(bounds),
        }
    }

    /// One that took so long.
    pub fn took(&self, time: Duration) {
        self.cells.took(time);
    }

    /// One of this size.
    pub fn size(&self, size: usize) {
        self.cells.count(size as u64);
    }
}

impl Metric for Histogram {
    fn about(&self) -> &About {
        &self.about
    }

    fn write(&self, page: &mut Page<'_>) {
        self.cells.write(page, "");
    }
}
