//! A log of one test's own, what to put into it, and the proof that it is whole. It refuses to know adapters beyond how
//! their locks are held and their commits slowed down.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::DateTime;
use event_store::{Append, Appended, EventStore, Expected, Filter, Options, open};
use events::{CommandId, Hash, NewEvent, Position, RecordedEvent, StreamId, Version, partition_of};
use sqlx::{Connection, PgConnection, SqliteConnection};
use test_support::{Postgres, TempDir, temp_dir};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An empty log.
pub struct Log {
    pub url: String,
    /// The database that holds it in the end.
    database: String,
    _folder: Option<TempDir>,
    /// What serves it, for as long as this lives.
    server: Option<JoinSet<()>>,
}

/// What positions are multiplied by where EventStoreDB's protocol is served, so that they are as sparse as its own.
const STRIDE: u64 = 37;

/// A connection that holds the lock which appends need; dropping it would let go only after a while.
pub enum Held {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Log {
    pub fn sqlite() -> Self {
        let folder = temp_dir();
        let url = format!("sqlite:{}/data/events.db", folder.path().display());
        Self {
            database: url.clone(),
            url,
            _folder: Some(folder),
            server: None,
        }
    }

    pub async fn postgres() -> Self {
        let url = Postgres::shared().await.fresh_database().await;
        Self {
            database: url.clone(),
            url,
            _folder: None,
            server: None,
        }
    }

    /// EventStoreDB's protocol on a socket, served from SQLite.
    pub async fn eventstore() -> Self {
        let mut log = Self::sqlite();
        let store = log.open().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        log.url = format!("esdb://{}?tls=false", listener.local_addr().unwrap());
        let options = eventstore_protocol::Options {
            gate: Arc::new(eventstore_protocol::OpenGate),
            deciders: BTreeSet::new(),
            clock: Arc::new(|| DateTime::UNIX_EPOCH),
            tls: None,
            stride: STRIDE,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let served =
                eventstore_protocol::serve(listener, store, options, CancellationToken::new());
            served.await.expect("the log is served");
        });
        log.server = Some(tasks);
        log
    }

    /// The same database, for a task beside the test; the test keeps its folder.
    pub fn beside(other: &Self) -> Self {
        Self {
            url: other.url.clone(),
            database: other.database.clone(),
            _folder: None,
            server: None,
        }
    }

    pub fn is_sqlite(&self) -> bool {
        self.database.starts_with("sqlite:")
    }

    pub fn is_eventstore(&self) -> bool {
        self.url.starts_with("esdb:")
    }

    /// Opens it: each store stands for a process, since they share nothing.
    pub async fn open(&self) -> Arc<dyn EventStore> {
        self.open_with(Options::default()).await
    }

    pub async fn open_with(&self, options: Options) -> Arc<dyn EventStore> {
        open(&self.url, options).await.expect("the store opens")
    }

    /// Runs SQL beside the store, in whichever dialect it speaks.
    pub async fn execute(&self, sqlite: &'static str, postgres: &'static str) {
        let done = if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.database).await.unwrap();
            sqlx::raw_sql(sqlite)
                .execute(&mut connection)
                .await
                .map(drop)
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(postgres)
                .execute(&mut connection)
                .await
                .map(drop)
        };
        done.expect("the SQL runs");
    }

    /// Takes the lock that every append needs.
    pub async fn hold(&self) -> Held {
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.database).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE")
                .execute(&mut connection)
                .await
                .unwrap();
            Held::Sqlite(connection)
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            let lock = "BEGIN; SELECT * FROM showcaller_events.head FOR UPDATE";
            sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
            Held::Postgres(connection)
        }
    }
}

impl Held {
    pub async fn release(self) {
        match self {
            Self::Sqlite(mut connection) => drop(
                sqlx::raw_sql("ROLLBACK")
                    .execute(&mut connection)
                    .await
                    .unwrap(),
            ),
            Self::Postgres(mut connection) => drop(
                sqlx::raw_sql("ROLLBACK")
                    .execute(&mut connection)
                    .await
                    .unwrap(),
            ),
        }
    }
}

