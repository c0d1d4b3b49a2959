//! What runs in one process: its tasks, what it serves, what it watches and counts. It refuses to know which roles there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use broker::{Broker, Relay, RelayOptions};
use command_api::{Clock, CommandState, SystemClock};
use event_store::EventStore;
use projector::Projector;
use query_api::QueryState;
use read_models::{OperatedStore, ReadModel, ReadStore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault::Vault;
use web::openapi::Description;
use web::{Health, Tokens};

use crate::app::App;
use crate::config::{Role, Settings};
use crate::metrics::Registry;
use crate::mirrors::Standing;
use crate::served_log;

/// What runs in this process.
pub(super) struct Process {
    pub(super) tasks: JoinSet<()>,
    pub(super) health: Health,
    pub(super) metrics: Registry,
    pub(super) description: Description,
    pub(super) router: Router,
    pub(super) events: Option<Arc<dyn EventStore>>,
    pub(super) broker: Option<Arc<dyn Broker>>,
}

impl Process {
    pub(super) fn relay(
        &mut self,
        events: &Arc<dyn EventStore>,
        broker: &Arc<dyn Broker>,
        shutdown: &CancellationToken,
    ) {
        let relay = Relay::new(
            Arc::clone(events),
            Arc::clone(broker),
            vault::random_uuid(),
            RelayOptions::default(),
        );
        self.metrics.relay(relay.status(), events);
        self.tasks.spawn(relay.run(shutdown.clone()));
    }

    pub(super) fn projector(
        &mut self,
        events: &Arc<dyn EventStore>,
        broker: &Arc<dyn Broker>,
        store: Arc<dyn OperatedStore>,
        models: Vec<ReadModel>,
        shutdown: &CancellationToken,
    ) {
        let read_store: Arc<dyn ReadStore> = Arc::clone(&store) as _;
        self.watch_read_models("projected-read-models", &read_store);
        let options = projector::Options::default();
        self.metrics.add(projector::metrics::METRICS);
        let partitions = events.identity().partitions;
        self.metrics.queues(broker, &options.group, partitions);
        let projector = Projector::operated(
            Arc::clone(events),
            Arc::clone(broker),
            store,
            models,
            options,
        );
        let status = projector.status();
        self.metrics.probe(move |observations| {
            projector::metrics::observe(&status.borrow(), observations);
        });
        let shutdown = shutdown.clone();
        self.tasks.spawn(async move {
            if let Err(error) = projector.run(shutdown).await {
                tracing::error!(%error, "the projector cannot go on");
            }
        });
    }

    /// Serves the log to EventStoreDB's clients, if that is a role of this process.
    pub(super) async fn serve_log(
        &mut self,
        app: &App,
        settings: &Settings,
        roles: &BTreeSet<Role>,
        tokens: Option<&Arc<Tokens>>,
        shutdown: &CancellationToken,
    ) -> Result<()> {
        if let Some(events) = &self.events
            && roles.contains(&Role::EventStore)
        {
            let (events, tokens) = (Arc::clone(events), tokens.cloned());
            let serving =
                served_log::start(app, settings, events, tokens, shutdown.clone()).await?;
            self.tasks.spawn(serving);
        }
        Ok(())
    }

    /// A projector for each mirror. One that cannot be a mirror at all is told at once; one that is down comes later.
    pub(super) async fn mirrors(
        &mut self,
        settings: &Settings,
        events: &Arc<dyn EventStore>,
        broker: &Arc<dyn Broker>,
        models: &[ReadModel],
        shutdown: &CancellationToken,
    ) -> Result<()> {
        for mirror in &settings.mirrors {
            if let Err(read_models::Error::Invalid(problem)) = mirror.open(true).await {
                anyhow::bail!("the mirror {}: {problem}", mirror.name);
            }
            let (events, broker) = (Arc::clone(events), Arc::clone(broker));
            let (standing, name) = (Standing::default(), mirror.name.clone());
            let watched = standing.clone();
            self.metrics
                .probe(move |observations| watched.observe(&name, observations));
            let (models, shutdown) = (models.to_vec(), shutdown.clone());
            let keep = mirror
                .clone()
                .keep(events, broker, models, standing, shutdown);
            self.tasks.spawn(keep);
        }
        Ok(())
    }

    pub(super) fn command_api(&mut self, state: CommandState, shutdown: &CancellationToken) {
        self.metrics.add(command_api::metrics::METRICS);
        self.tasks.spawn(state.housekeeping().run(shutdown.clone()));
        let description = std::mem::take(&mut self.description);
        self.description = description
            .with(command_api::describe(&state))
            .with_schemas(command_api::schemas());
        self.router = std::mem::take(&mut self.router).merge(command_api::routes(state));
    }

    pub(super) fn query_api(&mut self, state: QueryState) {
        self.metrics.add(query_api::metrics::METRICS);
        let counted = state.clone();
        self.metrics
            .probe(move |observations| query_api::metrics::observe(&counted, observations));
        let description = std::mem::take(&mut self.description);
        self.description = description
            .with(query_api::describe(&state))
            .with_schemas(query_api::schemas(&state));
        self.router = std::mem::take(&mut self.router).merge(query_api::routes(state));
    }

    /// Keeps data keys wrapped by the current master key.
    pub(super) fn rewrap(&mut self, vault: &Vault, shutdown: &CancellationToken) {
        let (vault, shutdown) = (vault.clone(), shutdown.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = vault.keep_rewrapped(|| SystemClock.now()) => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    pub(super) fn watch_events(&mut self, events: &Arc<dyn EventStore>) {
        let events = Arc::clone(events);
        self.watch("event-store", move || {
            let events = Arc::clone(&events);
            async move { events.head().await.map(drop) }
        });
    }

    pub(super) fn watch_broker(&mut self, broker: &Arc<dyn Broker>) {
        let broker = Arc::clone(broker);
        self.watch("broker", move || {
            let broker = Arc::clone(&broker);
            async move { broker.check().await }
        });
    }

    pub(super) fn watch_vault(&mut self, vault: &Vault) {
        let vault = vault.clone();
        self.watch("vault", move || {
            let vault = vault.clone();
            async move { vault.check().await }
        });
    }

    pub(super) fn watch_read_models(&mut self, name: &'static str, store: &Arc<dyn ReadStore>) {
        let store = Arc::clone(store);
        self.watch(name, move || {
            let store = Arc::clone(&store);
            async move { store.check().await }
        });
    }

    /// A query API whose definitions have no tables yet is not asked: others answer meanwhile.
    pub(super) fn watch_builds(&mut self, state: &QueryState) {
        let state = state.clone();
        self.watch("read-models-built", move || {
            let state = state.clone();
            async move { state.is_built().await }
        });
    }

    fn watch<F, Fut, E>(&mut self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display,
    {
        self.health = std::mem::take(&mut self.health).with(name, check);
    }
}
