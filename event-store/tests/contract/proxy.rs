//! A TCP proxy before PostgreSQL that loses chosen requests or their answers. It refuses to change a byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What is lost when a marked request comes by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The server carries it out; the connection breaks before the answer is back.
    Answer,
    /// The connection breaks before the server gets it.
    Request,
}

#[derive(Default)]
struct Orders {
    left: AtomicUsize,
    requests: AtomicBool,
    lost: AtomicUsize,
}

/// The proxy; it ends when it is dropped.
pub struct Proxy {
    pub url: String,
    orders: Arc<Orders>,
    _task: JoinSet<()>,
}

/// PostgreSQL ends every answer with this message: ready for the next query, outside a transaction.
const READY: &[u8] = b"Z\0\0\0\x05I";

impl Proxy {
    /// The type name that marks requests.
    pub const MARK: &str = "ThingWhoseAnswerIsLost";

    pub async fn start(url: &str) -> Self {
        let address = url
            .split(['@', '/'])
            .find(|part| part.contains("127.0.0.1:"))
            .unwrap()
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let url = format!("{}?sslmode=disable", url.replace(&address, &here));
        let orders = Arc::new(Orders::default());
        let mut task = JoinSet::new();
        task.spawn({
            let orders = Arc::clone(&orders);
            async move {
                let mut connections = JoinSet::new();
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    let Ok(server) = TcpStream::connect(&address).await else {
                        continue;
                    };
                    connections.spawn(forward(client, server, Arc::clone(&orders)));
                }
            }
        });
        Self {
            url,
            orders,
            _task: task,
        }
    }

    /// Loses the next `times` marked requests or their answers.
    pub fn lose(&self, loss: Loss, times: usize) {
        self.orders
            .requests
            .store(loss == Loss::Request, Ordering::SeqCst);
        self.orders.left.store(times, Ordering::SeqCst);
    }

    /// How many were lost.
    pub fn lost(&self) -> usize {
        self.orders.lost.load(Ordering::SeqCst)
    }
}

impl Orders {
    /// Whether this marked request is to be lost.
    fn take(&self) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        self.lost.fetch_add(usize::from(taken), Ordering::SeqCst);
        taken
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, orders: Arc<Orders>) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    // The end of what came before, since a mark may arrive in two pieces.
    let mut recent: Vec<u8> = vec![];
    let mut swallow: Option<Vec<u8>> = None;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(n @ 1..) = read else { return };
                recent.extend_from_slice(&from_client[..n]);
                let marked = recent.windows(Proxy::MARK.len()).any(|part| part == Proxy::MARK.as_bytes());
                if marked {
                    recent.clear();
                    if orders.take() {
                        if orders.requests.load(Ordering::SeqCst) {
                            return;
                        }
                        swallow = Some(vec![]);
                    }
                }
                recent.drain(..recent.len().saturating_sub(Proxy::MARK.len()));
                if server.write_all(&from_client[..n]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(n @ 1..) = read else { return };
                match &mut swallow {
                    Some(answer) => {
                        answer.extend_from_slice(&from_server[..n]);
                        if answer.ends_with(READY) {
                            return;
                        }
                    }
                    None => if client.write_all(&from_server[..n]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
