//! The bookkeeping's tables in MySQL and MariaDB, made under a lock. Making tables commits by itself there, so each step can
//! be done again. It refuses formats of newer versions.

use sqlx::Connection as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};

use super::pool;
use crate::sql::built;
use crate::{Error, bookkeeping, errors};

/// How long to wait for another process that makes or switches tables, in seconds.
const LOCK_SECONDS: i64 = 30;
/// Texts that are compared byte by byte, trailing spaces included: the collation's name hangs on the server.
macro_rules! binary {
    () => {
        "CHARACTER SET utf8mb4 COLLATE /*M!100000 utf8mb4_nopad_bin */ /*!80000 utf8mb4_0900_bin */"
    };
}
pub(super) const BINARY: &str = binary!();
pub(super) const TABLE: &str = concat!("ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT ", binary!());

const SCHEMA: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS generations (table_name varchar(64) NOT NULL PRIMARY KEY, model varchar(64) NOT NULL, \
     number bigint NOT NULL, definition_hash varchar(64) NOT NULL, definition longtext NOT NULL, live boolean NOT NULL, \
     log varchar(36) NOT NULL, epoch varchar(36) NOT NULL, partitions bigint NOT NULL, \
     serves boolean NOT NULL DEFAULT false, served boolean NOT NULL DEFAULT false, defined bigint NOT NULL DEFAULT 0, \
     asked bigint NOT NULL DEFAULT 0, compared boolean NOT NULL DEFAULT false, refused boolean NOT NULL DEFAULT false, \
     created_at datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), UNIQUE (model, number))",
    "CREATE TABLE IF NOT EXISTS checkpoints (generation varchar(64) NOT NULL, \"partition\" bigint NOT NULL, \
     position bigint NOT NULL, digest varbinary(32) NOT NULL, amended bigint NOT NULL DEFAULT 0, PRIMARY KEY (generation, \"partition\"))",
    "CREATE TABLE IF NOT EXISTS parked (generation varchar(64) NOT NULL, stream varchar(250) NOT NULL, \
     \"partition\" bigint NOT NULL, position bigint NOT NULL, error longtext NOT NULL, events bigint NOT NULL DEFAULT 0, \
     retries bigint NOT NULL DEFAULT 0, retry bigint NOT NULL DEFAULT 0, PRIMARY KEY (generation, stream))",
    "CREATE TABLE IF NOT EXISTS discarded (generation varchar(64) NOT NULL, stream varchar(250) NOT NULL, \
     position bigint NOT NULL, PRIMARY KEY (generation, position))",
    // Last: its row says that all the others are there.
    "CREATE TABLE IF NOT EXISTS format (version bigint NOT NULL PRIMARY KEY)",
];

/// A connection that holds the lock, which ends with it: whoever makes or switches tables is alone.
pub(super) async fn locked(options: &MySqlConnectOptions) -> Result<MySqlConnection, Error> {
    let mut connection = pool::alone(options).await?;
    // Locks belong to the server, not to the database.
    let locked: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(CONCAT('showcaller.', SHA1(DATABASE())), ?)")
            .bind(LOCK_SECONDS)
            .fetch_one(&mut connection)
            .await?;
    if locked == Some(1) {
        // Making a table commits, and what follows it is to be a transaction again.
        sqlx::query("SET autocommit = 0")
            .execute(&mut connection)
            .await?;
        return Ok(connection);
    }
    Err(Error::Unavailable(format!(
        "another process has been making tables in the mirror for {LOCK_SECONDS} s"
    )))
}

/// Commits what was done under the lock, and gives the lock back.
pub(super) async fn commit(mut connection: MySqlConnection) -> Result<(), Error> {
    sqlx::query("COMMIT").execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

pub(super) async fn migrate(options: &MySqlConnectOptions) -> Result<(), Error> {
    let mut connection = locked(options).await?;
    pool::check_packets(&mut connection).await?;
    if !check(&mut connection).await? {
        for statement in SCHEMA {
            sqlx::query(built(format!("{statement} {TABLE}")))
                .execute(&mut connection)
                .await?;
        }
        sqlx::query("INSERT INTO format (version) VALUES (?)")
            .bind(bookkeeping::FORMAT)
            .execute(&mut connection)
            .await?;
    }
    commit(connection).await
}

/// Whether the format is there; one that is newer is refused.
pub(super) async fn check(connection: &mut MySqlConnection) -> Result<bool, Error> {
    let found = sqlx::query_scalar::<_, i64>("SELECT version FROM format")
        .fetch_optional(connection)
        .await;
    match found {
        Err(error) if errors::is_absent(&error) => Ok(false),
        found => match found? {
            Some(version) => bookkeeping::check_format(version).map(|()| true),
            None => Ok(false),
        },
    }
}
