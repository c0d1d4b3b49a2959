//! The role that serves the log over EventStoreDB's protocol: who may, with what certificate, on which socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use command_api::{Clock, SystemClock};
use event_store::EventStore;
use events::Actor;
use eventstore_protocol::{Access, Denied, Gate, Identity, OpenGate, Options, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use web::Tokens;

use crate::app::App;
use crate::config::Settings;

/// The scope that lets callers read the log.
const READ: &str = "log:read";
/// The scope that lets callers append to categories without a decider.
const WRITE: &str = "log:write";
/// The scope that lets callers append to every category.
const APPEND: &str = "log:append";

/// How the log is served to EventStoreDB's clients.
#[derive(Debug, Clone)]
pub struct ServedLog {
    /// Where.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Nobody is asked who they are.
    pub insecure: bool,
}

impl ServedLog {
    /// Credentials cross no network readable, and without any the log is served to this machine alone.
    pub fn check(&self, is_served: bool) -> Result<()> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        let port = self.listen.port();
        if self.insecure {
            bail!(
                "--insecure serves the log to everybody, so only on this machine: write --event-store-listen 127.0.0.1:{port}, or leave --insecure out"
            );
        }
        if self.tls.is_none() && is_served {
            bail!(
                "serving the log on {} needs TLS, since clients send credentials: write --event-store-certificate FILE --event-store-key FILE, or --event-store-listen 127.0.0.1:{port}",
                self.listen
            );
        }
        Ok(())
    }
}

/// Lets in whoever the APIs would let in: by API key or access token, as a bearer or as the password of any user, since
/// that is what EventStoreDB's clients can send.
struct TokenGate(Arc<Tokens>);

#[async_trait]
impl Gate for TokenGate {
    async fn admit(&self, authorization: Option<&str>) -> Result<Access, Denied> {
        let advice = || {
            Denied::Unauthenticated(
                "send an API key as the password (esdb://key:sck_…@HOST:2113), or a bearer token"
                    .into(),
            )
        };
        let credential = authorization.and_then(credential).ok_or_else(advice)?;
        let caller = self.0.authenticate(&credential).await.map_err(|problem| {
            if problem.status().is_server_error() {
                Denied::Unavailable
            } else {
                Denied::Unauthenticated(problem.detail().to_owned())
            }
        })?;
        Ok(Access {
            actor: Actor::Account(caller.account),
            read: caller.has_scope(READ),
            write: caller.has_scope(WRITE),
            append: caller.has_scope(APPEND),
        })
    }
}

/// The token or key in an `authorization` value.
fn credential(authorization: &str) -> Option<String> {
    let (scheme, value) = authorization.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (_user, password) = decoded.split_once(':')?;
    Some(password.to_owned())
}

/// Serves the log until `shutdown`. `tokens` is `None` where everybody may do everything.
pub async fn start(
    app: &App,
    settings: &Settings,
    store: Arc<dyn EventStore>,
    tokens: Option<Arc<Tokens>>,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static> {
    let served = &settings.served_log;
    let listener = TcpListener::bind(served.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another address with --event-store-listen",
            served.listen
        )
    })?;
    let gate: Arc<dyn Gate> = match tokens {
        Some(tokens) => Arc::new(TokenGate(tokens)),
        None => Arc::new(OpenGate),
    };
    let tls = match &served.tls {
        Some((certificates, key)) => Some(Identity {
            certificates: std::fs::read(certificates)
                .with_context(|| format!("{} cannot be read", certificates.display()))?,
            key: std::fs::read(key).with_context(|| format!("{} cannot be read", key.display()))?,
        }),
        None => None,
    };
    tracing::info!(
        address = %listener.local_addr()?, tls = tls.is_some(), insecure = served.insecure,
        "serving the log over EventStoreDB's protocol"
    );
    let options = Options {
        gate,
        deciders: app
            .categories
            .iter()
            .map(|category| category.name.to_owned())
            .collect(),
        clock: Arc::new(|| SystemClock.now()),
        tls,
        stride: 1,
    };
    Ok(async move {
        if let Err(error) = serve(listener, store, options, shutdown).await {
            tracing::error!(%error, "the log is not served any more");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_as_a_password_or_as_a_bearer() {
        let basic = format!("Basic {}", STANDARD.encode("anybody:sck_a:b"));
        assert_eq!(credential(&basic).as_deref(), Some("sck_a:b"));
        assert_eq!(credential("Bearer  sck_a").as_deref(), Some("sck_a"));
        for wrong in ["", "sck_a", "Basic !", "Basic bm9jb2xvbg==", "Digest x"] {
            assert_eq!(credential(wrong), None, "{wrong}");
        }
    }
}
