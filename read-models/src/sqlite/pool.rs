//! The connections of one file, its format, and the news of its commits within this process. It refuses databases in
//! memory, since every connection would see another one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use tokio::sync::watch;

use crate::{Error, bookkeeping};

/// Connections that read at once.
const READERS: u32 = 8;
/// How long a statement waits for another process's lock, and a caller for a connection.
const BUSY: Duration = Duration::from_secs(5);
/// The writer's page cache in KiB, as SQLite writes it: keys are random, so a rebuild touches pages all over its index.
/// Taken as it is used, not at once.
const WRITER_CACHE: &str = "-32768";
/// Pages of the write-ahead log before they are copied into the file (16 MiB): a page changed often is copied once.
const CHECKPOINT_PAGES: &str = "4000";
/// Instructions of SQLite's machine between two looks at the time: well under a millisecond of work.
const INSTRUCTIONS: i32 = 10_000;
/// Statements kept prepared on each connection: a dozen for each read model.
const STATEMENTS: usize = 256;

const SCHEMA: [&str; 5] = [
    "CREATE TABLE format (version INTEGER NOT NULL)",
    "CREATE TABLE generations (table_name TEXT PRIMARY KEY, model TEXT NOT NULL, number INTEGER NOT NULL, \
     definition_hash TEXT NOT NULL, definition TEXT NOT NULL, live INTEGER NOT NULL, log TEXT NOT NULL, \
     epoch TEXT NOT NULL, partitions INTEGER NOT NULL, \
     created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), UNIQUE (model, number))",
    "CREATE UNIQUE INDEX one_live_generation ON generations (model) WHERE live",
    "CREATE TABLE checkpoints (generation TEXT NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     partition INTEGER NOT NULL, position INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (generation, partition))",
    "CREATE TABLE parked (generation TEXT NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     stream TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, error TEXT NOT NULL, \
     PRIMARY KEY (generation, stream))",
];

/// What format 2 adds: the journal of changed rows.
const JOURNAL: [&str; 1] = [
    "CREATE TABLE changes (generation TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, \
     since INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT (unixepoch()), keys BLOB NOT NULL, owners TEXT, \
     PRIMARY KEY (generation, partition, position))",
];

/// What format 3 adds: several generations of a definition, what operators asked for, and the history of parked streams.
const OPERATED: [&str; 17] = [
    "ALTER TABLE generations ADD COLUMN serves INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE generations ADD COLUMN served INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE generations ADD COLUMN defined INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE generations ADD COLUMN asked INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE generations ADD COLUMN compared INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE generations ADD COLUMN refused INTEGER NOT NULL DEFAULT 0",
    "UPDATE generations SET serves = live, served = live, defined = number",
    "CREATE UNIQUE INDEX one_generation_serves ON generations (model, definition_hash, log, epoch) WHERE serves",
    "ALTER TABLE checkpoints ADD COLUMN amended INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE parked RENAME TO parked_before",
    "CREATE TABLE parked (generation TEXT NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     stream TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, error TEXT NOT NULL, \
     events INTEGER NOT NULL DEFAULT 0, parked_at INTEGER NOT NULL DEFAULT (unixepoch()), retries INTEGER NOT NULL DEFAULT 0, \
     retried_at INTEGER, retried_by TEXT, retry INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (generation, stream))",
    "INSERT INTO parked (generation, stream, partition, position, error) \
     SELECT generation, stream, partition, position, error FROM parked_before",
    "DROP TABLE parked_before",
    "CREATE TABLE discarded (generation TEXT NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     stream TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (generation, position))",
    "CREATE TABLE operated (model TEXT NOT NULL, log TEXT NOT NULL, epoch TEXT NOT NULL, version INTEGER NOT NULL, \
     PRIMARY KEY (model, log, epoch))",
    "INSERT INTO operated (model, log, epoch, version) SELECT DISTINCT model, log, epoch, 0 FROM generations",
    // No foreign key: what was built is remembered when it is gone.
    "CREATE TABLE rebuilds (generation TEXT PRIMARY KEY, model TEXT NOT NULL, number INTEGER NOT NULL, asked INTEGER NOT NULL, \
     compared INTEGER NOT NULL, phase TEXT NOT NULL, events INTEGER NOT NULL, position INTEGER NOT NULL, \
     head INTEGER NOT NULL, rate INTEGER NOT NULL, left_s INTEGER, detail TEXT, began_at INTEGER NOT NULL, \
     updated_at INTEGER NOT NULL)",
];
/// What the stores of one file in this process share, so that a reader hears of a writer's commit at once.
static COMMITS: LazyLock<Mutex<HashMap<PathBuf, Weak<watch::Sender<u64>>>>> =
    LazyLock::new(Mutex::default);

