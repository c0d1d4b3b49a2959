//! Wrapping data keys anew after the master key was rotated, a page at a time while everything runs, so that the old
//! master key can be taken out of the keys file.
//!
//! Refuses: to touch a row that somebody else changed in between (an erasure wins), and to give up a master key that still
//! wraps something.

use async_recursion::async_recursion as boxed;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::erase::CHANGE_KEYS;
use crate::error::Error;
use crate::keys::Wrapped;
use crate::keys_edit::{self, KeyRing, SETTLES_WITHIN};
use crate::store::{on, within};
use crate::vault::Vault;

/// How many rows a page reads at most.
const PAGE: u32 = 200;
/// The rest after a page that changed something, so that rewrapping takes a small part of the database's time.
const REST: Duration = Duration::from_millis(50);
/// The pause between two passes over the table, and between two looks at the keys.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause after a pass that found rows which do not open.
const LONG_PAUSE: Duration = Duration::from_mins(5);

/// What became of one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrapped {
    /// How many data keys are wrapped by the current master key now, and were not before.
    pub changed: u64,
    /// How many could not be opened: their master key is not in the keys file, or the row was damaged.
    pub stuck: u64,
    /// Where the next page begins; `None` at the end.
    pub through: Option<Uuid>,
}

impl Vault {
    /// Wraps data keys by the master key that is current at `now`: of the `limit` people after `after` (nil: from the
    /// beginning) all whose key another master key wraps.
    #[boxed]
    pub async fn rewrap_data_keys(
        &self,
        after: Uuid,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Rewrapped, Error> {
        let keys = &self.0.keys;
        let rows: Vec<(Uuid, Option<String>, Option<Vec<u8>>)> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT person, master_key, wrapped FROM data_keys WHERE person > $1 ORDER BY person LIMIT $2")
                .bind(after)
                .bind(i64::from(limit))
                .fetch_all(&pools.read)
        )
        .await)?;
        let mut page = Rewrapped {
            changed: 0,
            stuck: 0,
            through: (rows.len() >= limit as usize)
                .then(|| rows.last().map(|(person, ..)| *person))
                .flatten(),
        };
        let current = keys.ring(KeyRing::Master, now).current;
        let mut anew: Vec<(Uuid, Vec<u8>, Wrapped)> = Vec::new();
        for (person, master, wrapped) in rows {
            let (Some(master), Some(wrapped)) = (master, wrapped) else {
                continue; // erased
            };
            if master == current {
                continue;
            }
            match keys.rewrap(person, &master, &wrapped, now) {
                Ok(new) => anew.push((person, wrapped, new)),
                Err(error) => {
                    tracing::error!(%person, %error, "a data key cannot be wrapped anew");
                    page.stuck += 1;
                }
            }
        }
        if !anew.is_empty() {
            page.changed = self.replace(&anew).await?;
        }
        Ok(page)
    }

    /// Replaces rows that are still what was read, in one transaction, in the order of their keys.
    async fn replace(&self, anew: &[(Uuid, Vec<u8>, Wrapped)]) -> Result<u64, Error> {
        on!(&*self.0.store, pools => within(async {
            let mut tx = pools.write.begin().await?;
            sqlx::query(CHANGE_KEYS).execute(&mut *tx).await?;
            let mut changed = 0;
            for (person, old, new) in anew {
                changed += sqlx::query("UPDATE data_keys SET master_key = $3, wrapped = $4 WHERE person = $1 AND wrapped = $2")
                    .bind(person)
                    .bind(old)
                    .bind(&new.master)
                    .bind(&new.bytes)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
            }
            tx.commit().await?;
            Ok(changed)
        })
        .await)
    }

    /// How many data keys each master key wraps.
    #[boxed]
    pub async fn data_keys_by_master(&self) -> Result<BTreeMap<String, u64>, Error> {
        let rows: Vec<(String, i64)> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT master_key, count(*) FROM data_keys WHERE master_key IS NOT NULL GROUP BY master_key")
                .fetch_all(&pools.read)
        )
        .await)?;
        Ok(rows
            .into_iter()
            .map(|(master, count)| (master, count.cast_unsigned()))
            .collect())
    }

    /// Takes a master key out of a keys file. Refused while it is current or next, or wraps a data key of this vault.
    #[boxed]
    pub async fn remove_master_key(
        &self,
        path: &Path,
        id: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let wraps = self.data_keys_by_master().await?.get(id).copied();
        if let Some(count) = wraps.filter(|count| *count > 0) {
            return Err(Error::Invalid(format!(
                "the master key {id} still wraps {count} data keys: a running command API wraps them anew after a rotation"
            )));
        }
        keys_edit::remove(path, KeyRing::Master, id, now)
    }

    /// Keeps all data keys wrapped by the current master key. Never ends; run it in a process that writes.
    #[boxed]
    pub async fn keep_rewrapped(&self, clock: fn() -> DateTime<Utc>) {
        // The master key under which a whole pass found nothing left to do.
        let mut done = None;
        loop {
            let now = clock();
            let masters = self.0.keys.masters();
            let current = masters.turns.at(now).to_owned();
            let mut pause = PAUSE;
            if masters.keys.len() > 1 && done.as_ref() != Some(&current) {
                // A process that is behind may add a row under the old key, behind this pass: so another one follows.
                let settled = (masters.turns.next.as_ref())
                    .is_none_or(|next| next.from > now || next.from + SETTLES_WITHIN <= now);
                match self.rewrap_all(clock).await {
                    Ok((0, 0)) if settled => done = Some(current),
                    Ok((_, 0)) => {}
                    Ok(_) => pause = LONG_PAUSE,
                    Err(error) => {
                        tracing::warn!(%error, "wrapping data keys anew was cut off; trying again");
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One pass over the table: how many rows were changed, and how many are stuck.
    async fn rewrap_all(&self, clock: fn() -> DateTime<Utc>) -> Result<(u64, u64), Error> {
        let (mut changed, mut stuck) = (0, 0);
        let mut after = Some(Uuid::nil());
        while let Some(from) = after {
            let page = self.rewrap_data_keys(from, PAGE, clock()).await?;
            changed += page.changed;
            stuck += page.stuck;
            after = page.through;
            if page.changed > 0 {
                tokio::time::sleep(REST).await;
            }
        }
        if changed > 0 {
            tracing::info!(changed, "wrapped data keys by the current master key");
        }
        Ok((changed, stuck))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{KeyError, Keys, VaultOptions};

    #[tokio::test]
    async fn a_row_that_changed_since_it_was_read_is_left_alone() {
        let folder = test_support::temp_dir();
        let url = format!("sqlite:{}/vault.db", folder.path().display());
        let keys = Arc::new(Keys::generate());
        let vault = Vault::open(&url, Arc::clone(&keys), VaultOptions::default())
            .await
            .unwrap();
        let (now, person) = (DateTime::UNIX_EPOCH, Uuid::from_u128(1));
        let made = vault.create_data_key(person).await.unwrap();
        let stale = || (person, vec![1], keys.new_data_key(person, now).1);
        assert_eq!(vault.replace(&[stale()]).await.unwrap(), 0);
        let read = vault.data_key(person).await.unwrap();
        assert_eq!(read.fingerprint(&[b"x"]), made.fingerprint(&[b"x"]));
        vault.erase_person(person, now).await.unwrap();
        assert_eq!(vault.replace(&[stale()]).await.unwrap(), 0);
        assert!(matches!(
            vault.data_key(person).await,
            Err(KeyError::Erased)
        ));
    }
}
