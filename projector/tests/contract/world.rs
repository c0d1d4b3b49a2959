//! A log, a broker and a database of read models, and what runs between them.
//!
//! Refuses: to outlive its test. Whatever was started ends with its handle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, MemoryBroker, Relay, RelayOptions};
use event_store::{EventStore, Filter};
use events::{Partition, Position, partition_of};
use projector::{Options, Projector, Report, Rows, Status, built_in, verify};
use read_models::{Checkpoint, OperatedStore, ProjectionStore, ReadModel, Row, RowKey, Value};
use serde_json::Value as Json;
use test_support::{Postgres, RabbitMq, TempDir, eventually, temp_dir};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::samples::{account, append, registered, session_ended, settings};

/// How long anything may take on a busy machine.
pub const SOON: Duration = Duration::from_mins(1);

pub struct World {
    pub log: Arc<dyn EventStore>,
    pub broker: Arc<dyn Broker>,
    pub store: Arc<dyn OperatedStore>,
    pub models: Vec<ReadModel>,
    pub events_url: String,
    pub database_url: String,
    _folder: TempDir,
}

/// A task that ends with its handle.
pub struct Running<T> {
    pub status: watch::Receiver<T>,
    token: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl<T> Running<T> {
    /// Stops it in order.
    pub async fn stop(mut self) {
        self.token.cancel();
        if let Some(task) = self.task.take() {
            tokio::time::timeout(SOON, task)
                .await
                .expect("it stops")
                .expect("it does not panic");
        }
    }

    /// Ends it where it stands, as a crash would.
    pub async fn kill(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            assert!(task.await.is_err_and(|error| error.is_cancelled()));
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.token.cancel();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl World {
    /// On SQLite and the in-process broker.
    pub async fn embedded() -> Self {
        let folder = temp_dir();
        let path = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        let (events_url, database_url) = (path("events.db"), path("read-models.db"));
        Self::open(
            events_url,
            database_url,
            Arc::new(MemoryBroker::new()),
            folder,
        )
        .await
    }

    /// On PostgreSQL and RabbitMQ.
    pub async fn on_servers() -> Self {
        let broker = broker::open(&RabbitMq::shared().await.fresh_vhost().await)
            .await
            .expect("a URL of RabbitMQ");
        Self::on_postgres(broker).await
    }

    /// On PostgreSQL, with this broker.
    pub async fn on_postgres(broker: Arc<dyn Broker>) -> Self {
        let postgres = Postgres::shared().await;
        let (events, database) = (
            postgres.fresh_database().await,
            postgres.fresh_database().await,
        );
        Self::open(events, database, broker, temp_dir()).await
    }

    pub async fn open(
        events_url: String,
        database_url: String,
        broker: Arc<dyn Broker>,
        folder: TempDir,
    ) -> Self {
        let log = event_store::open(&events_url, event_store::Options::default())
            .await
            .expect("the log opens");
        let store = read_store(&database_url).await;
        Self {
            log,
            broker,
            store,
            models: built_in()
                .into_iter()
                .filter(|model| !model.observed)
                .collect(),
            events_url,
            database_url,
            _folder: folder,
        }
    }

    /// An empty database of read models of the same kind.
    pub async fn fresh_store(&self) -> Arc<dyn OperatedStore> {
        match self.database_url.strip_prefix("sqlite:") {
            Some(path) => read_store(&format!("sqlite:{path}-{}", Uuid::new_v4())).await,
            None => read_store(&Postgres::shared().await.fresh_database().await).await,
        }
    }

    pub fn relay(&self) -> Running<broker::RelayStatus> {
        let options = RelayOptions {
            idle_heartbeat: Duration::from_millis(50),
            ..RelayOptions::default()
        };
        let relay = Relay::new(
            Arc::clone(&self.log),
            Arc::clone(&self.broker),
            Uuid::new_v4(),
            options,
        );
        let (status, token) = (relay.status(), CancellationToken::new());
        let task = tokio::spawn(relay.run(token.clone()));
        Running {
            status,
            token,
            task: Some(task),
        }
    }

    pub fn projector(&self) -> Running<Status> {
        self.operated_with(self.store.clone(), self.models.clone(), Options::default())
    }

    /// On a database that operators ask nothing of.
    pub fn projector_with(
        &self,
        store: Arc<dyn ProjectionStore>,
        models: Vec<ReadModel>,
        options: Options,
    ) -> Running<Status> {
        let (log, broker) = (Arc::clone(&self.log), Arc::clone(&self.broker));
        run(Projector::new(log, broker, store, models, options))
    }

    pub fn operated_with(
        &self,
        store: Arc<dyn OperatedStore>,
        models: Vec<ReadModel>,
        options: Options,
    ) -> Running<Status> {
        let (log, broker) = (Arc::clone(&self.log), Arc::clone(&self.broker));
        run(Projector::operated(log, broker, store, models, options))
    }

    /// Appends one event to a stream.
    pub async fn append(&self, stream: &str, type_name: &str, data: Json) {
        append(&*self.log, stream, type_name, data).await;
    }

    /// Ten events for each of `accounts` accounts, interleaved: 1 registration, 8 settings, 1 session. `from` numbers
    /// the accounts.
    pub async fn history(&self, from: u128, accounts: u128) {
        self.turns(from, accounts, 0..10).await;
    }

    pub async fn turns(&self, from: u128, accounts: u128, turns: std::ops::Range<u32>) {
        for turn in turns {
            let appends = (from..from + accounts).map(|id| async move {
                let (account, session) = (account(id), format!("session-{}", Uuid::from_u128(id)));
                match turn {
                    0 => {
                        self.append(&account, "AccountRegistered", registered())
                            .await;
                    }
                    9 => {
                        self.append(&session, "SessionEnded", session_ended(id))
                            .await;
                    }
                    _ => {
                        self.append(&account, "SettingsChanged", settings(&format!("l{turn}")))
                            .await;
                    }
                }
            });
            futures::future::join_all(appends).await;
        }
    }

    /// Where a projector that took every event in must stand.
    pub async fn marks(&self) -> Vec<Checkpoint> {
        let partitions = self.log.identity().partitions;
        let mut marks = vec![Checkpoint::default(); usize::from(partitions)];
        let mut after = Position::ZERO;
        loop {
            let page = self
                .log
                .read_all(after, &Filter::default(), 5_000)
                .await
                .expect("the log can be read");
            for event in &page.events {
                let mark = &mut marks[usize::from(partition_of(&event.stream, partitions).0)];
                *mark = Checkpoint {
                    position: event.position,
                    digest: mark.digest.then(&event.hash),
                    amended: 0,
                };
            }
            if page.through <= after {
                return marks;
            }
            after = page.through;
        }
    }

    /// Waits until every read model stands at the log's head.
    pub async fn caught_up(&self) {
        self.caught_up_in(&*self.store, &self.models).await;
    }

    pub async fn caught_up_in(&self, store: &dyn ProjectionStore, models: &[ReadModel]) {
        let marks = &self.marks().await;
        for model in models {
            eventually(SOON, || async move {
                let Some(live) = store.live(&model.name).await.ok().flatten() else {
                    return Err(None);
                };
                match store.checkpoints(&live).await {
                    Ok((_, checkpoints)) if checkpoints == *marks => Ok(()),
                    other => Err(Some(other)),
                }
            })
            .await;
        }
    }

    /// What a fresh build from the log alone makes of it.
    pub async fn rebuilt(&self) -> Vec<Table> {
        let store = self.fresh_store().await;
        let options = Options {
            group: "rebuild".into(),
            rebuilding_page: 70,
            ..Options::default()
        };
        let quiet = Self {
            broker: Arc::new(MemoryBroker::new()),
            ..self.share()
        };
        let projector = quiet.operated_with(store.clone(), self.models.clone(), options);
        self.caught_up_in(&*store, &self.models).await;
        projector.stop().await;
        self.tables_in(&*store).await
    }

    fn share(&self) -> Self {
        Self {
            log: Arc::clone(&self.log),
            broker: Arc::clone(&self.broker),
            store: Arc::clone(&self.store),
            models: self.models.clone(),
            events_url: self.events_url.clone(),
            database_url: self.database_url.clone(),
            _folder: temp_dir(),
        }
    }

    pub async fn tables(&self) -> Vec<Table> {
        self.tables_in(&*self.store).await
    }

    pub async fn tables_in(&self, store: &dyn ProjectionStore) -> Vec<Table> {
        let mut tables = Vec::new();
        for model in &self.models {
            let generation = store.live(&model.name).await.unwrap().expect("it is built");
            let mut table = Table {
                model: model.name.clone(),
                ..Table::default()
            };
            for partition in (0..self.log.identity().partitions).map(Partition) {
                let (checkpoint, rows) = store
                    .scan(model, &generation, partition, None, u32::MAX)
                    .await
                    .unwrap();
                table.checkpoints.push(checkpoint);
                table
                    .rows
                    .extend(rows.into_iter().map(|(key, row)| ((partition, key), row)));
            }
            tables.push(table);
        }
        tables
    }

    pub fn model(&self, name: &str) -> &ReadModel {
        self.models
            .iter()
            .find(|model| model.name == name)
            .expect("a read model")
    }

    /// A row as readers see it: the columns by name.
    pub async fn row(
        &self,
        model: &str,
        key: impl Into<RowKey>,
    ) -> Option<BTreeMap<String, Value>> {
        let model = self.model(model);
        let values = self
            .store
            .get(model, &key.into())
            .await
            .expect("the row can be read")?;
        let hidden = ["_position", "_updated_at"].map(str::to_owned);
        let names = model
            .key
            .iter()
            .chain(&model.columns)
            .map(|column| column.name.clone())
            .chain(hidden);
        Some(names.zip(values).collect())
    }

    pub async fn verify(&self, rows: Rows) -> Report {
        verify(&*self.log, &*self.store, &self.models, rows, &mut |_| {})
            .await
            .expect("a verdict")
    }

    pub async fn table_name(&self, model: &str) -> String {
        self.store
            .live(model)
            .await
            .unwrap()
            .expect("it is built")
            .table
    }
}

/// Everything stored of a read model.
#[derive(Debug, Default, PartialEq)]
pub struct Table {
    pub model: String,
    pub checkpoints: Vec<Checkpoint>,
    pub rows: BTreeMap<(Partition, RowKey), Row>,
}

fn run(projector: Projector) -> Running<Status> {
    let (status, token) = (projector.status(), CancellationToken::new());
    let run = projector.run(token.clone());
    let task = tokio::spawn(async move { run.await.expect("the projector begins") });
    Running {
        status,
        token,
        task: Some(task),
    }
}

async fn read_store(url: &str) -> Arc<dyn OperatedStore> {
    read_models::open(url, read_models::Options::default())
        .await
        .expect("the database opens")
}
