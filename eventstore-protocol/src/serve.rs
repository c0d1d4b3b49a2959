//! The server: a socket, TLS where it is asked for, an end in bounded time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::{DateTime, Utc};
use event_store::EventStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::access::Gate;
use crate::node::Node;
use crate::routes::routes;

/// How many calls one connection may have under way.
const MOST_CALLS: u32 = 1_024;
/// How often a silent client is asked whether it is still there, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(20);
/// How long calls under way may take once shutdown began.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// A certificate chain and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The chain, the server's own certificate first.
    pub certificates: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

/// How the log is served.
#[derive(Clone)]
pub struct Options {
    /// Who may do what.
    pub gate: Arc<dyn Gate>,
    /// The categories that have a decider: appending to them needs more ([`crate::Access::append`]).
    pub deciders: BTreeSet<String>,
    /// The time that envelopes of foreign events get.
    pub clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// With what TLS is spoken; without it, plain text.
    pub tls: Option<Identity>,
    /// Positions are multiplied by this on the wire, at least 1: more makes them as sparse as EventStoreDB's, for tests.
    pub stride: u64,
}

/// Why the log cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Positions of the store have gaps; only SQLite and PostgreSQL can be served.
    #[error(
        "only a log in SQLite or PostgreSQL can be served over EventStoreDB's protocol; for one in EventStoreDB, connect to EventStoreDB"
    )]
    Sparse,
    /// The certificate or its key cannot be used.
    #[error("the certificate or its key cannot be used: {0}")]
    Tls(String),
    /// The server ended by itself.
    #[error("serving the log over EventStoreDB's protocol failed: {0}")]
    Transport(String),
}

/// Serves the log until `shutdown`, then lets calls under way end, for 10 s at most. Dropping the future ends every
/// connection.
pub async fn serve(
    listener: TcpListener,
    store: Arc<dyn EventStore>,
    options: Options,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    if !store.gapless() {
        return Err(ServeError::Sparse);
    }
    let mut server = Server::builder()
        .max_concurrent_streams(MOST_CALLS)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_ANSWER));
    if let Some(Identity { certificates, key }) = &options.tls {
        // Another may be installed already, which then speaks here too.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let identity = tonic::transport::Identity::from_pem(certificates, key);
        server = server
            .tls_config(tonic::transport::ServerTlsConfig::new().identity(identity))
            .map_err(|error| ServeError::Tls(causes(&error)))?;
    }
    let node = Arc::new(Node {
        store,
        gate: options.gate,
        deciders: options.deciders,
        clock: options.clock,
        stride: options.stride.max(1),
        shutdown: shutdown.clone(),
        subscriptions: AtomicU64::new(1),
    });
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let calls = server
        .add_routes(Routes::from(routes(node)))
        .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIME).await;
    };
    tokio::select! {
        ended = calls => ended.map_err(|error| ServeError::Transport(causes(&error))),
        () = late => {
            tracing::warn!("calls for the served log were cut off at shutdown");
            Ok(())
        }
    }
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
