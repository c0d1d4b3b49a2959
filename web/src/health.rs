//! Whether this process lives, and whether what it depends on can be reached. It refuses to say why a dependency is down:
//! the cause is in the log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::{BoxFuture, FutureExt, join_all};
use instruments::metrics::Observations;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::metrics::DEPENDENCY;
use crate::openapi::{Answer, Method, Operation, Security};

const LIVE: &str = "/health/live";
const READY: &str = "/health/ready";

/// How long one check may take; a slower dependency counts as down.
const CHECK_TIME: Duration = Duration::from_secs(2);
/// How long an answer is good for, so that many probes cost one round of checks.
const FRESH: Duration = Duration::from_millis(500);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The named dependencies of a process.
#[derive(Clone, Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
    leaving: CancellationToken,
}

#[derive(Clone)]
struct Ready {
    checks: Arc<[(&'static str, Check)]>,
    leaving: CancellationToken,
    last: Arc<Mutex<Option<(Instant, Value, bool)>>>,
}

impl Health {
    /// Without dependencies: always ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dependency. `check` returns when it can be used now; an error's text goes to the log.
    #[must_use]
    pub fn with<F, Fut, E>(mut self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let check = move || {
            check()
                .map(|done| done.map_err(|error| error.to_string()))
                .boxed()
        };
        self.checks.push((name, Arc::new(check)));
        self
    }

    /// Not ready any more from when `leaving` is cancelled, whatever is up.
    #[must_use]
    pub fn until(mut self, leaving: CancellationToken) -> Self {
        self.leaving = leaving;
        self
    }

    /// Whether each dependency is up, for Prometheus.
    pub async fn observe(&self) -> Observations {
        let mut observations = Observations::default();
        for (name, up) in look(&self.checks).await {
            observations.note(&DEPENDENCY, &[name], f64::from(u8::from(up)));
        }
        observations
    }

    /// `GET /health/live` and `GET /health/ready`, open to anybody.
    pub fn routes(self) -> Router {
        let ready = Ready {
            checks: self.checks.into(),
            leaving: self.leaving,
            last: Arc::default(),
        };
        Router::new()
            .route(LIVE, get(async || Json(json!({ "status": "up" }))))
            .route(READY, get(readiness))
            .with_state(ready)
    }
}

async fn readiness(State(ready): State<Ready>) -> Response {
    if ready.leaving.is_cancelled() {
        let body = json!({ "status": "stopping", "dependencies": {} });
        return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    }
    // The lock makes one round of checks serve all who ask meanwhile.
    let mut last = ready.last.lock().await;
    let (body, up) = match &*last {
        Some((at, body, up)) if at.elapsed() < FRESH => (body.clone(), *up),
        _ => {
            let (body, up) = run(&ready.checks).await;
            *last = Some((Instant::now(), body.clone(), up));
            (body, up)
        }
    };
    let status = if up {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

async fn look(checks: &[(&'static str, Check)]) -> Vec<(&'static str, bool)> {
    join_all(checks.iter().map(async |(name, check)| {
        let result = timeout(CHECK_TIME, check())
            .await
            .unwrap_or_else(|_| Err("no answer in time".into()));
        if let Err(cause) = &result {
            tracing::warn!(dependency = name, %cause, "a dependency is down");
        }
        (*name, result.is_ok())
    }))
    .await
}

async fn run(checks: &[(&'static str, Check)]) -> (Value, bool) {
    let results = look(checks).await;
    let word = |up: bool| if up { "up" } else { "down" };
    let up = results.iter().all(|(_, up)| *up);
    let dependencies: Map<String, Value> = results
        .into_iter()
        .map(|(name, up)| (name.to_owned(), json!({ "status": word(up) })))
        .collect();
    (
        json!({ "status": word(up), "dependencies": dependencies }),
        up,
    )
}

/// What the health routes say of themselves.
pub fn operations() -> Vec<Operation> {
    let states = |states: &[&str]| json!({ "enum": states });
    let dependency = json!({ "type": "object", "properties": { "status": states(&["up", "down"]) }, "required": ["status"] });
    let readiness = |possible: &[&str]| {
        json!({
            "type": "object",
            "properties": {
                "status": states(possible),
                "dependencies": { "type": "object", "additionalProperties": dependency },
            },
            "required": ["status", "dependencies"],
        })
    };
    let alive = json!({ "type": "object", "properties": { "status": states(&["up"]) }, "required": ["status"] });
    let probe = |path: &str, id: &str, summary: &str, answers| Operation {
        method: Method::Get,
        path: path.to_owned(),
        tag: "health".to_owned(),
        id: format!("health.{id}"),
        summary: summary.to_owned(),
        description: String::new(),
        security: Security::Open,
        parameters: Vec::new(),
        body: None,
        answers,
        problems: vec![(500, codes::INTERNAL)],
    };
    vec![
        probe(
            LIVE,
            "live",
            "Whether the process answers.",
            vec![Answer::json(200, "It does.", alive)],
        ),
        probe(
            READY,
            "ready",
            "Whether the process can serve.",
            vec![
                Answer::json(200, "It can.", readiness(&["up"])),
                Answer::json(
                    503,
                    "A dependency is down, or the process is about to stop.",
                    readiness(&["down", "stopping"]),
                ),
            ],
        ),
    ]
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|(name, _)| name))
            .finish()
    }
}
