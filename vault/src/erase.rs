//! What the vault forgets: people who are erased, and what has expired.
//!
//! Refuses: to bring an erased person back, and to trust an erasure ledger that has forgotten erasures.

use async_recursion::async_recursion as boxed;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::error::Error;
use crate::intents::Intent;
use crate::ledger::ErasureLedger;
use crate::sessions::LOCK_FEED;
use crate::store::{Store, on, to_ms, within};
use crate::throttle::FORGOTTEN_AFTER;
use crate::vault::Vault;

/// The kind of the intent that [`Vault::apply_ledger`] leaves for each person; its detail lists the ids of their API keys.
pub const ERASED_AGAIN: &str = "erased-again";
/// How many rows of a table one call of [`Vault::forget_expired`] deletes at most.
const FORGOTTEN_ROWS: i64 = 1_000;
/// How long an expired API key is still told to its account.
pub(crate) const API_KEYS_STAY: TimeDelta = TimeDelta::days(30);
/// How long an expired session stays: no access token, no clock that is off, asks for it any more.
pub(crate) const SESSIONS_STAY: TimeDelta = TimeDelta::days(1);
/// How many entries of the ledger are read at once.
const LEDGER_PAGE: u32 = 1_000;

/// Raises the count of changed data keys, by which others notice. First of all in a transaction that changes some: whoever
/// changed a key before could wait for another who waits for this count.
pub(crate) const CHANGE_KEYS: &str = "UPDATE data_key_changes SET seq = seq + 1";

/// Replaces a person's key by a tombstone.
const TOMBSTONE: &str = "INSERT INTO data_keys (person, erased_at_ms) VALUES ($1, $2) ON CONFLICT (person) DO UPDATE \
                         SET master_key = NULL, wrapped = NULL, \
                             erased_at_ms = coalesce(data_keys.erased_at_ms, excluded.erased_at_ms)";

/// All else that is a person's. Their sessions stay, to be ended; intents stay, and find the person erased.
const DELETE_PERSON: [&str; 8] = [
    "DELETE FROM challenges WHERE account = $1",
    "DELETE FROM credentials WHERE account = $1",
    "DELETE FROM claims WHERE account = $1",
    "DELETE FROM outbox WHERE account = $1",
    "DELETE FROM second_factors WHERE account = $1",
    "DELETE FROM recovery_codes WHERE account = $1",
    "DELETE FROM api_keys WHERE account = $1",
    "UPDATE sessions SET seen = NULL WHERE account = $1 AND seen IS NOT NULL",
];

/// Deletes a table's rows up to a time, the oldest first. Whether a row is that old is asked again once it is locked.
macro_rules! delete_until {
    ($table:literal, $key:literal, $time:literal) => {
        concat!(
            "DELETE FROM ",
            $table,
            " WHERE ",
            $time,
            " <= $1 AND ",
            $key,
            " IN (SELECT ",
            $key,
            " FROM ",
            $table,
            " WHERE ",
            $time,
            " <= $1 ORDER BY ",
            $time,
            " LIMIT $2)"
        )
    };
}

impl Vault {
    /// The vault's part of an erasure, in one transaction: the data key is replaced by a tombstone, and everything else
    /// of the person's is deleted (sessions stay, without the places they were used from). Idempotent; also before there
    /// was a key, so that none can come later. Other processes notice within a second. Entry in the ledger, event and
    /// the end of sessions are the caller's.
    #[boxed]
    pub async fn erase_person(&self, person: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
        self.erase_rows(person, now).await?;
        self.empty_wal().await;
        Ok(())
    }

