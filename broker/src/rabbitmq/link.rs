//! One connection, bounded in every wait, that can be ended for certain: a connection that is blocked, or whose peer is
//! silent, answers no goodbye, so its socket is shut down instead. It refuses to reconnect.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lapin::tcp::AMQPUriTcpExt;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::port::Error;

/// For connecting, handshakes included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a question that the broker answers at once.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);
/// For a goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// AMQP's reply code for a normal close.
const REPLY_SUCCESS: u16 = 200;

/// A second handle to a connection's socket, to shut it down with; `None` if it was shut down before there was one.
#[derive(Clone, Default)]
struct Socket(Arc<OnceLock<Option<TcpStream>>>);

impl Socket {
    /// Takes note of the socket, unless nobody wants the connection any more.
    fn register(&self, stream: &impl AsFd) -> std::io::Result<()> {
        let second = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        let taken = self.0.set(Some(second));
        taken.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionAborted))
    }

    fn shut_down(&self) {
        if let Some(socket) = self.0.get_or_init(|| None) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Shuts the socket down unless it is told otherwise: also when the future that connects is dropped.
struct UnlessConnected(Option<Socket>);

impl Drop for UnlessConnected {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.shut_down();
        }
    }
}

/// A connection and what ends it.
pub(super) struct Link {
    connection: Arc<Connection>,
    socket: Socket,
    failed: AtomicBool,
    goodbyes: TaskTracker,
}

impl Link {
    /// Connects. `purpose` is shown in RabbitMQ's list of connections.
    pub(super) async fn open(
        uri: &AMQPUri,
        purpose: &str,
        goodbyes: TaskTracker,
    ) -> Result<Self, Error> {
        let socket = Socket::default();
        let runtime =
            lapin::runtime::default_runtime().map_err(|error| unavailable("no runtime", &error))?;
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("showcaller {purpose}").into());
        let slot = socket.clone();
        let mut cleanup = UnlessConnected(Some(socket.clone()));
        let connecting = Connection::connector(
            uri.clone(),
            runtime,
            async move |uri, runtime| {
                // This runs on the connection's own thread, which nobody else can end.
                let stream = timeout(CONNECT_TIMEOUT, uri.connect_async(&runtime))
                    .await
                    .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
                match &stream {
                    AsyncTcpStream::Plain(plain) => slot.register(plain.get_ref())?,
                    AsyncTcpStream::Rustls(tls) => slot.register(tls.get_ref().0.get_ref())?,
                    _ => {}
                }
                Ok(stream)
            },
            properties,
        );
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => {
                cleanup.0 = None;
                let (connection, failed) = (Arc::new(connection), AtomicBool::new(false));
                Ok(Self {
                    connection,
                    socket,
                    failed,
                    goodbyes,
                })
            }
            Ok(Err(error)) => Err(unavailable("cannot connect", &error)),
            Err(_) => Err(Error::Unavailable(format!(
                "no connection within {CONNECT_TIMEOUT:?}"
            ))),
        }
    }

    /// The connection is up, as far as is known.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.failed.load(Ordering::Acquire) || !self.connection.status().connected() {
            return Err(Error::Unavailable("the connection is lost".into()));
        }
        Ok(())
    }

    /// The broker takes no messages on this connection for now (it is short of memory or disk).
    pub(super) fn blocked(&self) -> Option<Error> {
        let status = self.connection.status();
        (self.check().is_ok() && status.blocked()).then(|| {
            Error::Unavailable("the broker blocks publishers: it is short of memory or disk".into())
        })
    }

    /// A new channel. Opening one asks nothing of any queue, so silence is the end of the connection.
    pub(super) async fn channel(&self) -> Result<Channel, Error> {
        self.check()?;
        let opened = self
            .ask("open a channel", self.connection.create_channel())
            .await;
        opened.inspect_err(|_| self.fail())
    }

    /// Waits for an answer. Silence is not held against the connection, on which other queues may answer: its heartbeats
    /// tell whether it is lost.
    pub(super) async fn ask<T>(
        &self,
        what: &str,
        answer: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Error> {
        match timeout(RPC_TIMEOUT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(&format!("cannot {what}"), &error)),
            Err(_) => Err(Error::Unavailable(format!(
                "cannot {what}: no answer within {RPC_TIMEOUT:?}"
            ))),
        }
    }

    /// Ends the connection without a goodbye, and with it everything that uses it.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.socket.shut_down();
    }

    /// Closes a channel in the background, and drops `kept` only then.
    pub(super) fn close_channel<T: Send + 'static>(self: Arc<Self>, channel: Channel, kept: T) {
        if !channel.status().connected() || self.check().is_err() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let goodbyes = self.goodbyes.clone();
        goodbyes.spawn_on(
            async move {
                // Without an answer, the broker closes the channel when it comes to it.
                let closed = channel.close(REPLY_SUCCESS, "done".into());
                let _ = timeout(CLOSE_TIMEOUT, closed).await;
                drop((kept, self));
            },
            &runtime,
        );
    }

    /// Closes the connection in the background, and drops `kept` (its channels, which would else say goodbye on their
    /// own and be in the way) only then. Everything that uses it fails from now on.
    pub(super) fn say_goodbye<T: Send + 'static>(&self, kept: T) {
        let connected = self.connection.status().connected();
        if self.failed.swap(true, Ordering::AcqRel) || !connected {
            return;
        }
        let (connection, socket) = (self.connection.clone(), self.socket.clone());
        let runtime = tokio::runtime::Handle::try_current();
        let Some(runtime) = runtime.ok().filter(|_| !connection.status().blocked()) else {
            return socket.shut_down();
        };
        let goodbye = async move {
            let closed = connection.close(REPLY_SUCCESS, "goodbye".into());
            if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
                socket.shut_down();
            }
            drop(kept);
        };
        self.goodbyes.spawn_on(goodbye, &runtime);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.say_goodbye(());
    }
}

/// What went wrong, with the broker's own words.
pub(super) fn unavailable(what: &str, error: &lapin::Error) -> Error {
    Error::Unavailable(format!("{what}: {error}"))
}
