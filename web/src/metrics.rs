//! What the HTTP server tells of itself. It refuses paths as labels: a route is its template, and what has no route is one.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use instruments::metrics::{Cells, Family, Gauge, Metrics, Observed};

static REQUESTS: Family<AtomicU64> = Family::new(
    "showcaller_http_requests_total",
    "Requests by method, route and status.",
    &["method", "route", "status"],
);
static TOOK: Family<Cells> = Family::new(
    "showcaller_http_request_seconds",
    "From a request's headers until its answer begins, by method and route.",
    &["method", "route"],
);
pub(crate) static IN_FLIGHT: Gauge = Gauge::new(
    "showcaller_http_requests_in_flight",
    "Requests that are under way.",
);
pub(crate) static CONNECTIONS: Gauge = Gauge::new(
    "showcaller_http_connections",
    "Connections of clients that are open.",
);
pub(crate) static SHED: Family<AtomicU64> = Family::new(
    "showcaller_http_shed_total",
    "Requests that were answered with 503 at once, since as many were under way as can be answered in time, by kind: \
     command, query.",
    &["kind"],
);
pub(crate) static LIMITS: [Gauge; 2] = [
    Gauge::new(
        "showcaller_http_command_limit",
        "Commands that may be under way at once, as it is judged now.",
    ),
    Gauge::new(
        "showcaller_http_query_limit",
        "Queries that may be under way at once, as it is judged now.",
    ),
];
pub(crate) static DEPENDENCY: Observed = Observed::gauge(
    "showcaller_dependency_up",
    "1 if the dependency can be reached, else 0; as /health/ready says.",
    &["dependency"],
);

/// The metrics of any process that serves HTTP.
pub static METRICS: Metrics = &[
    &REQUESTS,
    &TOOK,
    &IN_FLIGHT,
    &CONNECTIONS,
    &SHED,
    &LIMITS[0],
    &LIMITS[1],
    &DEPENDENCY,
];

/// A request was answered.
pub(crate) fn answered(method: &Method, route: &str, status: StatusCode, time: Duration) {
    let method = match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "(other)",
    };
    REQUESTS.add(&[method, route, status.as_str()]);
    TOOK.took(&[method, route], time);
}
