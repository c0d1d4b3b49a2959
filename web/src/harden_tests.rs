//! Limits, headers and the one form of errors, on a real router.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::http::Method;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::Value;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::*;
use crate::{FieldError, Health, JsonBody};

/// Two gates that a test opens: `entered` tells that the handler runs, `leave` lets it go.
#[derive(Default)]
struct Gate {
    entered: Notify,
    leave: Notify,
}

fn router(gate: &Arc<Gate>) -> Router {
    let gate = Arc::clone(gate);
    let wait = move || {
        let gate = Arc::clone(&gate);
        async move {
            gate.entered.notify_one();
            gate.leave.notified().await;
        }
    };
    Router::new()
        .route("/fine", get(async || "fine"))
        .route(
            "/cached",
            get(async || ([(CACHE_CONTROL, "private, no-cache")], "cached")),
        )
        .route(
            "/json",
            post(async |JsonBody(body): JsonBody| Value::Object(body).to_string()),
        )
        .route("/raw", post(raw))
        .route("/number/{n}", get(async |Path(n): Path<u8>| n.to_string()))
        .route("/wait", get(wait))
        .route("/panic", get(panics))
        .route(
            "/fault",
            get(async || Problem::fault("the disk said: secret")),
        )
        .route("/invalid", get(invalid).post(invalid))
        .route("/trace", get(async |trace: TraceContext| trace.traceparent))
        .merge(
            Health::new()
                .with("store", async || Err::<(), _>("password=secret"))
                .routes(),
        )
}

async fn raw(body: Body) -> Result<String, Problem> {
    let bytes = to_bytes(body, usize::MAX)
        .await
        .map_err(|_| Problem::malformed("cut off"))?;
    Ok(bytes.len().to_string())
}

async fn panics() -> String {
    panic!("a handler with the secret 42")
}

async fn invalid() -> Problem {
    let error = |pointer: &str| FieldError {
        pointer: pointer.into(),
        code: "required",
        detail: "Is missing.".into(),
    };
    Problem::validation(vec![error("/a"), error("/b")])
}

fn limits() -> Limits {
    Limits {
        body_bytes: 1_000,
        request_time: Duration::from_secs(30),
        concurrent_requests: 2,
    }
}

struct Answer {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{:?}", self.text))
    }
}

async fn send(app: &Router, request: Request) -> Answer {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

fn request(method: Method, path: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())
        .unwrap()
}

fn app() -> Router {
    harden(router(&Arc::default()), limits())
}

/// The answer to a GET of this path.
async fn get_(path: &str) -> Answer {
    send(&app(), request(Method::GET, path)).await
}

