//! Runs the roles: opens what each needs, starts its tasks, and ends them all by one shutdown.

mod process;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use axum::Router;
use broker::Broker;
use chrono::{DateTime, Utc};
use command_api::accounts::AccountSettings;
use command_api::operation::operations;
use command_api::{CommandState, Stores, SystemClock};
use event_store::EventStore;
use query_api::{QuerySettings, QueryState};
use read_models::{ReadModel, ReadStore};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault::{ErasureLedger, Keys, Vault};
use web::openapi::Description;
use web::{
    ApiKeyCaller, ApiKeys, Certificate, Health, Limits, Problem, Revocations, TokenSettings, Tokens,
};

use crate::app::App;
use crate::config::{Role, Settings};
use crate::metrics::Registry;
use crate::open;
use crate::operate::desk::built;
use crate::operate::seen::overview;
use crate::otlp::Exporter;

use process::Process;

/// API keys, looked up where they are kept.
struct VaultKeys(Vault);

#[async_trait]
impl ApiKeys for VaultKeys {
    async fn find(&self, text: &str, now: DateTime<Utc>) -> Result<Option<ApiKeyCaller>, Problem> {
        match self.0.api_key(text, now).await {
            Ok(found) => Ok(found.map(|key| ApiKeyCaller {
                id: key.id,
                account: key.account,
                scopes: key.scopes,
            })),
            Err(error) => {
                tracing::warn!(%error, "an API key cannot be looked up");
                Err(Problem::unavailable(
                    "API keys cannot be looked up right now: try again.",
                ))
            }
        }
    }
}

/// How long a role may take to end.
const GRACE: Duration = Duration::from_secs(15);

/// What the roles of this process share; opened once.
struct Opened {
    events: Option<Arc<dyn EventStore>>,
    broker: Option<Arc<dyn Broker>>,
    keys: Option<Arc<Keys>>,
    vault: Option<Vault>,
}

/// Serves until SIGINT or SIGTERM.
pub async fn serve(app: App, settings: Settings) -> Result<()> {
    let shutdown = CancellationToken::new();
    let leaving = CancellationToken::new();
    stop_on_signals(&leaving, &shutdown, settings.drain)?;
    let served = tokio::select! {
        served = run(app, &settings, &leaving, &shutdown) => served,
        // Shutting down while stores are still waited for.
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE + Duration::from_secs(5)).await } => Ok(()),
    };
    shutdown.cancel();
    served
}

async fn run(
    app: App,
    settings: &Settings,
    leaving: &CancellationToken,
    shutdown: &CancellationToken,
) -> Result<()> {
    let roles = roles(settings.role);
    // The port first: two servers on one port are found out before anything is opened.
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another address with --listen",
            settings.listen
        )
    })?;
    let address = listener.local_addr()?;
    let certificate = match &settings.tls {
        Some((chain, key)) => Some(Certificate::load(chain, key)?),
        None => None,
    };
    let watched = match settings.watched.metrics {
        None => None,
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; choose another address with --metrics-listen")
        })?),
    };
    let started = start(app, settings, &roles, shutdown);
    let Process {
        mut tasks,
        health,
        mut metrics,
        description,
        router,
        events,
        broker,
    } = tokio::select! {
        started = started => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    // A process without either API has nothing to describe.
    let described = if roles.contains(&Role::CommandApi) || roles.contains(&Role::QueryApi) {
        description.with(web::health::operations()).routes()
    } else {
        Router::new()
    };
    metrics.health(&health);
    let health = health.until(leaving.clone());
    if let Some(listener) = watched {
        let (routes, stop) = (metrics.routes(), shutdown.clone());
        tasks.spawn(async move {
            if let Err(error) = web::serve(listener, routes, stop).await {
                tracing::error!(%error, "metrics are not served any more");
            }
        });
    }
    let router = router.merge(health.routes()).merge(described);
    let router = web::harden(router, Limits::default());
    let stop = shutdown.clone();
    tasks.spawn(async move {
        if let Err(error) = web::serve_tls(listener, router, stop, certificate).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    });
    crate::welcome::print(settings, address);
    let ended = supervise(&mut tasks, shutdown).await;
    if let Some(events) = &events {
        events.close().await;
    }
    if let Some(broker) = &broker {
        broker.close().await;
    }
    ended
}

