//! A TCP proxy on loopback that stands for the network between a client and a server: it can be cut, frozen and mended.
//!
//! Refuses: to change a byte, and to know what is spoken.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const BUFFER: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Frozen,
    Cut,
}

/// The proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: String,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
    _accepting: JoinSet<()>,
}

/// One connection, as long as it lasts.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Link {
    /// A way to the server at this address (`HOST:PORT`).
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (state, seen) = watch::channel(State::Open);
        let connections = Arc::new(AtomicUsize::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn({
            let (server, connections) = (server.to_owned(), Arc::clone(&connections));
            async move {
                let mut forwarding = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    if *seen.borrow() == State::Cut {
                        continue;
                    }
                    connections.fetch_add(1, Ordering::SeqCst);
                    let counted = Counted(Arc::clone(&connections));
                    forwarding.spawn(forward(client, server.clone(), seen.clone(), counted));
                }
            }
        });
        Self {
            address,
            state,
            connections,
            _accepting: accepting,
        }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many connections it carries.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Breaks every connection, and each that comes, as if the server had died.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Passes nothing on, without breaking a connection, as if the server hung. What was sent meanwhile arrives when it is
    /// mended.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Passes everything on again.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn forward(
    client: TcpStream,
    server: String,
    mut state: watch::Receiver<State>,
    _counted: Counted,
) {
    let cut = {
        let mut state = state.clone();
        async move { drop(state.wait_for(|state| *state == State::Cut).await) }
    };
    let passed = async {
        if state.wait_for(|state| *state == State::Open).await.is_err() {
            return;
        }
        let Ok(server) = TcpStream::connect(&server).await else {
            return;
        };
        for stream in [&client, &server] {
            // Else small messages wait for each other.
            let _ = stream.set_nodelay(true);
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = pass(from_client, to_server, state.clone()) => {}
            () = pass(from_server, to_client, state.clone()) => {}
        }
    };
    tokio::select! {
        () = passed => {}
        () = cut => {}
    }
}

/// Passes bytes on while the link is open.
async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let open = state.wait_for(|state| *state == State::Open).await.is_ok();
        if !open || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
