//! From where a session is used, for its holder's eyes: device and address, sealed under the account's data key.
//!
//! Refuses: to show either in Debug, and to keep a history (the last use alone is known).

use async_recursion::async_recursion as boxed;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::{Error, KeyError};
use crate::store::{from_ms, on, to_ms, within};
use crate::vault::Vault;

/// How many open sessions are told at most, the newest of them.
const OPEN_SESSIONS: i64 = 100;
/// How much of a device's name or an address is kept, in characters.
const TEXT_CHARS: usize = 256;
/// The table, as it is named within what is sealed.
const TABLE: &str = "sessions";

/// From where a session is used.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// What the client calls itself; 256 characters of it are kept.
    pub device: Option<String>,
    /// Its network address.
    pub address: Option<String>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen(personal)")
    }
}

/// A session that has neither ended nor expired.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// The session.
    pub id: Uuid,
    /// When it began; 1970 for one of a vault of format 1.
    pub started_at: DateTime<Utc>,
    /// When it was begun or refreshed last, if that is known.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// When it ends in any case.
    pub expires_at: DateTime<Utc>,
    /// Whether a second factor was shown when it began.
    pub second_factor: bool,
    /// What the client called itself then.
    pub device: Option<String>,
    /// Its network address then.
    pub address: Option<String>,
}

impl std::fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSession")
            .field("id", &self.id)
            .field("started_at", &self.started_at)
            .field("last_seen_at", &self.last_seen_at)
            .field("expires_at", &self.expires_at)
            .field("second_factor", &self.second_factor)
            .finish_non_exhaustive()
    }
}

type Row = (Uuid, i64, Option<i64>, i64, bool, Option<Vec<u8>>);

impl Vault {
    /// The account's sessions that have neither ended nor expired, the newest first; at most 100. Of an erased person,
    /// device and address are gone.
    #[boxed]
    pub async fn open_sessions(
        &self,
        account: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Vec<OpenSession>, Error> {
        let rows: Vec<Row> = on!(&*self.0.store, pools => within(
            sqlx::query_as(
                "SELECT id, started_at_ms, last_seen_at_ms, expires_at_ms, second_factor, seen FROM sessions \
                 WHERE account = $1 AND ended_seq IS NULL AND expires_at_ms > $2 \
                 ORDER BY started_at_ms DESC, id LIMIT $3",
            )
            .bind(account)
            .bind(to_ms(now))
            .bind(OPEN_SESSIONS)
            .fetch_all(&pools.read)
        )
        .await)?;
        let key = if rows.iter().any(|(.., seen)| seen.is_some()) {
            self.key_unless_erased(account).await?
        } else {
            None
        };
        rows.into_iter()
            .map(
                |(id, started_at, last_seen_at, expires_at, second_factor, seen)| {
                    let seen = match (&key, seen) {
                        (Some(key), Some(sealed)) => key.open_row(TABLE, id, sealed)?,
                        _ => Value::Null,
                    };
                    let text = |name| seen[name].as_str().map(str::to_owned);
                    Ok(OpenSession {
                        id,
                        started_at: from_ms(started_at),
                        last_seen_at: last_seen_at.map(from_ms),
                        expires_at: from_ms(expires_at),
                        second_factor,
                        device: text("device"),
                        address: text("address"),
                    })
                },
            )
            .collect()
    }

    /// As a session's row holds it; nothing where there is nothing to hold.
    pub(crate) async fn seal_seen(
        &self,
        account: Uuid,
        session: Uuid,
        seen: &Seen,
    ) -> Result<Option<Vec<u8>>, KeyError> {
        if *seen == Seen::default() {
            return Ok(None);
        }
        let cut = |text: &Option<String>| {
            text.as_ref()
                .map(|text| text.chars().take(TEXT_CHARS).collect::<String>())
        };
        let value = json!({"device": cut(&seen.device), "address": cut(&seen.address)});
        let key = self.data_key(account).await?;
        Ok(Some(key.seal_row(TABLE, session, &value)))
    }
}
