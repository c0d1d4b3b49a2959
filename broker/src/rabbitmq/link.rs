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

/// A second handle to the connection's socket, to shut it down with.
type Socket = Arc<OnceLock<TcpStream>>;

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
        let connecting = Connection::connector(
            uri.clone(),
            runtime,
            async move |uri, runtime| {
                // This runs on the connection's own thread, which nobody else can end.
                let stream = timeout(CONNECT_TIMEOUT, uri.connect_async(&runtime))
                    .await
                    .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
                let plain = match &stream {
                    AsyncTcpStream::Plain(plain) => plain,
                    AsyncTcpStream::Rustls(tls) => tls.get_ref().0,
                    _ => return Ok(stream),
                };
                let _ = slot.set(TcpStream::from(
                    plain.get_ref().as_fd().try_clone_to_owned()?,
                ));
                Ok(stream)
            },
            properties,
        );
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(Self {
                connection: Arc::new(connection),
                socket,
                failed: AtomicBool::new(false),
                goodbyes,
            }),
            Ok(Err(error)) => {
                shut_down(&socket);
                Err(unavailable("cannot connect", &error))
            }
            Err(_) => {
                shut_down(&socket);
                Err(Error::Unavailable(format!(
                    "no connection within {CONNECT_TIMEOUT:?}"
                )))
            }
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
        shut_down(&self.socket);
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

    /// Closes the connection in the background; everything that uses it fails from now on.
    pub(super) fn say_goodbye(self: &Arc<Self>) {
        self.goodbye();
    }

    fn goodbye(&self) {
        let running = self.connection.status().connected();
        if self.failed.swap(true, Ordering::AcqRel) || !running {
            return;
        }
        let (connection, socket) = (self.connection.clone(), self.socket.clone());
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return shut_down(&socket);
        };
        if connection.status().blocked() {
            return shut_down(&socket);
        }
        let goodbye = async move {
            let closed = connection.close(REPLY_SUCCESS, "goodbye".into());
            if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
                shut_down(&socket);
            }
        };
        self.goodbyes.spawn_on(goodbye, &runtime);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.goodbye();
    }
}

fn shut_down(socket: &Socket) {
    if let Some(socket) = socket.get() {
        // It may be closed already.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// What went wrong, with the broker's own words.
pub(super) fn unavailable(what: &str, error: &lapin::Error) -> Error {
    Error::Unavailable(format!("{what}: {error}"))
}
