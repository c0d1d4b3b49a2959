//! The two databases a vault (or its erasure ledger) can be in, opened safely. SQL text is shared: `$N` placeholders suit both, times are
//! milliseconds since 1970, and `on!` compiles one body for each pool type.
//!
//! Refuses: a vault that could lose what it acknowledged (SQLite in memory, PostgreSQL without synchronous commit).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Database, Pool, Postgres, Sqlite, Transaction};
use tokio::time::Instant;

use crate::error::Error;

/// One of this crate's databases: how settings and messages call it, and its schema in PostgreSQL.
pub(crate) struct Kind {
    name: &'static str,
    flag: &'static str,
    file: &'static str,
    pub(crate) schema: &'static str,
}

/// The vault.
pub(crate) const VAULT: Kind = Kind {
    name: "vault",
    flag: "--vault",
    file: "data/vault.db",
    schema: "showcaller_vault",
};
/// The erasure ledger.
pub(crate) const LEDGER: Kind = Kind {
    name: "erasure ledger",
    flag: "--erasure-ledger",
    file: "data/erasures.db",
    schema: "showcaller_erasures",
};
/// The longest that one operation may take, waiting for a connection included.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait for a connection, and SQLite's for its write lock.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for PostgreSQL's locks and statements, as its settings write it.
const SERVER_TIMEOUT: &str = "5s";
/// The pause before a SQLite file that is being made is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// SQLite connections that only read; one more writes.
const SQLITE_READERS: u32 = 4;

/// Runs one body on whichever database it is.
macro_rules! on {
    ($store:expr, $pools:ident => $body:expr) => {
        match $store {
            $crate::store::Store::Sqlite($pools) => $body,
            $crate::store::Store::Postgres($pools) => $body,
        }
    };
}
pub(crate) use on;

/// Within a transaction: whether a person was erased. Nobody can erase them before it ends, so whatever it writes for
/// them is there when an erasure deletes.
macro_rules! erased {
    ($store:expr, $tx:expr, $person:expr) => {{
        let erased: Option<bool> = sqlx::query_scalar($store.either(
            "SELECT wrapped IS NULL FROM data_keys WHERE person = $1",
            "SELECT wrapped IS NULL FROM data_keys WHERE person = $1 FOR NO KEY UPDATE",
        ))
        .bind($person)
        .fetch_optional(&mut *$tx)
        .await?;
        erased == Some(true)
    }};
}
pub(crate) use erased;

/// The statement that takes the rows of a table whose next try is due at `$1`, `$2` of them at most, and moves them on,
/// so that whoever comes next finds them taken. PostgreSQL's sessions pass over rows that another is taking.
macro_rules! take_due {
    ($store:expr, $table:literal, $set:literal, $columns:literal) => {
        $store.either(
            take_due!(@text $table, $set, $columns, ""),
            take_due!(@text $table, $set, $columns, "FOR UPDATE SKIP LOCKED"),
        )
    };
    (@text $table:literal, $set:literal, $columns:literal, $lock:literal) => {
        concat!(
            "WITH due AS MATERIALIZED (SELECT id FROM ", $table, " WHERE next_try_at_ms <= $1 \
             ORDER BY next_try_at_ms, id LIMIT $2 ", $lock, ") \
             UPDATE ", $table, " SET ", $set, " WHERE id IN (SELECT id FROM due) RETURNING ", $columns
        )
    };
}
pub(crate) use take_due;

/// Where to read and where to write. SQLite has one writing connection, so that writers line up here, in order,
/// rather than in SQLite's busy handler; for PostgreSQL both are the same pool.
pub(crate) struct Pools<DB: Database> {
    pub(crate) read: Pool<DB>,
    pub(crate) write: Pool<DB>,
}

impl Pools<Sqlite> {
    /// A transaction that holds the write lock before it reads anything.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.write.begin_with("BEGIN IMMEDIATE").await
    }
}

impl Pools<Postgres> {
    /// A transaction; what it reads to judge by, it must lock.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.write.begin().await
    }
}

/// An open vault database.
pub(crate) enum Store {
    Sqlite(Pools<Sqlite>),
    Postgres(Pools<Postgres>),
}

