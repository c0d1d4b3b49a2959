//! What must be finished though a process died: an intent is stored before (or with) the first step, and deleted after
//! the last.
//!
//! Refuses: to drop one silently, and to hand one to two processes at once.

use async_recursion::async_recursion as boxed;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Error;
use crate::random::random_uuid;
use crate::store::{from_ms, on, take_due, to_ms, within};
use crate::vault::Vault;

/// How long whoever began an intent has it to itself.
pub(crate) const FIRST_TRY: TimeDelta = TimeDelta::seconds(10);
/// How long the first that takes it has, before the next does; it doubles with each.
pub(crate) const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(20);
/// The longest pause, in milliseconds.
const LONGEST_PAUSE_MS: i64 = 5 * 60 * 1_000;
/// How many are handed out at once at most.
const PAGE: u32 = 1_000;

/// Something begun that must be finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// Its id: an intent is stored once under it.
    pub id: Uuid,
    /// What is to be done.
    pub kind: String,
    /// For whom.
    pub account: Uuid,
    /// What doing it needs to know; no personal data in clear.
    pub detail: Value,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
}

type Row = (Uuid, String, Uuid, String, i64);

impl Intent {
    /// A new one, under a random id.
    pub fn new(kind: &'static str, account: Uuid, detail: Value, now: DateTime<Utc>) -> Self {
        Self {
            id: random_uuid(),
            kind: kind.into(),
            account,
            detail,
            created_at: now,
        }
    }
}

/// The statement that stores an intent, once.
macro_rules! insert_intent {
    ($intent:expr) => {{
        use $crate::{intents, store::to_ms};
        let intent: &$crate::intents::Intent = $intent;
        sqlx::query(
            "INSERT INTO intents (id, kind, account, detail, created_at_ms, next_try_at_ms, pause_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
        )
        .bind(intent.id)
        .bind(&intent.kind)
        .bind(intent.account)
        .bind(intent.detail.to_string())
        .bind(to_ms(intent.created_at))
        .bind(to_ms(intent.created_at + intents::FIRST_TRY))
        .bind(intents::FIRST_PAUSE.num_milliseconds())
    }};
}
pub(crate) use insert_intent;

impl Vault {
    /// Stores an intent durably. One that is there stays as it is; tells whether this one is new.
    #[boxed]
    pub async fn begin_intent(&self, intent: &Intent) -> Result<bool, Error> {
        on!(&*self.0.store, pools => within(insert_intent!(intent).execute(&pools.write))
            .await
            .map(|done| done.rows_affected() == 1))
    }

    /// The intent of this id, while it is unfinished.
    #[boxed]
    pub async fn intent(&self, id: Uuid) -> Result<Option<Intent>, Error> {
        let row: Option<Row> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT id, kind, account, detail, created_at_ms FROM intents WHERE id = $1")
                .bind(id)
                .fetch_optional(&pools.read)
        )
        .await)?;
        row.map(read).transpose()
    }

    /// Deletes an intent: all of it is done.
    #[boxed]
    pub async fn finish_intent(&self, id: Uuid) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM intents WHERE id = $1").bind(id).execute(&pools.write)
        )
        .await
        .map(drop))
    }

    /// Takes the intents whose next try is due, the oldest of them first, and moves that on: 10 s after creation, then
    /// after 20 s, doubling to 5 minutes. Of any number of processes, one gets an intent at a time.
    #[boxed]
    pub async fn due_intents(&self, now: DateTime<Utc>, limit: u32) -> Result<Vec<Intent>, Error> {
        let sql = take_due!(
            self.0.store,
            "intents",
            "next_try_at_ms = $1 + pause_ms, \
             pause_ms = CASE WHEN pause_ms * 2 < $3 THEN pause_ms * 2 ELSE $3 END",
            "id, kind, account, detail, created_at_ms"
        );
        let rows: Vec<Row> = on!(&*self.0.store, pools => within(
            sqlx::query_as(sql)
                .bind(to_ms(now))
                .bind(i64::from(limit.min(PAGE)))
                .bind(LONGEST_PAUSE_MS)
                .fetch_all(&pools.write)
        )
        .await)?;
        let mut due = rows
            .into_iter()
            .map(read)
            .collect::<Result<Vec<_>, Error>>()?;
        due.sort_by_key(|intent| (intent.created_at, intent.id));
        Ok(due)
    }
}

fn read((id, kind, account, detail, created_at): Row) -> Result<Intent, Error> {
    let detail = serde_json::from_str(&detail)
        .map_err(|error| Error::Invalid(format!("the intent {id} has a broken detail: {error}")))?;
    Ok(Intent {
        id,
        kind,
        account,
        detail,
        created_at: from_ms(created_at),
    })
}
