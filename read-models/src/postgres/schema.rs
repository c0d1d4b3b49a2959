//! The bookkeeping's tables in PostgreSQL, made and migrated under a lock. It refuses formats of newer versions.

use sqlx::postgres::PgPool;
use sqlx::{Postgres as Db, Transaction};

use crate::{Error, bookkeeping, errors};

/// Serialises migrations and everything that makes or switches tables. Any number, used for nothing else.
const LOCK: i64 = 0x5348_4f57_524d_3031;

const SCHEMA: [&str; 8] = [
    "CREATE SCHEMA IF NOT EXISTS showcaller_read_models",
    "COMMENT ON SCHEMA showcaller_read_models IS 'Showcaller: rebuilt from the log; never write here.'",
    "CREATE SCHEMA IF NOT EXISTS dashboards",
    "CREATE TABLE format (version bigint NOT NULL)",
    "CREATE TABLE generations (table_name text PRIMARY KEY, model text NOT NULL, number bigint NOT NULL, \
     definition_hash text NOT NULL, definition text NOT NULL, live boolean NOT NULL, log text NOT NULL, \
     epoch text NOT NULL, partitions bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), \
     UNIQUE (model, number))",
    "CREATE UNIQUE INDEX one_live_generation ON generations (model) WHERE live",
    // Half-full pages let a checkpoint move within its page, without a new index entry.
    "CREATE TABLE checkpoints (generation text NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     partition bigint NOT NULL, position bigint NOT NULL, digest bytea NOT NULL, PRIMARY KEY (generation, partition)) \
     WITH (fillfactor = 50)",
    "CREATE TABLE parked (generation text NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     stream text NOT NULL, partition bigint NOT NULL, position bigint NOT NULL, error text NOT NULL, \
     PRIMARY KEY (generation, stream))",
];

/// What format 2 adds: the journal of changed rows. Keys are not compressed: random ids do not shrink. No foreign key,
/// which would be looked up at every commit.
const JOURNAL: [&str; 2] = [
    "CREATE TABLE changes (generation text NOT NULL, partition bigint NOT NULL, position bigint NOT NULL, \
     since bigint NOT NULL, at bigint NOT NULL DEFAULT extract(epoch FROM now())::bigint, keys bytea NOT NULL, owners text, \
     PRIMARY KEY (generation, partition, position))",
    "ALTER TABLE changes ALTER COLUMN keys SET STORAGE EXTERNAL",
];

/// What format 3 adds: several generations of a definition, what operators asked for, and the history of parked streams.
const OPERATED: [&str; 9] = [
    "ALTER TABLE generations ADD COLUMN serves boolean NOT NULL DEFAULT false, ADD COLUMN served boolean NOT NULL DEFAULT false, \
     ADD COLUMN defined bigint NOT NULL DEFAULT 0, ADD COLUMN asked bigint NOT NULL DEFAULT 0, \
     ADD COLUMN compared boolean NOT NULL DEFAULT false, ADD COLUMN refused boolean NOT NULL DEFAULT false",
    "UPDATE generations SET serves = live, served = live, defined = number",
    "CREATE UNIQUE INDEX one_generation_serves ON generations (model, definition_hash, log, epoch) WHERE serves",
    "ALTER TABLE checkpoints ADD COLUMN amended bigint NOT NULL DEFAULT 0",
    "ALTER TABLE parked ADD COLUMN events bigint NOT NULL DEFAULT 0, \
     ADD COLUMN parked_at bigint NOT NULL DEFAULT extract(epoch FROM now())::bigint, \
     ADD COLUMN retries bigint NOT NULL DEFAULT 0, ADD COLUMN retried_at bigint, ADD COLUMN retried_by text, \
     ADD COLUMN retry bigint NOT NULL DEFAULT 0",
    "CREATE TABLE discarded (generation text NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     stream text NOT NULL, position bigint NOT NULL, PRIMARY KEY (generation, position))",
    "CREATE TABLE operated (model text NOT NULL, log text NOT NULL, epoch text NOT NULL, version bigint NOT NULL, \
     PRIMARY KEY (model, log, epoch))",
    "INSERT INTO operated (model, log, epoch, version) SELECT DISTINCT model, log, epoch, 0 FROM generations",
    // No foreign key: what was built is remembered when it is gone.
    "CREATE TABLE rebuilds (generation text PRIMARY KEY, model text NOT NULL, number bigint NOT NULL, asked bigint NOT NULL, \
     compared boolean NOT NULL, phase text NOT NULL, events bigint NOT NULL, position bigint NOT NULL, head bigint NOT NULL, \
     rate bigint NOT NULL, left_s bigint, detail text, began_at bigint NOT NULL, updated_at bigint NOT NULL)",
];

/// A transaction that holds the lock. What it commits must outlast a crash: workers believe in the tables they prepared.
pub(super) async fn locked(pool: &PgPool) -> Result<Transaction<'static, Db>, Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SET LOCAL synchronous_commit = on")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

pub(super) async fn migrate(pool: &PgPool) -> Result<(), Error> {
    let mut transaction = locked(pool).await?;
    let exists: bool =
        sqlx::query_scalar("SELECT to_regclass('showcaller_read_models.format') IS NOT NULL")
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

/// For readers: a schema that is not there yet is no fault.
pub(super) async fn check(pool: &PgPool) -> Result<(), Error> {
    let found = sqlx::query_scalar::<_, i64>("SELECT version FROM format")
        .fetch_one(pool)
        .await;
    match found {
        Err(error) if errors::is_absent(&error) => Ok(()),
        found => bookkeeping::check_format(found?),
    }
}
