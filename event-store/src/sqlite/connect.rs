//! Opening the SQLite file: its settings, and migrations under its write lock.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use events::{LogIdentity, Position};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};
use tokio::time::Instant;

use crate::{Error, FORMAT, Options};

/// How long a reader or a lease waits for a lock.
const BUSY: Duration = Duration::from_secs(5);
/// How long opening waits for other processes that open the same file.
const OPEN_WAIT: Duration = Duration::from_secs(30);
const OPEN_PAUSE: Duration = Duration::from_millis(20);
/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;
/// How many rows a connection's thread reads ahead: handing over few at a time costs more than reading them.
const ROWS: usize = 1_024;

/// What is known after opening.
pub(super) struct Opened {
    pub identity: LogIdentity,
    pub head: Position,
    /// How the writer and the poller connect.
    pub connect: SqliteConnectOptions,
    pub pool: SqlitePool,
}

fn parse(url: &str, read_only: bool) -> Result<SqliteConnectOptions, Error> {
    let invalid = |why: &str| {
        Error::Invalid(format!(
            "the event store's URL must be of the form sqlite:PATH: {why}"
        ))
    };
    let options =
        SqliteConnectOptions::from_str(url).map_err(|error| invalid(&error.to_string()))?;
    let path = options.get_filename();
    if url.contains(":memory:") || url.contains("mode=memory") || path.as_os_str().is_empty() {
        return Err(invalid(
            "the log needs a file, since several connections share it",
        ));
    }
    let options = options
        .create_if_missing(!read_only)
        .journal_mode(SqliteJournalMode::Wal)
        // Every commit reaches the disk before it is answered.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(false)
        .statement_cache_capacity(STATEMENTS)
        .row_buffer_size(ROWS)
        .disable_statement_logging();
    Ok(if read_only {
        options.pragma("query_only", "ON")
    } else {
        options
    })
}

/// Opens the log, making or migrating it first unless `read_only`.
pub(super) async fn open(url: &str, options: &Options) -> Result<Opened, Error> {
    let connect = parse(url, options.read_only)?;
    let path = connect.get_filename().to_owned();
    if options.read_only {
        if !path.exists() {
            return Err(crate::no_log());
        }
    } else if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
        tokio::fs::create_dir_all(folder).await.map_err(|error| {
            Error::Invalid(format!(
                "the folder {} cannot be made: {error}",
                folder.display()
            ))
        })?;
    }
    let deadline = Instant::now() + OPEN_WAIT;
    let (identity, head) = loop {
        match prepare(&connect, options).await {
            // Switching a new file to WAL does not wait for others by itself.
            Err(Fault::Busy) if Instant::now() < deadline => tokio::time::sleep(OPEN_PAUSE).await,
            Err(Fault::Busy) => return Err(Error::Unavailable("the SQLite file is locked".into())),
            Err(Fault::Other(error)) => return Err(error),
            Ok(opened) => break opened,
        }
    };
    let pool = SqlitePoolOptions::new()
        .min_connections(0)
        .max_connections(options.connections.max(1))
        .acquire_timeout(BUSY)
        .test_before_acquire(false)
        .connect_lazy_with(connect.clone());
    Ok(Opened {
        identity,
        head,
        connect,
        pool,
    })
}

enum Fault {
    Busy,
    Other(Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) {
            Self::Busy
        } else {
            Self::Other(fault(&error))
        }
    }
}

async fn prepare(
    connect: &SqliteConnectOptions,
    options: &Options,
) -> Result<(LogIdentity, Position), Fault> {
    let mut connection = SqliteConnection::connect_with(connect).await?;
    if !options.read_only {
        sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut connection)
            .await?;
    }
    let exists: bool =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = 'events_head'")
            .fetch_one(&mut connection)
            .await?;
    if !exists {
        if options.read_only {
            return Err(Fault::Other(crate::no_log()));
        }
        sqlx::raw_sql(include_str!("schema.sql"))
            .execute(&mut connection)
            .await?;
        sqlx::query("UPDATE events_head SET format = ?1, needs = ?2, partitions = ?3, log = coalesce(?4, log) WHERE id = 1")
            .bind(FORMAT)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(options.partitions.max(1))
            .bind(options.log)
            .execute(&mut connection)
            .await?;
    }
    // Only the columns that every format has, so that a newer one can still be told apart.
    let row = sqlx::query("SELECT format, needs FROM events_head WHERE id = 1")
        .fetch_one(&mut connection)
        .await?;
    if row.get::<i32, _>(0) > FORMAT {
        return Err(Fault::Other(crate::too_new(row.get(0), row.get(1))));
    }
    let row = sqlx::query("SELECT log, epoch, partitions, position FROM events_head WHERE id = 1")
        .fetch_one(&mut connection)
        .await?;
    let identity = LogIdentity {
        log: row.get(0),
        epoch: row.get(1),
        partitions: row.get::<i32, _>(2) as u16,
    };
    let head = Position::from_i64(row.get(3));
    if !options.read_only {
        sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok((identity, head))
}

/// Another connection holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    // Extended codes hold the primary one in their low byte; 5 is SQLITE_BUSY.
    primary_code(error) == Some(5)
}

/// SQLite's primary result code.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// The fault behind a database error: what trying again may help against, and what it will not.
pub(super) fn fault(error: &sqlx::Error) -> Error {
    let text = format!("SQLite: {error}");
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Configuration(_) => Error::Invalid(text),
        // ERROR (no such table), READONLY, CORRUPT, CANTOPEN, NOTADB.
        _ if matches!(primary_code(error), Some(1 | 8 | 11 | 14 | 26)) => Error::Invalid(text),
        _ => Error::Unavailable(text),
    }
}
