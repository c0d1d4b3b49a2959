//! What stands around every route: limits, time-outs, security headers, tracing, and errors in one form. It refuses to
//! record query strings, tokens and bodies.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::{FutureExt, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower_http::limit::RequestBodyLimitLayer;
use tracing::Instrument;
use tracing::field::Empty;

use crate::admission::Admission;
use crate::metrics;
use crate::problem::{About, MEDIA_TYPE};
use crate::queueing::Queueing;
use crate::{Problem, TraceContext, codes};

/// Probes are answered however busy the process is.
const HEALTH: &str = "/health/";

/// The largest body that is read to its end only to be refused, in bytes, and how long that may take.
const TAKEN_IN_BYTES: usize = 4 << 20;
const TAKEN_IN_TIME: Duration = Duration::from_secs(5);

/// Set on every answer that does not bring its own.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        STRICT_TRANSPORT_SECURITY,
        "max-age=63072000; includeSubDomains",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];

/// The bounds that [`harden`] sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, in bytes; a larger one is 413.
    pub body_bytes: usize,
    /// How long a request may take until its answer begins; after that it is 503.
    pub request_time: Duration,
    /// How many requests may be under way at once; the next one is 503. Bodies of answers do not count. Fewer may while they
    /// take longer than they do when there is little to do.
    pub concurrent_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            request_time: Duration::from_secs(30),
            concurrent_requests: 1024,
        }
    }
}

struct Guard {
    request_time: Duration,
    permits: Semaphore,
    queueing: Arc<Queueing>,
    commands: Arc<Admission>,
    queries: Arc<Admission>,
}

/// Puts the limits, headers, tracing and the form of errors around all routes added so far, and answers for paths and
/// methods that have none. Call it last, once.
pub fn harden(router: Router, limits: Limits) -> Router {
    let queueing = Arc::new(Queueing::new());
    let admission =
        |shown| Admission::new(limits.concurrent_requests, Arc::clone(&queueing), shown);
    let guard = Guard {
        request_time: limits.request_time,
        permits: Semaphore::new(limits.concurrent_requests),
        commands: admission(&metrics::LIMITS[0]),
        queries: admission(&metrics::LIMITS[1]),
        queueing,
    };
    router
        // Counts the bytes as they come, whoever reads them and whatever Content-Length says.
        .layer(RequestBodyLimitLayer::new(limits.body_bytes))
        .layer(from_fn_with_state(
            limits.body_bytes,
            take_in_what_is_too_large,
        ))
        .layer(from_fn_with_state(Arc::new(guard), around))
}

/// Reads a body that says itself that it is too large, within bounds, before it is refused: a connection closed over
/// unread bytes is reset, and the client may lose the answer that says why.
async fn take_in_what_is_too_large(
    State(most): State<usize>,
    request: Request,
    next: Next,
) -> Response {
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_none_or(|length| length <= most) {
        return next.run(request).await;
    }
    if length.is_some_and(|length| length <= TAKEN_IN_BYTES) {
        let mut body = request.into_body().into_data_stream();
        let read = async { while let Some(Ok(_)) = body.next().await {} };
        // Too slow a client loses the answer, and nothing else.
        let _ = tokio::time::timeout(TAKEN_IN_TIME, read).await;
    }
    Problem::of_status(StatusCode::PAYLOAD_TOO_LARGE).into_response()
}

async fn around(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let (began, _in_flight) = (Instant::now(), metrics::IN_FLIGHT.hold());
    guard.queueing.note();
    let trace = TraceContext::of(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("(none)", MatchedPath::as_str);
    let method = request.method().clone();
    let traced = trace.span(&method, route);
    let span = tracing::info_span!(
        "request",
        %method,
        route,
        trace_id = %trace.trace_id,
        span_id = %format_args!("{:016x}", trace.place.span),
        status = Empty,
    );
    let path = request.uri().path().to_owned();
    let query = matches!(method, Method::GET | Method::HEAD);
    request.extensions_mut().insert(trace.clone());
    let mut response = guard
        .admit(request, next, &path, route)
        .instrument(span.clone())
        .await;

    let about = About {
        path: &path,
        trace_id: &trace.trace_id,
        query,
    };
    response = in_one_form(response, about);
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    metrics::answered(&method, route, response.status(), began.elapsed());
    let status = response.status().as_u16();
    if let Some(mut traced) = traced {
        traced.say("http.response.status_code", u64::from(status));
        if response.status().is_server_error() {
            traced.fail();
        }
    }
    span.record("status", status);
    span.in_scope(|| tracing::debug!(status, "answered"));
    response
}

impl Guard {
    /// Runs the request if there is room, within its time; panics become faults.
    async fn admit(&self, request: Request, next: Next, path: &str, route: &str) -> Response {
        if path.starts_with(HEALTH) {
            return self.run(request, next).await;
        }
        let (admission, kind) = match *request.method() {
            Method::GET | Method::HEAD => (&self.queries, "query"),
            _ => (&self.commands, "command"),
        };
        let (Ok(_permit), Some(admitted)) = (self.permits.try_acquire(), admission.enter(route))
        else {
            metrics::SHED.add(&[kind]);
            let detail = "As many requests as this process takes are under way: try again.";
            return busy(codes::OVERLOADED, detail);
        };
        admitted.run(self.run(request, next)).await
    }

    async fn run(&self, request: Request, next: Next) -> Response {
        let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
        match tokio::time::timeout(self.request_time, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => {
                let text = panic
                    .downcast_ref::<&str>()
                    .copied()
                    .or(panic.downcast_ref::<String>().map(String::as_str));
                axum::response::IntoResponse::into_response(Problem::fault(format_args!(
                    "a handler panicked: {}",
                    text.unwrap_or("(no text)")
                )))
            }
            Err(_) => {
                tracing::warn!("a request ran out of time");
                let detail = "The request took too long. If it was a command, it may still be carried out: \
                              send it again with the same Idempotency-Key.";
                busy(codes::TIMED_OUT, detail)
            }
        }
    }
}

fn busy(code: &'static str, detail: &str) -> Response {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).with_retry_after(1);
    problem.into_response()
}

/// Errors leave as problem details, with what is known of the request: our own, and those that routing, extractors and
/// layers answer in plain text.
fn in_one_form(mut response: Response, about: About<'_>) -> Response {
    let status = response.status();
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if (status.is_client_error() || status.is_server_error()) && !is_json(&response) => {
            Problem::of_status(status)
        }
        None => return response,
    };
    let mut formed = problem.respond(Some(about));
    // What else the answer carries stays, like Allow on 405, or a token that a layer added.
    for (name, value) in response.headers() {
        if !matches!(*name, CONTENT_TYPE | CONTENT_LENGTH) && !formed.headers().contains_key(name) {
            formed.headers_mut().append(name.clone(), value.clone());
        }
    }
    formed
}

fn is_json(response: &Response) -> bool {
    let media = response
        .headers()
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    media.starts_with(b"application/json") || media.starts_with(MEDIA_TYPE.as_bytes())
}

#[cfg(test)]
#[path = "harden_tests.rs"]
mod tests;
