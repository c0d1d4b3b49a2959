//! The server loop: connections in, requests to the router, an end in bounded time. HTTP/1.1 alone: TLS and HTTP/2 are a
//! proxy's. It refuses to wait for a client that does not send its headers.

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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

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

/// The same with other bounds.
#[boxed]
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    bounds: Connections,
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
                let connection = converse(
                    stream,
                    peer,
                    router.clone(),
                    shutdown.clone(),
                    bounds.header_time,
                );
                connections.spawn(async move {
                    connection.await;
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
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
    header_time: Duration,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
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

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
