//! Failed log-ins, counted per address, and fixed windows in which anything may be counted. Keys are keyed hashes.
//!
//! Refuses: to count in memory, where each process would allow as much again.

use async_recursion::async_recursion as boxed;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::Error;
use crate::store::{from_ms, on, one, to_ms, within};
use crate::vault::Vault;

/// How many failures cost nothing.
const FREE_FAILURES: i64 = 4;
/// The first block, in seconds; each further failure doubles it.
const FIRST_BLOCK_S: i64 = 10;
/// The longest block, in seconds.
const LONGEST_BLOCK_S: i64 = 5 * 60;
/// How long without a failure until all are forgotten.
pub(crate) const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);

/// Whether an address may try to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Throttle {
    /// Not before then.
    pub blocked_until: Option<DateTime<Utc>>,
}

/// What a failure came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// How many there were in a row, this one included.
    pub failures: u32,
    /// Until when the address is blocked now.
    pub blocked_until: Option<DateTime<Utc>>,
    /// Whether this is the first block after free failures.
    pub episode_began: bool,
}

/// How much was counted in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How often, this time included.
    pub count: u32,
    /// When counting begins anew.
    pub resets_at: DateTime<Utc>,
}

impl Vault {
    /// Whether an address may try to log in now.
    #[boxed]
    pub async fn throttle(&self, address: [u8; 32], now: DateTime<Utc>) -> Result<Throttle, Error> {
        let row: Option<(i64, i64)> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT failures, last_failed_at_ms FROM throttles WHERE address = $1")
                .bind(&address[..])
                .fetch_optional(&pools.read)
        )
        .await)?;
        let blocked_until = row
            .and_then(|(failures, last)| blocked_until(failures, from_ms(last)))
            .filter(|until| *until > now);
        Ok(Throttle { blocked_until })
    }

    /// Counts a failed log-in: the first four are free, the fifth blocks for 10 s, and each further one for twice as
    /// long, up to 5 minutes. A day without failures forgets them. What comes during a block is no failure: it is not
    /// tried, so do not note it.
    #[boxed]
    pub async fn note_failure(
        &self,
        address: [u8; 32],
        now: DateTime<Utc>,
    ) -> Result<Failure, Error> {
        let failures: Vec<i64> = on!(&*self.0.store, pools => within(
            sqlx::query_scalar(
                "INSERT INTO throttles (address, failures, last_failed_at_ms) VALUES ($1, 1, $2) \
                 ON CONFLICT (address) DO UPDATE SET last_failed_at_ms = excluded.last_failed_at_ms, \
                 failures = CASE WHEN throttles.last_failed_at_ms > $3 THEN throttles.failures + 1 ELSE 1 END \
                 RETURNING failures",
            )
            .bind(&address[..])
            .bind(to_ms(now))
            .bind(to_ms(now - FORGOTTEN_AFTER))
            .fetch_all(&pools.write)
        )
        .await)?;
        let failures = one(failures)?;
        Ok(Failure {
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
            blocked_until: blocked_until(failures, now),
            episode_began: failures == FREE_FAILURES + 1,
        })
    }

    /// Forgets an address's failures: it logged in.
    #[boxed]
    pub async fn note_success(&self, address: [u8; 32]) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM throttles WHERE address = $1").bind(&address[..]).execute(&pools.write)
        )
        .await
        .map(drop))
    }

    /// Counts one in the window that is open for `key` ([`crate::Keys::rate_key`]), or opens one of that length. All
    /// processes count together.
    #[boxed]
    pub async fn count_rate(
        &self,
        key: [u8; 32],
        window: Duration,
        now: DateTime<Utc>,
    ) -> Result<Rate, Error> {
        let ends_at = TimeDelta::from_std(window)
            .ok()
            .and_then(|window| now.checked_add_signed(window))
            .ok_or_else(|| Error::Invalid("the window of a rate is too long".into()))?;
        let rows: Vec<(i64, i64)> = on!(&*self.0.store, pools => within(
            sqlx::query_as(
                "INSERT INTO rates (key, count, ends_at_ms) VALUES ($1, 1, $2) ON CONFLICT (key) DO UPDATE \
                 SET count = CASE WHEN rates.ends_at_ms > $3 THEN rates.count + 1 ELSE 1 END, \
                     ends_at_ms = CASE WHEN rates.ends_at_ms > $3 THEN rates.ends_at_ms ELSE excluded.ends_at_ms END \
                 RETURNING count, ends_at_ms",
            )
            .bind(&key[..])
            .bind(to_ms(ends_at))
            .bind(to_ms(now))
            .fetch_all(&pools.write)
        )
        .await)?;
        let (count, ends_at) = one(rows)?;
        Ok(Rate {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            resets_at: from_ms(ends_at),
        })
    }
}

/// Until when so many failures block, the last of which was then.
fn blocked_until(failures: i64, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let doublings = u32::try_from(failures - FREE_FAILURES - 1).ok()?;
    // More doublings than these are past the longest block.
    let seconds = (FIRST_BLOCK_S << doublings.min(16)).min(LONGEST_BLOCK_S);
    Some(last + TimeDelta::seconds(seconds))
}
