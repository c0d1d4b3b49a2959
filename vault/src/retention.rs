//! What the vault will forget by itself, and when: for operators, who only look.
//!
//! Refuses: to say whose it is.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use crate::erase::{API_KEYS_STAY, SESSIONS_STAY};
use crate::error::Error;
use crate::outbox::LIFETIME;
use crate::store::{from_ms, on, to_ms, within};
use crate::throttle::FORGOTTEN_AFTER;
use crate::vault::Vault;

/// A rule, and what it is about to drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// What is dropped.
    pub what: &'static str,
    /// How long it stays after the moment that counts: it expired, it ended, it was made.
    pub stays: TimeDelta,
    /// How many there are.
    pub held: i64,
    /// How many of them are due now.
    pub due: i64,
    /// When the oldest is due.
    pub next: Option<DateTime<Utc>>,
}

impl Vault {
    /// Every rule of the vault. `unverified` is how long an address may stay unproven.
    pub async fn retention(
        &self,
        unverified: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Vec<Forgotten>, Error> {
        let rules: [(&str, &str, &str, TimeDelta); 7] = [
            (
                "unverified accounts",
                "claims WHERE status = 'pending' AND",
                "created_at_ms",
                unverified,
            ),
            (
                "codes and links that expired",
                "challenges WHERE",
                "expires_at_ms",
                TimeDelta::zero(),
            ),
            (
                "mail that cannot be sent",
                "outbox WHERE",
                "created_at_ms",
                LIFETIME,
            ),
            (
                "sessions that expired",
                "sessions WHERE",
                "expires_at_ms",
                SESSIONS_STAY,
            ),
            (
                "API keys that expired",
                "api_keys WHERE",
                "expires_at_ms",
                API_KEYS_STAY,
            ),
            (
                "failed log-ins",
                "throttles WHERE",
                "last_failed_at_ms",
                FORGOTTEN_AFTER,
            ),
            (
                "counts of requests",
                "rates WHERE",
                "ends_at_ms",
                TimeDelta::zero(),
            ),
        ];
        let mut found = Vec::with_capacity(rules.len());
        for (what, from, time, stays) in rules {
            // The text is made of constants alone; the value is bound.
            let sql = format!(
                "SELECT count(*), min({time}), (SELECT count(*) FROM {from} {time} <= $1) FROM {from} {time} IS NOT NULL"
            );
            let (held, oldest, due): (i64, Option<i64>, i64) = on!(&*self.0.store, pools => within(
                sqlx::query_as(AssertSqlSafe(sql)).bind(to_ms(now - stays)).fetch_one(&pools.read)
            )
            .await)?;
            found.push(Forgotten {
                what,
                stays,
                held,
                due,
                next: oldest.map(|oldest| from_ms(oldest) + stays),
            });
        }
        Ok(found)
    }
}
