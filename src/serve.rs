//! Runs the roles: opens what each needs, starts its tasks, and ends them all by one shutdown.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use broker::{Broker, Relay, RelayOptions};
use command_api::{CommandState, Stores, SystemClock};
use event_store::EventStore;
use projector::Projector;
use query_api::QueryState;
use read_models::ReadStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault::{Keys, Vault};
use web::{Health, Limits, TokenSettings, Tokens};

use crate::app::App;
use crate::config::{Role, Settings};
use crate::open;

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
    stop_on_signals(&shutdown)?;
    let served = tokio::select! {
        served = run(app, &settings, &shutdown) => served,
        // Shutting down while stores are still waited for.
        () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE + Duration::from_secs(5)).await } => Ok(()),
    };
    shutdown.cancel();
    served
}

async fn run(app: App, settings: &Settings, shutdown: &CancellationToken) -> Result<()> {
    let roles = roles(settings.role);
    // The port first: two servers on one port are found out before anything is opened.
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another address with --listen",
            settings.listen
        )
    })?;
    let address = listener.local_addr()?;
    let opened = tokio::select! {
        opened = open_stores(settings, &roles) => opened?,
        () = shutdown.cancelled() => return Ok(()),
    };

    let mut tasks = JoinSet::new();
    let mut health = Health::new();
    let mut router = Router::new();
    if let Some(events) = &opened.events {
        let events = Arc::clone(events);
        health = health.with("event-store", move || {
            let events = Arc::clone(&events);
            async move { events.head().await.map(drop) }
        });
    }
    if let Some(vault) = &opened.vault {
        let vault = vault.clone();
        health = health.with("vault", move || {
            let vault = vault.clone();
            async move { vault.check().await }
        });
    }
    if let (Some(events), Some(broker)) = (&opened.events, &opened.broker) {
        let broker = Arc::clone(broker);
        if roles.contains(&Role::Relay) {
            let holder = vault::random_uuid();
            let relay = Relay::new(
                Arc::clone(events),
                Arc::clone(&broker),
                holder,
                RelayOptions::default(),
            );
            tasks.spawn(relay.run(shutdown.clone()));
        }
        health = health.with("broker", move || {
            let broker = Arc::clone(&broker);
            async move { broker.check().await }
        });
    }
    if roles.contains(&Role::Projector) {
        let (Some(events), Some(broker)) = (&opened.events, &opened.broker) else {
            unreachable!("the projector opens both")
        };
        let store = open::read_models(settings, false).await?;
        health = checked(health, &store);
        let projector = Projector::new(
            Arc::clone(events),
            Arc::clone(broker),
            store,
            app.models.clone(),
            projector::Options::default(),
        );
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = projector.run(shutdown).await {
                tracing::error!(%error, "the projector cannot go on");
            }
        });
    }
    if let (Some(keys), Some(vault)) = (&opened.keys, &opened.vault) {
        let names = TokenSettings {
            issuer: settings.issuer.clone(),
            audience: settings.issuer.clone(),
        };
        let tokens = Arc::new(Tokens::new(Arc::clone(keys), names));
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
            let state = CommandState::new(
                stores,
                Arc::clone(&tokens),
                Arc::new(SystemClock),
                app.aggregates,
            )?;
            router = router.merge(command_api::routes(state));
        }
        if roles.contains(&Role::QueryApi) {
            let store = open::read_models(settings, true).await?;
            health = checked(health, &store);
            let state = QueryState::new(store, app.models, vault.clone(), tokens, Arc::clone(keys));
            router = router.merge(query_api::routes(state));
        }
    }
    // Probes are never turned away for lack of room.
    let router = web::harden(router.merge(health.routes()), Limits::default());
    {
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if let Err(error) = web::serve(listener, router, shutdown).await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
    }
    crate::welcome::print(settings, address);
    let ended = supervise(&mut tasks, shutdown).await;
    if let Some(events) = &opened.events {
        events.close().await;
    }
    ended
}

fn checked(health: Health, store: &Arc<dyn ReadStore>) -> Health {
    let store = Arc::clone(store);
    health.with("read-models", move || {
        let store = Arc::clone(&store);
        async move { store.check().await }
    })
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
    if needed(&[Role::CommandApi, Role::QueryApi]) {
        let keys = open::keys(settings)?;
        opened.vault = Some(open::vault(settings, &keys).await?);
        opened.keys = Some(keys);
    }
    if needed(&[Role::CommandApi, Role::Relay, Role::Projector]) {
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

fn stop_on_signals(shutdown: &CancellationToken) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down");
        shutdown.cancel();
    });
    Ok(())
}