/// Opens the stores and starts what the roles do in the background.
async fn start(
    app: App,
    settings: &Settings,
    roles: &BTreeSet<Role>,
    shutdown: &CancellationToken,
) -> Result<Process> {
    let opened = open_stores(settings, roles).await?;
    let mut process = Process {
        tasks: JoinSet::new(),
        health: Health::new(),
        metrics: Registry::new(settings.role),
        description: Description::new(&settings.app_name, env!("CARGO_PKG_VERSION"))
            .with_messages(app.messages(settings)),
        router: Router::new(),
        events: opened.events.clone(),
        broker: opened.broker.clone(),
    };
    if let Some((url, share)) = &settings.watched.traces {
        let exporter = Exporter::start(url, *share, settings.role)?;
        process.tasks.spawn(exporter.run(shutdown.clone()));
    }
    if let Some(events) = &opened.events {
        process.watch_events(events);
        if roles.contains(&Role::CommandApi) || roles.contains(&Role::EventStore) {
            process.metrics.add(event_store::metrics::METRICS);
        }
    }
    if let (Some(events), Some(broker)) = (&opened.events, &opened.broker) {
        process.watch_broker(broker);
        if roles.contains(&Role::Relay) {
            process.relay(events, broker, shutdown);
        }
        if roles.contains(&Role::Projector) {
            let store = open::read_models(settings, false).await?;
            process.projector(events, broker, store, app.models.clone(), shutdown);
            process
                .mirrors(settings, events, broker, &app.models, shutdown)
                .await?;
        }
    }
    if let (Some(keys), Some(vault)) = (&opened.keys, &opened.vault) {
        process.watch_vault(vault);
        process.metrics.add(vault::metrics::METRICS);
        let ledger = open::ledger(settings).await?;
        let tokens = tokens(settings, keys, vault, &ledger).await?;
        process
            .serve_log(&app, settings, roles, Some(&tokens), shutdown)
            .await?;
        if let Some(events) = opened
            .events
            .as_ref()
            .filter(|_| roles.contains(&Role::CommandApi))
        {
            let stores = Stores {
                log: Arc::clone(events),
                vault: vault.clone(),
                keys: Arc::clone(keys),
            };
            let accounts = AccountSettings {
                ledger,
                app_url: settings.app_url.clone(),
                app_name: settings.app_name.clone(),
                roles: app.roles,
            };
            let mailer = mail::open(settings.mail.as_str(), &settings.mail_from)?;
            let state = CommandState::new(
                stores,
                Arc::clone(&tokens),
                Arc::new(SystemClock),
                with_operations(app.aggregates, &app.models),
                accounts,
                Some(mailer),
            )?;
            process.command_api(state, shutdown);
            process.rewrap(vault, shutdown);
        }
        if roles.contains(&Role::QueryApi) {
            let store: Arc<dyn ReadStore> = open::read_models(settings, true).await?;
            let query_settings = QuerySettings {
                cache_bytes: u64::from(settings.query_cache_mb) << 20,
                shutdown: shutdown.clone(),
                overview: Some(overview(settings, &app.models)),
                ..QuerySettings::default()
            };
            let (vault, keys) = (vault.clone(), Arc::clone(keys));
            process.watch_read_models("read-models", &store);
            let state = QueryState::new(store, app.models, vault, tokens, keys, query_settings);
            process.watch_builds(&state);
            process.query_api(state);
        }
    } else {
        process
            .serve_log(&app, settings, roles, None, shutdown)
            .await?;
    }
    Ok(process)
}