/// A command id that no other call in this process gave.
pub fn command() -> CommandId {
    static LAST: AtomicU64 = AtomicU64::new(0);
    CommandId(Uuid::from_u64_pair(
        0x5c,
        LAST.fetch_add(1, Ordering::Relaxed),
    ))
}

pub fn stream(name: &str) -> StreamId {
    StreamId::parse(name).expect("the name is valid")
}

pub fn event(command: CommandId, index: usize, type_name: &str, data: &str) -> NewEvent {
    NewEvent {
        id: command.event_id(index),
        type_name: type_name.into(),
        schema_version: 1,
        data: data.into(),
        metadata: format!(r#"{{"command_id": "{command}"}}"#),
    }
}

/// An append of `count` events under a new command id.
pub fn append(stream: &StreamId, expected: Expected, count: usize) -> Append {
    let command_id = command();
    let events = (0..count)
        .map(|i| event(command_id, i, "ThingDone", &format!(r#"{{"n": {i}}}"#)))
        .collect();
    Append {
        stream: stream.clone(),
        expected,
        command_id,
        events,
    }
}

pub fn exactly(version: u64) -> Expected {
    Expected::Exact(Version::new(version))
}

/// What is asserted of answers: versions and whether they were a first answer again.
pub fn seen(appended: &Appended) -> (u64, u64, bool) {
    (appended.first.get(), appended.last.get(), appended.repeated)
}

/// That this is the position of the log's `n`-th event, which only a store without gaps can tell.
pub fn is_nth(store: &dyn EventStore, position: Position, n: u64) -> bool {
    if store.gapless() {
        position.get() == n
    } else {
        position >= Position::new(n * STRIDE)
    }
}

/// Reads the whole log and proves it: positions that rise (without gaps, where the store promises that), versions without gaps, every hash, every partition.
pub async fn verified(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let head = store.head().await.unwrap();
    let (mut events, mut at) = (Vec::new(), Position::ZERO);
    while at < head {
        let page = store.read_all(at, &Filter::default(), 1_000).await.unwrap();
        assert!(page.through > at, "reading goes on until the head");
        at = page.through;
        events.extend(page.events);
    }
    let mut tails: HashMap<StreamId, (Version, Hash)> = HashMap::new();
    let mut last = Position::ZERO;
    for (index, event) in events.iter().enumerate() {
        assert!(event.position > last, "positions rise");
        assert!(
            is_nth(store, event.position, index as u64 + 1),
            "positions have no gaps, where they are promised to have none"
        );
        last = event.position;
        let (version, hash) = tails.entry(event.stream.clone()).or_default();
        assert_eq!(
            event.version,
            version.plus(1),
            "versions have no gaps in {}",
            event.stream
        );
        assert_eq!(
            event.hash,
            event.expected_hash(hash),
            "the chain holds at {} of {}",
            event.version,
            event.stream
        );
        (*version, *hash) = (event.version, event.hash);
    }
    assert_eq!(last, head, "the head is the last event");
    let partitions = store.identity().partitions;
    if let Some(first) = events.first() {
        let filter = Filter {
            partition: Some(partition_of(&first.stream, partitions)),
            ..Filter::default()
        };
        let page = store.read_all(Position::ZERO, &filter, 1).await.unwrap();
        assert_eq!(page.events[0], *first, "the stream is in its partition");
    }
    events
}

/// Proves the log whole and that each of these commands is in it exactly once.
pub async fn verified_once(store: &dyn EventStore, commands: &[CommandId]) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for event in verified(store).await {
        *counts.entry(event.metadata).or_default() += 1;
    }
    for command in commands {
        let metadata = event(*command, 0, "ThingDone", "{}").metadata;
        assert_eq!(
            counts.get(&metadata),
            Some(&1),
            "command {command} is in the log once"
        );
    }
}
