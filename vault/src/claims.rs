//! Who claims an e-mail address, known only by its keyed hash: any number pending, one verified.
//!
//! Refuses: a second verified holder. Proving that somebody may verify is the caller's.

use async_recursion::async_recursion as boxed;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::challenges::{Challenge, Purpose, use_up};
use crate::error::Error;
use crate::intents::{Intent, insert_intent};
use crate::store::{on, to_ms, within};
use crate::vault::Vault;

/// Who claims an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claims {
    /// The account that proved it holds the address.
    pub verified: Option<Uuid>,
    /// The account that claimed it last, without proof.
    pub newest_pending: Option<Uuid>,
}

/// What became of a claim that was to be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is verified, and the challenge is used up.
    Verified,
    /// Another account holds the address. Nothing changed.
    Taken,
    /// The challenge was used, replaced or deleted before. Nothing changed.
    Used,
}

impl Vault {
    /// Claims an address for an account, without proof. A claim that is there stays as it is.
    #[boxed]
    pub async fn claim_pending(
        &self,
        hash: [u8; 32],
        account: Uuid,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("INSERT INTO claims (hash, account, status, created_at_ms) VALUES ($1, $2, 'pending', $3) \
                         ON CONFLICT (hash, account) DO NOTHING")
                .bind(&hash[..])
                .bind(account)
                .bind(to_ms(at))
                .execute(&pools.write)
        )
        .await
        .map(drop))
    }

    /// Makes the address that a challenge proves its account's verified one, in one transaction: the challenge is used
    /// up, all other claims of the account are deleted, and the intent to go on with is stored.
    #[boxed]
    pub async fn settle_claim(
        &self,
        challenge: &Challenge,
        intent: &Intent,
    ) -> Result<Settled, Error> {
        let (Some(hash), Purpose::VerifyEmail | Purpose::ChangeEmail) =
            (challenge.subject, challenge.purpose)
        else {
            return Err(Error::Invalid(format!(
                "the challenge {} proves no address",
                challenge.id
            )));
        };
        on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            if !use_up!(self.0.store, tx, challenge) {
                return Ok(Settled::Used);
            }
            let verified = sqlx::query(VERIFY)
                .bind(&hash[..])
                .bind(challenge.account)
                .bind(to_ms(intent.created_at))
                .execute(&mut *tx)
                .await;
            // The partial unique index decides between two that verify at once.
            if let Err(sqlx::Error::Database(error)) = &verified
                && error.is_unique_violation()
            {
                return Ok(Settled::Taken);
            }
            verified?;
            sqlx::query("DELETE FROM claims WHERE account = $1 AND hash <> $2")
                .bind(challenge.account)
                .bind(&hash[..])
                .execute(&mut *tx)
                .await?;
            insert_intent!(intent).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(Settled::Verified)
        })
        .await)
    }

    /// Who claims an address.
    #[boxed]
    pub async fn claims(&self, hash: [u8; 32]) -> Result<Claims, Error> {
        let (verified, newest_pending) = on!(&*self.0.store, pools => within(
            sqlx::query_as(
                "SELECT (SELECT account FROM claims WHERE hash = $1 AND status = 'verified'), \
                        (SELECT account FROM claims WHERE hash = $1 AND status = 'pending' \
                         ORDER BY created_at_ms DESC, account DESC LIMIT 1)",
            )
            .bind(&hash[..])
            .fetch_one(&pools.read)
        )
        .await)?;
        Ok(Claims {
            verified,
            newest_pending,
        })
    }

    /// Accounts that claimed an address before a time and have not proven it, the oldest first.
    #[boxed]
    pub async fn unverified_since(
        &self,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<Uuid>, Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query_scalar(
                "SELECT account FROM claims WHERE status = 'pending' AND created_at_ms < $1 ORDER BY created_at_ms LIMIT $2",
            )
            .bind(to_ms(before))
            .bind(i64::from(limit))
            .fetch_all(&pools.read)
        )
        .await)
    }

    /// Deletes all claims of an account.
    #[boxed]
    pub async fn release_claims(&self, account: Uuid) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM claims WHERE account = $1").bind(account).execute(&pools.write)
        )
        .await
        .map(drop))
    }
}

/// A change of address has no claim before.
const VERIFY: &str = "INSERT INTO claims (hash, account, status, created_at_ms) VALUES ($1, $2, 'verified', $3) \
                      ON CONFLICT (hash, account) DO UPDATE SET status = 'verified'";
