//! The erasure ledger: who was erased, in a database of its own that no restore of the vault touches. It holds random
//! ids alone.
//!
//! Refuses: to forget an entry, and to open a ledger of a newer format.

use async_recursion::async_recursion as boxed;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::Error;
use crate::store::{LEDGER, Store, from_ms, on, to_ms, within};

/// The format this program knows.
const FORMAT: i64 = 1;
/// Makes the tables where there are none.
const SQLITE_TABLES: &str = include_str!("migrations/ledger-1.sqlite.sql");
const POSTGRES_TABLES: &str = include_str!("migrations/ledger-1.postgres.sql");
/// Keeps two from making the tables at once; SQLite's transaction does so by itself.
const SQLITE_LOCK: &str = "SELECT $1";
const POSTGRES_LOCK: &str = "SELECT pg_advisory_xact_lock($1)";
const LOCK: i64 = i64::from_be_bytes(*b"\0erasure");
/// PostgreSQL connections.
const CONNECTIONS: u32 = 2;
/// How many entries are read at once at most.
const PAGE: u32 = 1_000;

/// An open erasure ledger. Clones are the same.
#[derive(Clone)]
pub struct ErasureLedger {
    store: Arc<Store>,
}

impl std::fmt::Debug for ErasureLedger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ErasureLedger").finish_non_exhaustive()
    }
}

/// An erasure that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number: from 1, gapless, in the order of commits.
    pub seq: i64,
    /// Who is erased.
    pub account: Uuid,
    /// When that was written down.
    pub recorded_at: DateTime<Utc>,
}

impl ErasureLedger {
    /// Opens `sqlite:{path}` (folder and file are made) or `postgres://…`, and makes its tables where there are none.
    #[boxed]
    pub async fn open(url: &str) -> Result<Self, Error> {
        let store = Store::open(&LEDGER, url, CONNECTIONS)
            .await
            .map_err(named)?;
        let format: i64 = on!(&store, pools => within(async {
            let mut tx = pools.begin().await?;
            sqlx::query(store.either(SQLITE_LOCK, POSTGRES_LOCK)).bind(LOCK).execute(&mut *tx).await?;
            sqlx::raw_sql(store.either(SQLITE_TABLES, POSTGRES_TABLES)).execute(&mut *tx).await?;
            let format = sqlx::query_scalar("SELECT version FROM format").fetch_one(&mut *tx).await?;
            // What a newer format looks like is not known: nothing is changed in it.
            if format == FORMAT {
                tx.commit().await?;
            }
            Ok(format)
        })
        .await)
        .map_err(named)?;
        if format != FORMAT {
            return Err(Error::Invalid(format!(
                "the erasure ledger has format {format}, this program knows format {FORMAT}: \
                 use a showcaller that knows erasure ledger format {format}"
            )));
        }
        Ok(Self {
            store: Arc::new(store),
        })
    }

    /// Writes down durably that an account is erased, once.
    #[boxed]
    pub async fn record(&self, account: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
        on!(&*self.store, pools => within(async {
            let mut tx = pools.begin().await?;
            let head: i64 = sqlx::query_scalar("UPDATE ledger SET head = head WHERE one = 1 RETURNING head")
                .fetch_one(&mut *tx)
                .await?;
            let new = sqlx::query("INSERT INTO erasures (seq, account, recorded_at_ms) VALUES ($1, $2, $3) \
                                   ON CONFLICT (account) DO NOTHING")
                .bind(head + 1)
                .bind(account)
                .bind(to_ms(now))
                .execute(&mut *tx)
                .await?;
            if new.rows_affected() == 1 {
                sqlx::query("UPDATE ledger SET head = $1 WHERE one = 1").bind(head + 1).execute(&mut *tx).await?;
                tx.commit().await?;
            }
            Ok(())
        })
        .await)
        .map_err(named)
    }

    /// The entries after a number, in order; at most 1,000.
    #[boxed]
    pub async fn entries(&self, after: i64, limit: u32) -> Result<Vec<Entry>, Error> {
        let rows: Vec<(i64, Uuid, i64)> = on!(&*self.store, pools => within(
            sqlx::query_as("SELECT seq, account, recorded_at_ms FROM erasures WHERE seq > $1 ORDER BY seq LIMIT $2")
                .bind(after)
                .bind(i64::from(limit.min(PAGE)))
                .fetch_all(&pools.read)
        )
        .await)
        .map_err(named)?;
        Ok(rows
            .into_iter()
            .map(|(seq, account, recorded_at)| Entry {
                seq,
                account,
                recorded_at: from_ms(recorded_at),
            })
            .collect())
    }

    /// Whether an account is listed.
    #[boxed]
    pub async fn holds(&self, account: Uuid) -> Result<bool, Error> {
        let count: i64 = on!(&*self.store, pools => within(
            sqlx::query_scalar("SELECT count(*) FROM erasures WHERE account = $1")
                .bind(account)
                .fetch_one(&pools.read)
        )
        .await)
        .map_err(named)?;
        Ok(count == 1)
    }

    /// The newest entry's number; 0: there is none.
    pub async fn head(&self) -> Result<i64, Error> {
        on!(&*self.store, pools => within(
            sqlx::query_scalar("SELECT head FROM ledger WHERE one = 1").fetch_one(&pools.read)
        )
        .await)
        .map_err(named)
    }
}

/// Says which of the two databases it was.
fn named(error: Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(format!("its erasure ledger: {text}")),
        error => error,
    }
}