fn post_(path: &str, content_type: &str, body: Body) -> Request {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(CONTENT_TYPE, content_type)
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn every_kind_of_answer_carries_the_same_security_headers() {
    let app = app();
    for (method, path, status) in [
        (Method::GET, "/fine", 200),
        (Method::HEAD, "/fine", 200),
        (Method::GET, "/cached", 200),
        (Method::GET, "/nothing/here", 404),
        (Method::DELETE, "/fine", 405),
        (Method::POST, "/json", 415),
        (Method::GET, "/number/x", 400),
        (Method::GET, "/invalid", 422),
        (Method::GET, "/fault", 500),
        (Method::GET, "/panic", 500),
        (Method::GET, "/health/live", 200),
        (Method::GET, "/health/ready", 503),
    ] {
        let answer = send(&app, request(method.clone(), path)).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let header = |name: &str| {
            answer
                .headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        };
        let snapshot = [
            "strict-transport-security",
            "x-content-type-options",
            "content-security-policy",
            "referrer-policy",
            "cache-control",
        ]
        .map(header);
        let cache = if path == "/cached" {
            "private, no-cache"
        } else {
            "no-store"
        };
        let expected = [
            "max-age=63072000; includeSubDomains",
            "nosniff",
            "default-src 'none'; frame-ancestors 'none'",
            "no-referrer",
            cache,
        ];
        assert_eq!(snapshot, expected, "{method} {path}");
        if status >= 400 && !path.starts_with(HEALTH) {
            assert_eq!(
                header("content-type"),
                "application/problem+json",
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn errors_have_one_form_with_what_is_known_of_the_request() {
    let mut request = request(Method::GET, "/invalid?token=secret");
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request
        .headers_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    let body = send(&app(), request).await.json();
    let expected = serde_json::json!({
        "type": "/problems/invalid",
        "title": "The request is not valid",
        "status": 422,
        "detail": "2 fields are not valid; see `errors`.",
        "code": "invalid",
        "errors": [
            { "pointer": "/a", "code": "required", "detail": "Is missing." },
            { "pointer": "/b", "code": "required", "detail": "Is missing." },
        ],
        "instance": "/invalid",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "message": "2 fields are not valid; see `errors`.",
        "details": "Is missing. Is missing.",
        "hint": null,
    });
    assert_eq!(body, expected);
    let command = send(&app(), post_("/invalid", "application/json", Body::empty()))
        .await
        .json();
    assert!(command.get("message").is_none() && command.get("trace_id").is_some());
}

#[tokio::test]
async fn causes_of_faults_and_panics_stay_inside() {
    for path in ["/fault", "/panic", "/health/ready"] {
        let answer = get_(path).await;
        assert!(!answer.text.contains("secret"), "{}", answer.text);
    }
    assert_eq!(get_("/panic").await.json()["code"], "internal");
    let ready = get_("/health/ready").await.json();
    assert_eq!(
        ready,
        serde_json::json!({ "status": "down", "dependencies": { "store": { "status": "down" } } })
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    assert_eq!(get_("/nothing").await.json()["code"], "not_found");
    let answer = send(&app(), request(Method::PUT, "/json")).await;
    assert_eq!(answer.json()["code"], "method_not_allowed");
    assert_eq!(answer.headers["allow"], "POST");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_however_it_comes() {
    let app = app();
    let json = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
    let chunked = |text: String| {
        let chunks: Vec<_> = text.into_bytes().chunks(100).map(<[u8]>::to_vec).collect();
        Body::from_stream(futures::stream::iter(
            chunks.into_iter().map(Ok::<_, std::io::Error>),
        ))
    };
    for path in ["/json", "/raw"] {
        let fits = send(
            &app,
            post_(path, "application/json", Body::from(json(1_000))),
        )
        .await;
        assert_eq!(fits.status, 200, "{path}: {}", fits.text);
        let fits = send(&app, post_(path, "application/json", chunked(json(1_000)))).await;
        assert_eq!(fits.status, 200, "{path}: {}", fits.text);
    }
    let mut declared = post_("/json", "application/json", Body::empty());
    declared
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from_static("1001"));
    for request in [
        post_("/json", "application/json", Body::from(json(1_001))),
        post_("/json", "application/json", chunked(json(1_001))),
        declared,
    ] {
        let answer = send(&app, request).await;
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (413, Some("body_too_large"))
        );
    }
    // Whoever reads the raw body gets an error at the limit, and no byte more.
    assert_eq!(
        send(&app, post_("/raw", "text/plain", chunked(json(5_000))))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn requests_beyond_the_limit_are_503_and_probes_are_not() {
    let gate = Arc::<Gate>::default();
    let app = harden(router(&gate), limits());
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { send(&app, request(Method::GET, "/wait")).await.status })
        })
        .collect();
    gate.entered.notified().await;
    gate.entered.notified().await;
    let refused = send(&app, request(Method::GET, "/fine")).await;
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (503, Some("overloaded"))
    );
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(
        send(&app, request(Method::GET, "/health/live"))
            .await
            .status,
        200
    );
    for one in waiting {
        gate.leave.notify_one();
        gate.leave.notify_one();
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(send(&app, request(Method::GET, "/fine")).await.status, 200);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_503_and_its_handler_ends() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let endless = Router::new().route(
        "/",
        get(async move || {
            let _dropped = Dropped(flag);
            std::future::pending::<()>().await;
        }),
    );
    let limits = Limits {
        request_time: Duration::from_millis(20),
        ..limits()
    };
    let answer = send(&harden(endless, limits), request(Method::GET, "/")).await;
    assert_eq!(
        (answer.status, answer.json()["code"].as_str()),
        (503, Some("timed_out"))
    );
    assert!(dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_panic_takes_no_room_for_ever() {
    let app = app();
    for _ in 0..10 {
        assert_eq!(send(&app, request(Method::GET, "/panic")).await.status, 500);
    }
    assert_eq!(send(&app, request(Method::GET, "/fine")).await.status, 200);
}

#[tokio::test]
async fn handlers_get_the_trace_of_their_request() {
    let mut request = request(Method::GET, "/trace");
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    request
        .headers_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    let answer = send(&app(), request).await;
    assert!(
        answer
            .text
            .starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{}",
        answer.text
    );
    assert!(
        Problem::forbidden("no")
            .into_response()
            .headers()
            .contains_key(CONTENT_TYPE)
    );
}
