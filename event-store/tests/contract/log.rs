//! A log of one test's own, what to put into it, and the proof that it is whole. It refuses to know adapters beyond how
//! their appends are held up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::DateTime;
use event_store::{Append, Appended, EventStore, Expected, Filter, Options, open};
use events::{CommandId, Hash, NewEvent, Position, RecordedEvent, StreamId, Version, partition_of};
use sqlx::{Connection, PgConnection, SqliteConnection};
use test_support::{
    Link, Postgres, TempDir, eventstore_address, fresh_log, named_eventstore, temp_dir,
};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An empty log.
pub struct Log {
    pub url: String,
    /// The database that holds it in the end; none is known behind a server that somebody named.
    database: Option<String>,
    _folder: Option<TempDir>,
    /// What serves it, for as long as this lives.
    _server: Option<JoinSet<()>>,
    /// The way to a server that somebody named, for the first store that is opened.
    link: Option<Arc<Linked>>,
}

/// What stands for a lock where none can be taken: the first store's way to the server.
pub struct Linked {
    link: Link,
    url: String,
    taken: AtomicBool,
}

/// What positions are multiplied by where EventStoreDB's protocol is served, so that they are as sparse as its own.
const STRIDE: u64 = 37;

/// What keeps appends waiting; dropping it would let go only after a while.
pub enum Held {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Link(Arc<Linked>),
}

impl Log {
    pub fn sqlite() -> Self {
        let folder = temp_dir();
        let url = format!("sqlite:{}/data/events.db", folder.path().display());
        Self {
            _folder: Some(folder),
            ..Self::at(url)
        }
    }

    pub async fn postgres() -> Self {
        Self::at(Postgres::shared().await.fresh_database().await)
    }

    fn at(url: String) -> Self {
        Self {
            database: Some(url.clone()),
            url,
            _folder: None,
            _server: None,
            link: None,
        }
    }

    /// EventStoreDB's protocol on a socket: served from SQLite, or by the server that somebody named. The log has a name
    /// there: so the serving log keeps its events byte for byte, as a real server would, and chains nothing anew.
    pub async fn eventstore() -> Self {
        if let Some(server) = named_eventstore() {
            return Self::on_named(&fresh_log(&server)).await;
        }
        let log = Self::sqlite();
        let (address, server) = serve(log.open().await).await;
        Self {
            url: format!("esdb://{address}?tls=false&log=contract"),
            _server: Some(server),
            ..log
        }
    }

    async fn on_named(url: &str) -> Self {
        let address = eventstore_address(url);
        let link = Link::to(&address).await;
        let linked = Linked {
            url: url.replacen(&address, link.address(), 1),
            link,
            taken: AtomicBool::new(false),
        };
        Self {
            database: None,
            link: Some(Arc::new(linked)),
            ..Self::at(url.to_owned())
        }
    }

    /// The same log, for a task beside the test; the test keeps its folder.
    pub fn beside(other: &Self) -> Self {
        Self {
            database: other.database.clone(),
            link: other.link.clone(),
            ..Self::at(other.url.clone())
        }
    }

    /// The server's one log without a name; only of a server of one's own.
    pub fn without_name(&self) -> Option<String> {
        let (url, _) = self.url.split_once("&log=")?;
        (!self.is_named()).then(|| url.to_owned())
    }

    /// It is on a server that somebody named, of which nothing is known but its protocol.
    pub fn is_named(&self) -> bool {
        self.database.is_none()
    }

    pub fn is_sqlite(&self) -> bool {
        let database = self.database.as_deref();
        database.is_some_and(|database| database.starts_with("sqlite:"))
    }

    pub fn is_eventstore(&self) -> bool {
        self.url.starts_with("esdb:")
    }

    /// Opens it: each store stands for a process, since they share nothing.
    pub async fn open(&self) -> Arc<dyn EventStore> {
        self.open_with(Options::default()).await
    }

    pub async fn open_with(&self, options: Options) -> Arc<dyn EventStore> {
        let first = |linked: &&Arc<Linked>| !linked.taken.swap(true, Ordering::SeqCst);
        let url = match self.link.as_ref().filter(first) {
            Some(linked) => &linked.url,
            None => &self.url,
        };
        open(url, options).await.expect("the store opens")
    }

    /// Runs SQL beside the store, in whichever dialect it speaks. There must be a database to run it in.
    pub async fn execute(&self, sqlite: &'static str, postgres: &'static str) {
        let database = self.database.as_deref().expect("a database of its own");
        let done = if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(database).await.unwrap();
            sqlx::raw_sql(sqlite)
                .execute(&mut connection)
                .await
                .map(drop)
        } else {
            let mut connection = PgConnection::connect(database).await.unwrap();
            sqlx::raw_sql(postgres)
                .execute(&mut connection)
                .await
                .map(drop)
        };
        done.expect("the SQL runs");
    }

    /// Takes the lock that every append needs; of a server that was named, holds up the store that was opened first.
    pub async fn hold(&self) -> Held {
        let Some(database) = &self.database else {
            let linked = Arc::clone(self.link.as_ref().expect("a named server has a link"));
            linked.link.freeze();
            return Held::Link(linked);
        };
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(database).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE")
                .execute(&mut connection)
                .await
                .unwrap();
            Held::Sqlite(connection)
        } else {
            let mut connection = PgConnection::connect(database).await.unwrap();
            let lock = "BEGIN; SELECT * FROM showcaller_events.head FOR UPDATE";
            sqlx::raw_sql(lock).execute(&mut connection).await.unwrap();
            Held::Postgres(connection)
        }
    }
}

impl Held {
    pub async fn release(self) {
        match self {
            Self::Link(linked) => linked.link.mend(),
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

/// Serves a store over EventStoreDB's protocol: its address, and what ends with it.
pub async fn serve(store: Arc<dyn EventStore>) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = eventstore_protocol::Options {
        gate: Arc::new(eventstore_protocol::OpenGate),
        deciders: BTreeSet::new(),
        clock: Arc::new(|| DateTime::UNIX_EPOCH),
        tls: None,
        stride: STRIDE,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let served = eventstore_protocol::serve(listener, store, options, CancellationToken::new());
        served.await.expect("the log is served");
    });
    (address, tasks)
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
        position >= Position::new(n)
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
