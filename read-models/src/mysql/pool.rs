//! The connections and their sessions: every wait has an end, here and on the server, and nothing hangs on how the server
//! is set up. It refuses servers that would cut a batch of rows off.

use std::str::FromStr;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use crate::{Error, Options};

/// Connections of one mirror.
const CONNECTIONS: u32 = 16;
/// How long a caller waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is asked whether it still lives before it is used.
const IDLE_UNCHECKED: Duration = Duration::from_secs(1);
/// A connection that was idle for longer is closed, before the server does it.
const IDLE: Duration = Duration::from_secs(30);
/// Statements kept prepared on each connection: a server has 16,382 for all its clients.
const STATEMENTS: usize = 128;
/// The smallest packet that takes a batch of rows; both servers' default or less.
const PACKET_BYTES: u64 = 16 << 20;

/// Rows mean the same whatever the server's defaults: errors instead of cut-off values, double quotes for names.
///
/// `READ COMMITTED`: each statement sees what is committed by then, also what a lock was waited for; and fewer locks.
/// A transaction that is left alone frees its locks after `wait_timeout`, on MariaDB (`/*M!`) after 5 s. `/*!80000` is MySQL.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,STRICT_TRANS_TABLES,ANSI_QUOTES,PIPES_AS_CONCAT,\
     NO_BACKSLASH_ESCAPES,NO_ENGINE_SUBSTITUTION,ONLY_FULL_GROUP_BY', \
     innodb_lock_wait_timeout = 5, lock_wait_timeout = 5, wait_timeout = 60 \
     /*M!100000 , max_statement_time = 60, idle_transaction_timeout = 5 */ /*!80000 , max_execution_time = 60000 */; \
     SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
const READ_ONLY: &str = "SET SESSION TRANSACTION READ ONLY";

/// How to connect to the database that a URL names.
pub(super) fn connect_options(url: &str) -> Result<MySqlConnectOptions, Error> {
    let wrong = || {
        // The parser's message may quote the URL, which may hold a password.
        Error::Invalid(
            "the mirror's URL is wrong; write mysql://USER:PASSWORD@HOST:3306/DATABASE".into(),
        )
    };
    let options = MySqlConnectOptions::from_str(url).map_err(|_| wrong())?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    Ok(options
        // `SESSION` says all of it.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(Some("+00:00".to_owned()))
        .charset("utf8mb4")
        .statement_cache_capacity(STATEMENTS))
}

/// A pool that connects when it is used.
pub(super) fn lazy(connect: MySqlConnectOptions, options: Options) -> MySqlPool {
    MySqlPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(IDLE)
        .test_before_acquire(false)
        .after_connect(move |connection, _| Box::pin(set_up(connection, options.read_only)))
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > IDLE_UNCHECKED {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(connect)
}

async fn set_up(connection: &mut MySqlConnection, read_only: bool) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(SESSION)).await?;
    if read_only {
        connection.execute(sqlx::raw_sql(READ_ONLY)).await?;
    }
    Ok(())
}

/// A connection of one's own, whose end ends what it holds.
pub(super) async fn alone(options: &MySqlConnectOptions) -> Result<MySqlConnection, Error> {
    let connecting = async {
        let mut connection = options.connect().await?;
        set_up(&mut connection, false).await?;
        Ok::<_, sqlx::Error>(connection)
    };
    match tokio::time::timeout(ACQUIRE, connecting).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(Error::Unavailable(format!(
            "the mirror did not take a connection within {ACQUIRE:?}"
        ))),
    }
}

/// The server takes whole batches.
pub(super) async fn check_packets(connection: &mut MySqlConnection) -> Result<(), Error> {
    let bytes: u64 = sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS UNSIGNED)")
        .fetch_one(connection)
        .await?;
    if bytes >= PACKET_BYTES {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the mirror's server takes packets of {bytes} bytes at most, and a batch of rows may need {PACKET_BYTES}: set max_allowed_packet=16M there"
    )))
}
