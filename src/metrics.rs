//! `/metrics`, on a listener of its own: it tells much about the system, asks nobody who they are, and so must not be where
//! clients are. It refuses to ask stores and brokers more than once a second, whoever reads it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use broker::{Broker, Group, RelayStatus};
use event_store::EventStore;
use events::Partition;
use futures::future::{BoxFuture, FutureExt, join_all};
use instruments::metrics::{Metrics, Observations, Observed, render};
use instruments::{process, trace};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};
use web::Health;

use crate::config::Role;

/// How long what is asked for a page may take; what takes longer is left out.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a page is good for.
const FRESH: Duration = Duration::from_secs(1);
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

static BUILD: Observed = Observed::gauge(
    "showcaller_build_info",
    "1; the labels say what runs here.",
    &["version", "role"],
);
static SELF: Metrics = &[&BUILD];

type Probe = Box<dyn Fn() -> BoxFuture<'static, Observations> + Send + Sync>;

/// What this process can tell of itself.
pub struct Registry {
    groups: Vec<Metrics>,
    probes: Vec<Probe>,
}

impl Registry {
    /// What any process tells.
    pub fn new(role: Option<Role>) -> Self {
        let role = role.map_or_else(|| "all".to_owned(), |role| role.to_string());
        let mut registry = Self {
            groups: vec![
                SELF,
                process::METRICS,
                trace::METRICS,
                web::metrics::METRICS,
            ],
            probes: Vec::new(),
        };
        registry.probe(move |observations| {
            observations.note(&BUILD, &[env!("CARGO_PKG_VERSION"), &role], 1.0);
            process::observe(observations);
        });
        registry
    }

    /// These too.
    pub fn add(&mut self, group: Metrics) {
        if !self.groups.iter().any(|known| std::ptr::eq(*known, group)) {
            self.groups.push(group);
        }
    }

    /// Asks this for each page.
    pub fn probe(&mut self, probe: impl Fn(&mut Observations) + Send + Sync + 'static) {
        self.probes.push(Box::new(move || {
            let mut observations = Observations::default();
            probe(&mut observations);
            futures::future::ready(observations).boxed()
        }));
    }

    /// Whether dependencies are up.
    pub fn health(&mut self, health: &Health) {
        let health = health.clone();
        self.probes.push(Box::new(move || {
            let health = health.clone();
            async move { health.observe().await }.boxed()
        }));
    }

    /// How far a relay is.
    pub fn relay(&mut self, status: watch::Receiver<RelayStatus>, events: &Arc<dyn EventStore>) {
        self.add(broker::metrics::RELAY);
        let events = Arc::clone(events);
        self.probes.push(Box::new(move || {
            let (status, events) = (status.borrow().clone(), Arc::clone(&events));
            let ask = async move {
                let mut observations = Observations::default();
                if status.leading
                    && let Ok(head) = events.head().await
                {
                    let lag = head.get().saturating_sub(status.position.get());
                    observations.note(&broker::metrics::LAG, &[], lag as f64);
                }
                observations
            };
            ask.boxed()
        }));
    }

    /// How full a group's queues are.
    pub fn queues(&mut self, broker: &Arc<dyn Broker>, group: &str, partitions: u16) {
        self.add(broker::metrics::QUEUES);
        let (broker, name) = (Arc::clone(broker), group.to_owned());
        self.probes.push(Box::new(move || {
            let (broker, group) = (Arc::clone(&broker), Group { name: name.clone() });
            async move { depths(&*broker, &group, partitions).await }.boxed()
        }));
    }

    /// `GET /metrics`.
    pub fn routes(self) -> Router {
        let page = Page {
            registry: self,
            last: Mutex::default(),
        };
        Router::new()
            .route("/metrics", get(read))
            .with_state(Arc::new(page))
    }

    async fn page(&self) -> String {
        let asked = self.probes.iter().map(|probe| timeout(PATIENCE, probe()));
        let mut observations = Observations::default();
        for told in join_all(asked).await.into_iter().flatten() {
            observations.extend(told);
        }
        render(&self.groups, &observations)
    }
}

async fn depths(broker: &dyn Broker, group: &Group, partitions: u16) -> Observations {
    let mut observations = Observations::default();
    for partition in (0..partitions).map(Partition) {
        match broker.depth(group, partition).await {
            Ok(Some(depth)) => {
                let partition = partition.to_string();
                let queue: &[&str] = &[&partition];
                observations.note(&broker::metrics::QUEUE, queue, depth.messages.into());
                observations.note(&broker::metrics::CONSUMERS, queue, depth.consumers.into());
            }
            Ok(None) => {}
            // The others would tell no more.
            Err(_) => break,
        }
    }
    observations
}

struct Page {
    registry: Registry,
    last: Mutex<Option<(Instant, String)>>,
}

async fn read(State(page): State<Arc<Page>>) -> Response {
    // The lock makes one round of questions serve all who ask meanwhile.
    let mut last = page.last.lock().await;
    let text = match &*last {
        Some((at, text)) if at.elapsed() < FRESH => text.clone(),
        _ => {
            let text = page.registry.page().await;
            *last = Some((Instant::now(), text.clone()));
            text
        }
    };
    ([(CONTENT_TYPE, TEXT)], text).into_response()
}

/// Every metric there is, for the page that lists them.
#[cfg(test)]
fn every() -> impl Iterator<Item = &'static dyn instruments::metrics::Metric> {
    [
        SELF,
        process::METRICS,
        trace::METRICS,
        web::metrics::METRICS,
        event_store::metrics::METRICS,
        broker::metrics::RELAY,
        broker::metrics::QUEUES,
        projector::metrics::METRICS,
        command_api::metrics::METRICS,
        vault::metrics::METRICS,
        query_api::metrics::METRICS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
