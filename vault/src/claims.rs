//! Who claims an e-mail address, known only by its keyed hash: any number pending, one verified.
//!
//! Refuses: a second verified holder. Proving that somebody may verify is the caller's.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::Error;
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
pub enum ClaimVerdict {
    /// It is verified, now or before.
    Verified,
    /// Another account holds the address.
    Taken,
    /// The account has no such claim.
    NoClaim,
}

impl Vault {
    /// Claims an address for an account, without proof. A claim that is there stays as it is.
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

    /// Makes a pending claim the verified one.
    pub async fn verify_claim(&self, hash: [u8; 32], account: Uuid) -> Result<ClaimVerdict, Error> {
        let updated = on!(&*self.0.store, pools => tokio::time::timeout(
            crate::store::OPERATION_TIMEOUT,
            sqlx::query("UPDATE claims SET status = 'verified' WHERE hash = $1 AND account = $2")
                .bind(&hash[..])
                .bind(account)
                .execute(&pools.write)
        )
        .await
        .map(|result| result.map(|done| done.rows_affected())));
        match updated {
            Ok(Ok(0)) => Ok(ClaimVerdict::NoClaim),
            Ok(Ok(_)) => Ok(ClaimVerdict::Verified),
            // The partial unique index decides between two that verify at once.
            Ok(Err(sqlx::Error::Database(error))) if error.is_unique_violation() => {
                Ok(ClaimVerdict::Taken)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Error::Unavailable("no answer in time".into())),
        }
    }

    /// Who claims an address.
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

    /// Deletes all claims of an account.
    pub async fn release_claims(&self, account: Uuid) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM claims WHERE account = $1").bind(account).execute(&pools.write)
        )
        .await
        .map(drop))
    }
}
