//! What the operating system says of this process (Linux: `/proc/self`), under the names that every Prometheus client
//! uses. It refuses to fail: what cannot be read is left out.

use std::fs;

use crate::metrics::{Metrics, Observations, Observed};

static RESIDENT: Observed = Observed::gauge(
    "process_resident_memory_bytes",
    "Memory that this process holds.",
    &[],
);
static CPU: Observed = Observed::counter(
    "process_cpu_seconds_total",
    "Processor time that this process has used.",
    &[],
);
static OPEN: Observed = Observed::gauge("process_open_fds", "Open files and sockets.", &[]);
static MOST: Observed = Observed::gauge(
    "process_max_fds",
    "How many files and sockets may be open.",
    &[],
);
static THREADS: Observed = Observed::gauge("process_threads", "Threads of this process.", &[]);
static STARTED: Observed = Observed::gauge(
    "process_start_time_seconds",
    "When this process began, in seconds since 1970.",
    &[],
);

/// The metrics of any process.
pub static METRICS: Metrics = &[&RESIDENT, &CPU, &OPEN, &MOST, &THREADS, &STARTED];

/// Linux counts processor time in hundredths of a second everywhere.
const TICKS: f64 = 100.0;
const KIB: f64 = 1_024.0;

/// Notes what can be read.
pub fn observe(observations: &mut Observations) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        observations.note(&RESIDENT, &[], kib * KIB);
    }
    if let Some(threads) = field("Threads:") {
        observations.note(&THREADS, &[], threads);
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in brackets, which may hold anything.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let number = |place: usize| {
        fields
            .get(place - 3)
            .and_then(|text| text.parse::<f64>().ok())
    };
    if let (Some(user), Some(system)) = (number(14), number(15)) {
        observations.note(&CPU, &[], (user + system) / TICKS);
    }
    if let (Some(started), Some(boot)) = (number(22), boot_time()) {
        observations.note(&STARTED, &[], boot + started / TICKS);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        observations.note(&OPEN, &[], open.count() as f64);
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let most = limits.lines().find_map(|line| {
        let rest = line.strip_prefix("Max open files")?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    if let Some(most) = most {
        observations.note(&MOST, &[], most);
    }
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::render;

    #[test]
    fn every_metric_of_a_process_is_known_on_linux() {
        let mut observations = Observations::default();
        observe(&mut observations);
        let page = render(&[METRICS], &observations);
        for metric in METRICS {
            let name = metric.about().name;
            assert!(
                page.lines()
                    .any(|line| line.starts_with(&format!("{name} "))),
                "{page}"
            );
        }
    }
}