/// The file that a URL names, and how to connect to it.
pub(super) fn options(url: &str) -> Result<(PathBuf, SqliteConnectOptions), Error> {
    let wrong = |e: String| {
        Error::Invalid(format!(
            "the read model database's URL is wrong ({e}); write sqlite:FILE"
        ))
    };
    let connect = SqliteConnectOptions::from_str(url).map_err(|e| wrong(e.to_string()))?;
    let file = connect.get_filename().to_owned();
    if url.contains(":memory:") || url.contains("mode=memory") || file.as_os_str().is_empty() {
        return Err(wrong("a database in memory cannot be shared".into()));
    }
    Ok((
        file,
        connect
            .busy_timeout(BUSY)
            .statement_cache_capacity(STATEMENTS),
    ))
}

/// Connections that can only read, made when they are used.
pub(super) fn readers(connect: SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(BUSY)
        .test_before_acquire(false)
        .connect_lazy_with(connect.create_if_missing(false).read_only(true))
}

/// Ends what the connection is asked from now on once the time is over, even if nobody waits for it any more. It stays until
/// the next call, so it is for connections that are always asked for with it.
pub(super) async fn interrupt_after(
    connection: &mut SqliteConnection,
    timeout: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + timeout;
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(INSTRUCTIONS, move || Instant::now() < deadline);
    Ok(())
}

/// The connection that writes; the file, its folder and its format are made or checked.
pub(super) async fn writer(
    file: &Path,
    connect: SqliteConnectOptions,
) -> Result<SqlitePool, Error> {
    if let Some(folder) = file.parent() {
        let failed = |e| {
            Error::Invalid(format!(
                "the folder {} cannot be made: {e}",
                folder.display()
            ))
        };
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    let connect = connect
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A power cut may undo the last commits, and that is enough here: rows and checkpoint go back together, and the
        // log holds what followed. FULL would wait for the disk at every commit to protect what can be rebuilt.
        .synchronous(SqliteSynchronous::Normal)
        .pragma("cache_size", WRITER_CACHE)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY)
        // Readers of a WAL file want somebody to keep it open.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(connect)
        .await?;
    migrate(&pool).await?;
    Ok(pool)
}

async fn migrate(writer: &SqlitePool) -> Result<(), Error> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let exists: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'format')",
    )
    .fetch_one(&mut *transaction)
    .await?;
    let mut stored = 0;
    if exists {
        stored = sqlx::query_scalar("SELECT version FROM format")
            .fetch_one(&mut *transaction)
            .await?;
        bookkeeping::check_format(stored)?;
        if stored == bookkeeping::FORMAT {
            return Ok(());
        }
    }
    // What each format adds to the one before.
    let formats: [&[&'static str]; 3] = [&SCHEMA, &JOURNAL, &OPERATED];
    for format in formats.into_iter().skip(stored as usize) {
        for statement in format {
            sqlx::query(*statement).execute(&mut *transaction).await?;
        }
    }
    let note = if exists {
        "UPDATE format SET version = $1"
    } else {
        "INSERT INTO format (version) VALUES ($1)"
    };
    sqlx::query(note)
        .bind(bookkeeping::FORMAT)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction.commit().await?)
}

/// The news of a file's commits, shared by its stores in this process.
pub(super) fn commits_of(file: &Path) -> Arc<watch::Sender<u64>> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut stores = COMMITS.lock().unwrap_or_else(PoisonError::into_inner);
    stores.retain(|_, commits| commits.strong_count() > 0);
    if let Some(commits) = stores.get(&file).and_then(Weak::upgrade) {
        return commits;
    }
    let commits = Arc::new(watch::Sender::new(0));
    stores.insert(file, Arc::downgrade(&commits));
    commits
}