/// The application's aggregates, and what operators may ask of its read models.
fn with_operations(
    mut aggregates: Vec<command_api::Registration>,
    models: &[ReadModel],
) -> Vec<command_api::Registration> {
    let names = built(models).map(|model| model.name.clone()).collect();
    aggregates.push(operations(names));
    aggregates
}

/// Who callers are; before the first of them is answered, a vault that was restored forgets again whom it had forgotten.
async fn tokens(
    settings: &Settings,
    keys: &Arc<Keys>,
    vault: &Vault,
    ledger: &ErasureLedger,
) -> Result<Arc<Tokens>> {
    let names = TokenSettings {
        issuer: settings.issuer.clone(),
        audience: settings.issuer.clone(),
    };
    let tokens = Tokens::new(Arc::clone(keys), names);
    let forgotten = vault.apply_ledger(ledger, tokens.now()).await?;
    if !forgotten.is_empty() {
        tracing::warn!(
            count = forgotten.len(),
            "people of the erasure ledger were in the vault, and are erased again"
        );
    }
    let tokens = tokens.with_api_keys(Arc::new(VaultKeys(vault.clone())));
    let revocations = Revocations::follow(vault.clone(), tokens.now()).await;
    Ok(Arc::new(tokens.with_revocations(revocations)))
}

fn roles(only: Option<Role>) -> BTreeSet<Role> {
    match only {
        Some(role) => BTreeSet::from([role]),
        None => BTreeSet::from([
            Role::CommandApi,
            Role::Relay,
            Role::Projector,
            Role::QueryApi,
        ]),
    }
}

async fn open_stores(settings: &Settings, roles: &BTreeSet<Role>) -> Result<Opened> {
    let needed = |wanted: &[Role]| wanted.iter().any(|role| roles.contains(role));
    let mut opened = Opened {
        events: None,
        broker: None,
        keys: None,
        vault: None,
    };
    let served_with_credentials =
        roles.contains(&Role::EventStore) && !settings.served_log.insecure;
    if needed(&[Role::CommandApi, Role::QueryApi]) || served_with_credentials {
        let keys = open::keys(settings)?;
        opened.vault = Some(open::vault(settings, &keys).await?);
        opened.keys = Some(keys);
    }
    if needed(&[
        Role::CommandApi,
        Role::Relay,
        Role::Projector,
        Role::EventStore,
    ]) {
        opened.events = Some(open::events(settings).await?);
    }
    if needed(&[Role::Relay, Role::Projector]) {
        opened.broker = Some(broker::open(settings.broker.as_str()).await?);
    }
    Ok(opened)
}

/// Waits for the shutdown, or for a task that ends without one, which is a fault of that task and ends the process: what
/// runs it can start it anew.
async fn supervise(tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<()> {
    let fault = tokio::select! {
        () = shutdown.cancelled() => None,
        ended = tasks.join_next() => match ended {
            _ if shutdown.is_cancelled() => None,
            Some(Err(error)) => Some(format!("a task of this process broke: {error}")),
            Some(Ok(())) | None => Some("a task of this process ended by itself; the log says why".to_owned()),
        },
    };
    shutdown.cancel();
    let ended =
        tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(
            "not everything ended within {} s; what was left is cut off",
            GRACE.as_secs()
        );
        tasks.abort_all();
    }
    match fault {
        None => Ok(()),
        Some(fault) => anyhow::bail!(fault),
    }
}

/// At a signal this process says at once that it is not ready, and stops when those who send to it have had time to hear.
fn stop_on_signals(
    leaving: &CancellationToken,
    shutdown: &CancellationToken,
    drain: Duration,
) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (leaving, shutdown) = (leaving.clone(), shutdown.clone());
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        leaving.cancel();
        tokio::select! {
            () = tokio::time::sleep(drain) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        shutdown.cancel();
    });
    Ok(())
}
