//! A served log of one test's own. It refuses to know more than an address.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use event_store::EventStore;
use eventstore::{AppendToStreamOptions, Client, EventData, StreamState, WriteResult};
use eventstore_protocol::{Gate, Identity, OpenGate, Options, serve};
use serde_json::json;
use test_support::{TempDir, temp_dir};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What positions are multiplied by.
pub const STRIDE: u64 = 37;

/// A log in SQLite, served for as long as this lives.
pub struct Served {
    pub port: u16,
    pub store: Arc<dyn EventStore>,
    pub shutdown: CancellationToken,
    pub folder: TempDir,
    _server: JoinSet<()>,
}

pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

impl Served {
    pub async fn open() -> Self {
        Self::start(Arc::new(OpenGate), None).await
    }

    pub async fn start(gate: Arc<dyn Gate>, tls: Option<Identity>) -> Self {
        let folder = temp_dir();
        let url = format!("sqlite:{}/events.db", folder.path().display());
        let store = event_store::open(&url, event_store::Options::default())
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = CancellationToken::new();
        let options = Options {
            gate,
            deciders: BTreeSet::from(["account".to_owned()]),
            clock: Arc::new(now),
            tls,
            stride: STRIDE,
        };
        let mut server = JoinSet::new();
        server.spawn({
            let (store, shutdown) = (Arc::clone(&store), shutdown.clone());
            async move {
                serve(listener, store, options, shutdown).await.unwrap();
            }
        });
        Self {
            port,
            store,
            shutdown,
            folder,
            _server: server,
        }
    }

    pub fn url(&self) -> String {
        format!("esdb://127.0.0.1:{}?tls=false", self.port)
    }

    pub fn client(&self) -> Client {
        client(&self.url())
    }
}

pub fn client(url: &str) -> Client {
    Client::new(url.parse().unwrap()).unwrap()
}

pub fn event(type_name: &str) -> EventData {
    EventData::json(type_name, &json!({"seat": 1})).unwrap()
}

pub async fn append(
    client: &Client,
    stream: &str,
    state: StreamState,
    events: Vec<EventData>,
) -> eventstore::Result<WriteResult> {
    let options = AppendToStreamOptions::default().stream_state(state);
    client.append_to_stream(stream, &options, events).await
}
