use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::histogram::Cells;
use super::*;

static DONE: Counter = Counter::new("done_total", "What was done.");
static OPEN: Gauge = Gauge::new("open", "What is open.");
static TOOK: Histogram = Histogram::new("took_seconds", "How long.", LATENCIES);
static ASKED: Family<AtomicU64> = Family::new("asked_total", "Who asked.", &["by", "for"]);
static ROUTES: Family<Cells> = Family::new("route_seconds", "How long.", &["route"]);
static DEPTH: Observed = Observed::gauge("depth", "How deep.", &["queue"]);
static ALL: Metrics = &[&DONE, &OPEN, &TOOK, &ASKED, &ROUTES, &DEPTH];

#[test]
fn a_page_says_what_was_counted() {
    DONE.add(3);
    let held = OPEN.hold();
    OPEN.hold();
    TOOK.took(Duration::from_millis(5));
    TOOK.took(Duration::from_mins(1));
    ASKED.add(&["a \"b\"\\\n", "c"]);
    ROUTES.took(&["/v1/{x}"], Duration::from_micros(200));
    let mut observations = Observations::default();
    observations.note(&DEPTH, &["3"], 7.0);
    let page = render(&[ALL], &observations);
    drop(held);
    for line in [
        "# HELP done_total What was done.",
        "# TYPE done_total counter",
        "done_total 3",
        "open 1",
        "took_seconds_bucket{le=\"0.0025\"} 0",
        "took_seconds_bucket{le=\"0.005\"} 1",
        "took_seconds_bucket{le=\"10\"} 1",
        "took_seconds_bucket{le=\"+Inf\"} 2",
        "took_seconds_sum 60.005",
        "took_seconds_count 2",
        "asked_total{by=\"a \\\"b\\\"\\\\\\n\",for=\"c\"} 1",
        "route_seconds_bucket{route=\"/v1/{x}\",le=\"0.0005\"} 1",
        "route_seconds_count{route=\"/v1/{x}\"} 1",
        "depth{queue=\"3\"} 7",
    ] {
        assert!(
            page.lines().any(|found| found == line),
            "{line} is not in\n{page}"
        );
    }
}

#[test]
fn a_family_that_is_full_counts_the_rest_together() {
    static MANY: Family<AtomicU64> = Family::new("many_total", "Many.", &["name"]);
    static MEMBERS: Metrics = &[&MANY];
    for number in 0..5_000 {
        MANY.add(&[&number.to_string()]);
    }
    assert_eq!(MANY.len(), 2_001);
    let page = render(&[MEMBERS], &Observations::default());
    assert!(page.contains("many_total{name=\"(other)\"} 3000"), "{page}");
}