    /// Erases everybody whom the ledger lists after what this vault has applied of it, and gives those who were not
    /// erased yet. After an older vault was restored, these are the people erased since.
    #[boxed]
    pub async fn apply_ledger(
        &self,
        ledger: &ErasureLedger,
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>, Error> {
        let mut applied: i64 = on!(&*self.0.store, pools => within(
            sqlx::query_scalar("SELECT seq FROM ledger_marker").fetch_one(&pools.read)
        )
        .await)?;
        let head = ledger.head().await?;
        if applied > head {
            return Err(Error::Invalid(format!(
                "the vault has applied {applied} erasures, but the erasure ledger holds {head}: the ledger was lost or \
                 is another one. Name the right one (--erasure-ledger), or restore it from its newest backup"
            )));
        }
        let mut erased = Vec::new();
        loop {
            let entries = ledger.entries(applied, LEDGER_PAGE).await?;
            let Some(last) = entries.last() else { break };
            applied = last.seq;
            for entry in &entries {
                if !self.is_erased(entry.account).await? {
                    // What is not the vault's (events) is finished by whoever takes the intent, which names the API keys:
                    // soon nothing here does.
                    let keys: Vec<Uuid> = self
                        .api_keys(entry.account)
                        .await?
                        .into_iter()
                        .map(|key| key.id)
                        .collect();
                    self.begin_intent(&Intent::new(
                        ERASED_AGAIN,
                        entry.account,
                        serde_json::json!(keys),
                        now,
                    ))
                    .await?;
                    // Nobody is let in with a token from before the restore, until their sessions end in the log too.
                    self.end_sessions(entry.account, None, now).await?;
                    self.erase_rows(entry.account, now).await?;
                    erased.push(entry.account);
                }
            }
            // After the erasures: whoever dies before repeats them.
            on!(&*self.0.store, pools => within(
                sqlx::query("UPDATE ledger_marker SET seq = $1 WHERE seq < $1").bind(applied).execute(&pools.write)
            )
            .await
            .map(drop))?;
        }
        if !erased.is_empty() {
            self.empty_wal().await;
        }
        Ok(erased)
    }

    /// Deletes what has expired, at most 1,000 rows of each table, and tells how many: challenges and rates at once,
    /// failures and sessions after a day, API keys after 30 days.
    #[boxed]
    pub async fn forget_expired(&self, now: DateTime<Utc>) -> Result<u64, Error> {
        let mut forgotten = 0;
        for (sql, until) in [
            (delete_until!("challenges", "id", "expires_at_ms"), now),
            (
                delete_until!("throttles", "address", "last_failed_at_ms"),
                now - FORGOTTEN_AFTER,
            ),
            (delete_until!("rates", "key", "ends_at_ms"), now),
            (
                delete_until!("api_keys", "id", "expires_at_ms"),
                now - API_KEYS_STAY,
            ),
            (
                delete_until!("sessions", "id", "expires_at_ms"),
                now - SESSIONS_STAY,
            ),
        ] {
            forgotten += on!(&*self.0.store, pools => within(
                sqlx::query(sql).bind(to_ms(until)).bind(FORGOTTEN_ROWS).execute(&pools.write)
            )
            .await?
            .rows_affected());
        }
        Ok(forgotten)
    }

    async fn erase_rows(&self, person: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            // Whoever ends sessions locks the feed before it locks them: so does this, or the two could lock each other.
            sqlx::query(LOCK_FEED).execute(&mut *tx).await?;
            sqlx::query(CHANGE_KEYS).execute(&mut *tx).await?;
            sqlx::query(TOMBSTONE).bind(person).bind(to_ms(now)).execute(&mut *tx).await?;
            for sql in DELETE_PERSON {
                sqlx::query(sql).bind(person).execute(&mut *tx).await?;
            }
            tx.commit().await
        })
        .await)?;
        self.0.loader.forget(person);
        Ok(())
    }

    async fn is_erased(&self, person: Uuid) -> Result<bool, Error> {
        let tombstones: i64 = on!(&*self.0.store, pools => within(
            sqlx::query_scalar("SELECT count(*) FROM data_keys WHERE person = $1 AND wrapped IS NULL")
                .bind(person)
                .fetch_one(&pools.read)
        )
        .await)?;
        Ok(tombstones == 1)
    }

    /// Empties SQLite's write-ahead log, which still holds what was deleted. An erasure counts without it: what is left
    /// is wrapped, and goes with a later checkpoint.
    async fn empty_wal(&self) {
        let Store::Sqlite(pools) = &*self.0.store else {
            return;
        };
        let emptied: Result<(i64, i64, i64), Error> =
            within(sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&pools.write)).await;
        match emptied {
            Ok((0, ..)) => {}
            Ok(_) => tracing::warn!("the vault's write-ahead log is in use: it is emptied later"),
            Err(error) => tracing::warn!(%error, "the vault's write-ahead log was not emptied"),
        }
    }
}