impl Store {
    pub(crate) async fn open(kind: &Kind, url: &str, max_connections: u32) -> Result<Self, Error> {
        match url.split_once(':').map_or(url, |(scheme, _)| scheme) {
            "sqlite" => Self::open_sqlite(kind, url).await,
            "postgres" | "postgresql" => Self::open_postgres(kind, url, max_connections).await,
            _ => Err(Error::Invalid(format!(
                "{} wants a URL like sqlite:{} or postgres://user@host/database",
                kind.flag, kind.file
            ))),
        }
    }

    /// The text for this database, where the two can't share one.
    pub(crate) fn either(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    async fn open_sqlite(kind: &Kind, url: &str) -> Result<Self, Error> {
        let Kind {
            name, flag, file, ..
        } = kind;
        let options = SqliteConnectOptions::from_str(url).map_err(|error| {
            Error::Invalid(format!(
                "{flag} is no SQLite URL ({error}): write sqlite:{file}"
            ))
        })?;
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(Error::Invalid(format!(
                "the {name} in memory would be lost with the process: write a file, like sqlite:{file}"
            )));
        }
        let path = options.get_filename().to_path_buf();
        let failed = |error: std::io::Error| {
            Error::Invalid(format!(
                "the {name}'s file {} can't be opened: {error}",
                path.display()
            ))
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // Made here, so that others never may read it; SQLite gives its journal the same mode.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(WAIT_TIMEOUT)
            .pragma("secure_delete", "ON");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(WAIT_TIMEOUT)
        };
        // Processes that open a new file at once may each hold what another needs to switch it to WAL: SQLite then gives
        // up without waiting.
        let began = Instant::now();
        let write = loop {
            match within(pool(1).connect_with(options.clone())).await {
                Err(Error::Unavailable(_)) if began.elapsed() < WAIT_TIMEOUT => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                connected => break connected?,
            }
        };
        let read =
            within(pool(SQLITE_READERS).connect_with(options.pragma("query_only", "ON"))).await?;
        Ok(Self::Sqlite(Pools { read, write }))
    }

    async fn open_postgres(kind: &Kind, url: &str, max_connections: u32) -> Result<Self, Error> {
        let Kind {
            name, flag, schema, ..
        } = kind;
        // The parser's own message could quote the password.
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            Error::Invalid(format!(
                "{flag} is no PostgreSQL URL: write postgres://user@host:5432/database"
            ))
        })?;
        let options = options
            .application_name(&format!("showcaller {name}"))
            .options([
                ("search_path", *schema),
                ("lock_timeout", SERVER_TIMEOUT),
                ("statement_timeout", SERVER_TIMEOUT),
                ("idle_in_transaction_session_timeout", SERVER_TIMEOUT),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections.max(1))
            .acquire_timeout(WAIT_TIMEOUT)
            .connect_with(options);
        let pool = within(pool).await?;
        let commit: String =
            within(sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&pool)).await?;
        if commit == "off" {
            return Err(Error::Invalid(format!(
                "the {name}'s PostgreSQL has synchronous_commit=off: a crash could lose what it acknowledged, a data \
                 key whose events are stored for example. Write ALTER ROLE … SET synchronous_commit = on"
            )));
        }
        Ok(Self::Postgres(Pools {
            read: pool.clone(),
            write: pool,
        }))
    }
}

/// Runs a database operation under [`OPERATION_TIMEOUT`].
pub(crate) async fn within<T>(
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(OPERATION_TIMEOUT, operation).await {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::Unavailable(format!(
            "no answer within {} s",
            OPERATION_TIMEOUT.as_secs()
        ))),
    }
}

/// The one row that a writing statement returned. All its rows are fetched: SQLite commits when the last one was, and
/// says only then whether it could.
pub(crate) fn one<T>(mut rows: Vec<T>) -> Result<T, Error> {
    rows.pop()
        .ok_or_else(|| Error::Invalid("the vault: a statement returned no row".into()))
}

/// A time as it is stored.
pub(crate) fn to_ms(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis()
}

/// A stored time.
pub(crate) fn from_ms(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}
