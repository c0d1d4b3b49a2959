//! The server loop: connections in, requests to the router, an end in bounded time. HTTP/1.1 alone, over TLS where there is a
//! certificate: HTTP/2 is a proxy's. It refuses to wait for a client that does not send its headers.

use async_recursion::async_recursion as boxed;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::metrics;
use crate::tls::Certificate;

/// How long to wait after the machine could not accept a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes of a request's line and headers together.
const HEADER_BYTES: usize = 32 * 1024;

/// The bounds of [`serve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// How many connections may be open; further ones wait in the listener's backlog.
    pub open: usize,
    /// How long a connection may take to send the headers of its next request: the slow and the idle are closed.
    pub header_time: Duration,
    /// How long requests under way may take once shutdown began.
    pub shutdown_time: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: 10_000,
            header_time: Duration::from_secs(30),
            shutdown_time: Duration::from_secs(10),
        }
    }
}

/// Serves until `shutdown`, then lets requests under way end, for 10 s at most. Dropping the future ends every
/// connection.
#[boxed]
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_with(listener, router, shutdown, Connections::default()).await
}

/// The same over TLS, if there is a certificate.
#[boxed]
pub async fn serve_tls(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    certificate: Option<Arc<Certificate>>,
) -> io::Result<()> {
    let Some(certificate) = certificate else {
        return serve(listener, router, shutdown).await;
    };
    let bounds = Connections::default();
    let served = serve_loop(listener, router, shutdown, bounds, Some(&certificate));
    tokio::select! {
        served = served => served,
        () = certificate.keep_fresh() => Ok(()),
    }
}

/// The same with other bounds.
#[boxed]
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    bounds: Connections,
) -> io::Result<()> {
    serve_loop(listener, router, shutdown, bounds, None).await
}

async fn serve_loop(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    bounds: Connections,
    certificate: Option<&Certificate>,
) -> io::Result<()> {
    listener.local_addr()?;
    let room = Arc::new(Semaphore::new(bounds.open));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let permit = Arc::clone(&room)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Conversation {
                    peer,
                    router: router.clone(),
                    shutdown: shutdown.clone(),
                    header_time: bounds.header_time,
                };
                let tls = certificate.map(Certificate::config);
                connections.spawn(async move {
                    connection.begin(stream, tls).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(bounds.shutdown_time, ended)
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "connections were cut off at shutdown"
        );
        connections.shutdown().await;
    }
    Ok(())
}

/// One connection, from its first byte to its last.
struct Conversation {
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
    header_time: Duration,
}

impl Conversation {
    async fn begin(self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        let _open = metrics::CONNECTIONS.hold();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let Some(tls) = tls else {
            return self.go_on(stream).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(stream);
        let shaken = tokio::select! {
            () = self.shutdown.cancelled() => return,
            shaken = tokio::time::timeout(self.header_time, handshake) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.go_on(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a client could not be agreed with on TLS"),
            Err(_) => tracing::debug!("a client took too long to speak TLS"),
        }
    }

    async fn go_on<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self {
            peer,
            router,
            shutdown,
            header_time,
        } = self;
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_time)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            // Clients go away all the time: that is no fault of ours.
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
