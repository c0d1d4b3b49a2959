//! Mail on its way: stored before it is sent, so that none is lost with a process, and sealed under the data key of
//! whom it is for, so that an erasure reaches it.
//!
//! Refuses: to flood a mailbox (20 wait for an account at most), and to try for longer than a day.

use async_recursion::async_recursion as boxed;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, KeyError};
use crate::random::random_uuid;
use crate::store::{erased, on, take_due, to_ms, within};
use crate::vault::Vault;

/// How many may wait for one account.
const WAITING: i64 = 20;
/// How long whoever took one has it to itself.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// The pause after the first failure, in milliseconds; it doubles with each.
const FIRST_PAUSE_MS: i64 = 10_000;
/// The longest pause, in milliseconds.
const LONGEST_PAUSE_MS: i64 = 10 * 60 * 1_000;
/// How long sending is tried.
pub(crate) const LIFETIME: TimeDelta = TimeDelta::days(1);
/// How many are handed out, or given up, at once at most.
const PAGE: u32 = 1_000;
/// The table, as it is named within what is sealed.
const TABLE: &str = "outbox";

/// Whether a mail was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits, under this id.
    Waiting(Uuid),
    /// As many as may wait for this account are waiting: it was not taken in.
    Full,
}

/// A mail to be sent.
#[derive(Clone, PartialEq)]
pub struct Outgoing {
    /// The mail.
    pub id: Uuid,
    /// For whom.
    pub account: Uuid,
    /// What was enqueued.
    pub content: Value,
    /// How often it was handed out before.
    pub tries: u32,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("tries", &self.tries)
            .finish_non_exhaustive()
    }
}

/// What there is to send.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DueMail {
    /// To be sent now, by whoever got this; to be told with `mail_sent` or `mail_failed` within a minute.
    pub mail: Vec<Outgoing>,
    /// How many were given up, having waited for a day.
    pub given_up: u64,
}

impl Vault {
    /// Takes in a mail (its content tells how it is written, and to which address), to be sent at once.
    #[boxed]
    pub async fn enqueue_mail(
        &self,
        account: Uuid,
        content: &Value,
        now: DateTime<Utc>,
    ) -> Result<Enqueued, KeyError> {
        let id = random_uuid();
        let sealed = self.data_key(account).await?.seal_row(TABLE, id, content);
        let enqueued = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            // The lock also makes enqueuers of one account take turns, so that their count is right.
            if erased!(self.0.store, tx, account) {
                return Ok(None);
            }
            let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE account = $1")
                .bind(account)
                .fetch_one(&mut *tx)
                .await?;
            if waiting >= WAITING {
                return Ok(Some(Enqueued::Full));
            }
            sqlx::query("INSERT INTO outbox (id, account, sealed, tries, created_at_ms, next_try_at_ms, pause_ms) \
                         VALUES ($1, $2, $3, 0, $4, $4, $5)")
                .bind(id)
                .bind(account)
                .bind(sealed)
                .bind(to_ms(now))
                .bind(FIRST_PAUSE_MS)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(Some(Enqueued::Waiting(id)))
        })
        .await)?;
        enqueued.ok_or(KeyError::Erased)
    }

    /// Takes the mail that is due, for a minute: of any number of processes, one gets a mail at a time. Mail of erased
    /// people is dropped, and mail older than a day is given up.
    #[boxed]
    pub async fn due_mail(&self, now: DateTime<Utc>, limit: u32) -> Result<DueMail, Error> {
        let given_up = on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE created_at_ms <= $1 LIMIT $2)")
                .bind(to_ms(now - LIFETIME))
                .bind(i64::from(PAGE))
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        let sql = take_due!(
            self.0.store,
            "outbox",
            "next_try_at_ms = $3, tries = tries + 1",
            "id, account, sealed, tries - 1, created_at_ms"
        );
        let mut rows: Vec<(Uuid, Uuid, Vec<u8>, i64, i64)> = on!(&*self.0.store, pools => within(
            sqlx::query_as(sql)
                .bind(to_ms(now))
                .bind(i64::from(limit.min(PAGE)))
                .bind(to_ms(now + LEASE))
                .fetch_all(&pools.write)
        )
        .await)?;
        rows.sort_by_key(|(id, .., created_at)| (*created_at, *id));
        let accounts: Vec<_> = rows.iter().map(|(_, account, ..)| *account).collect();
        let keys = self.data_keys(&accounts).await?;
        let mut mail = Vec::with_capacity(rows.len());
        for (id, account, sealed, tries, _) in rows {
            let content = match &keys[&account] {
                Ok(key) => key.open_row(TABLE, id, sealed),
                Err(KeyError::Erased) => {
                    self.mail_sent(id).await?;
                    continue;
                }
                Err(error) => Err(error.clone().into_fault(account)),
            };
            match content {
                Ok(content) => mail.push(Outgoing {
                    id,
                    account,
                    content,
                    tries: u32::try_from(tries).unwrap_or(u32::MAX),
                }),
                // One that can't be read must not hold up the others; it is given up in time.
                Err(error) => tracing::error!(mail = %id, %error, "a mail can't be opened"),
            }
        }
        Ok(DueMail { mail, given_up })
    }

    /// Deletes a mail: it is sent, or needs sending no more.
    #[boxed]
    pub async fn mail_sent(&self, id: Uuid) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM outbox WHERE id = $1").bind(id).execute(&pools.write)
        )
        .await
        .map(drop))
    }

    /// Lets a mail that could not be sent wait: 10 s, then twice as long with each failure, up to 10 minutes.
    #[boxed]
    pub async fn mail_failed(&self, id: Uuid, now: DateTime<Utc>) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("UPDATE outbox SET next_try_at_ms = $2 + pause_ms, \
                         pause_ms = CASE WHEN pause_ms * 2 < $3 THEN pause_ms * 2 ELSE $3 END WHERE id = $1")
                .bind(id)
                .bind(to_ms(now))
                .bind(LONGEST_PAUSE_MS)
                .execute(&pools.write)
        )
        .await
        .map(drop))
    }
}
