//! Password hashes, by the id that events name them by. Refuses: to replace one under an id that is taken.

use async_recursion::async_recursion as boxed;
use uuid::Uuid;

use crate::challenges::{Challenge, Purpose, use_up};
use crate::error::Error;
use crate::intents::{Intent, insert_intent};
use crate::store::{on, within};
use crate::vault::Vault;

/// A stored password hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Whose it is.
    pub account: Uuid,
    /// Argon2id's PHC string.
    pub phc: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// What became of a credential that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    New,
    /// The id was taken; this is what stands under it, unchanged.
    Already(Credential),
}

impl Vault {
    /// Stores a credential under a new id, or tells what is there: a retried registration changes nothing.
    #[boxed]
    pub async fn store_credential(
        &self,
        id: Uuid,
        account: Uuid,
        phc: &str,
    ) -> Result<Stored, Error> {
        let inserted = on!(&*self.0.store, pools => within(
            sqlx::query("INSERT INTO credentials (id, account, phc) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING")
                .bind(id)
                .bind(account)
                .bind(phc)
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        if inserted == 1 {
            return Ok(Stored::New);
        }
        let there = self.credential(id).await?;
        there
            .map(Stored::Already)
            .ok_or_else(|| Error::Unavailable("the credential was deleted meanwhile".into()))
    }

    /// The credential under an id.
    #[boxed]
    pub async fn credential(&self, id: Uuid) -> Result<Option<Credential>, Error> {
        let row: Option<(Uuid, String)> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT account, phc FROM credentials WHERE id = $1").bind(id).fetch_optional(&pools.read)
        )
        .await)?;
        Ok(row.map(|(account, phc)| Credential { account, phc }))
    }

    /// Puts `new` in `old`'s place (a rehash under newer parameters), unless another came first. Tells whether it did.
    #[boxed]
    pub async fn replace_phc(&self, id: Uuid, old: &str, new: &str) -> Result<bool, Error> {
        let changed = on!(&*self.0.store, pools => within(
            sqlx::query("UPDATE credentials SET phc = $3 WHERE id = $1 AND phc = $2")
                .bind(id)
                .bind(old)
                .bind(new)
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        Ok(changed == 1)
    }

    /// Stores the credential that a challenge lets its account set, in one transaction: the challenge is used up, and
    /// the intent to go on with is stored. Tells whether it did; else the challenge was used, replaced or deleted before.
    #[boxed]
    pub async fn settle_reset(
        &self,
        challenge: &Challenge,
        credential_id: Uuid,
        phc: &str,
        intent: &Intent,
    ) -> Result<bool, Error> {
        if challenge.purpose != Purpose::ResetPassword {
            return Err(Error::Invalid(format!(
                "the challenge {} lets nobody set a password",
                challenge.id
            )));
        }
        on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            if !use_up!(self.0.store, tx, challenge) {
                return Ok(false);
            }
            sqlx::query("INSERT INTO credentials (id, account, phc) VALUES ($1, $2, $3)")
                .bind(credential_id)
                .bind(challenge.account)
                .bind(phc)
                .execute(&mut *tx)
                .await?;
            insert_intent!(intent).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await)
    }

    /// Deletes all credentials of an account but one.
    #[boxed]
    pub async fn delete_credentials_but(&self, account: Uuid, keep: Uuid) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM credentials WHERE account = $1 AND id <> $2")
                .bind(account)
                .bind(keep)
                .execute(&pools.write)
        )
        .await
        .map(drop))
    }

    /// Deletes all credentials of an account.
    #[boxed]
    pub async fn delete_credentials(&self, account: Uuid) -> Result<(), Error> {
        on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM credentials WHERE account = $1").bind(account).execute(&pools.write)
        )
        .await
        .map(drop))
    }
}
