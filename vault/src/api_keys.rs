//! API keys: long-lived secrets of an account for its programs, each with scopes and an end.
//!
//! Refuses: to store one (a SHA-256 alone), and to tell why one does not count.

use async_recursion::async_recursion as boxed;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, KeyError};
use crate::keys::{Keys, same};
use crate::store::{erased, from_ms, on, to_ms, within};
use crate::vault::Vault;

/// How every key begins, so that people and scanners for leaked secrets know it.
const PREFIX: &str = "sck_";
const ID_LEN: usize = 16;
const KEY_LEN: usize = ID_LEN + 32;
/// How many of an account's keys are told at most.
const LISTED: i64 = 1_000;

/// An API key that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key.
    pub id: Uuid,
    /// Whose it is.
    pub account: Uuid,
    /// What it allows.
    pub scopes: Vec<String>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// What an account may know of one of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyInfo {
    /// The key.
    pub id: Uuid,
    /// What it allows.
    pub scopes: Vec<String>,
    /// Until when.
    pub expires_at: DateTime<Utc>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
}

type Row = (Uuid, Vec<u8>, String, i64, Option<i64>);

impl Vault {
    /// Stores an API key and gives its text: again with the same id, the same text, and what is there stays as it is.
    #[boxed]
    pub async fn store_api_key(
        &self,
        id: Uuid,
        account: Uuid,
        scopes: &[String],
        expires_at: DateTime<Utc>,
    ) -> Result<SecretString, KeyError> {
        let text = text(&self.0.keys, id);
        let scopes = serde_json::to_string(scopes).expect("texts are JSON");
        let owner: Option<Uuid> = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            if erased!(self.0.store, tx, account) {
                return Ok(None);
            }
            sqlx::query("INSERT INTO api_keys (id, account, hash, scopes, expires_at_ms) \
                         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING")
                .bind(id)
                .bind(account)
                .bind(hash(&text))
                .bind(scopes)
                .bind(to_ms(expires_at))
                .execute(&mut *tx)
                .await?;
            let owner = sqlx::query_scalar("SELECT account FROM api_keys WHERE id = $1")
                .bind(id)
                .fetch_one(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(Some(owner))
        })
        .await)?;
        match owner {
            None => Err(KeyError::Erased),
            Some(owner) if owner == account => Ok(text.as_str().into()),
            Some(_) => {
                Err(Error::Invalid(format!("the API key {id} belongs to another account")).into())
            }
        }
    }

    /// The API key that a text is, if it counts now: not when it is unknown, expired or revoked.
    #[boxed]
    pub async fn api_key(&self, text: &str, now: DateTime<Utc>) -> Result<Option<ApiKey>, Error> {
        let Some(id) = parse(text) else {
            return Ok(None);
        };
        let row: Option<Row> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT account, hash, scopes, expires_at_ms, revoked_at_ms FROM api_keys WHERE id = $1")
                .bind(id)
                .fetch_optional(&pools.read)
        )
        .await)?;
        let Some((account, stored, scopes, expires_at, revoked_at)) = row else {
            return Ok(None);
        };
        let expires_at = from_ms(expires_at);
        if !same(&hash(text), &stored) || revoked_at.is_some() || now >= expires_at {
            return Ok(None);
        }
        Ok(Some(ApiKey {
            id,
            account,
            scopes: read_scopes(id, &scopes)?,
            expires_at,
        }))
    }

    /// Revokes an API key. Tells whether it was there and not revoked before.
    #[boxed]
    pub async fn revoke_api_key(&self, id: Uuid, now: DateTime<Utc>) -> Result<bool, Error> {
        let revoked = on!(&*self.0.store, pools => within(
            sqlx::query("UPDATE api_keys SET revoked_at_ms = $2 WHERE id = $1 AND revoked_at_ms IS NULL")
                .bind(id)
                .bind(to_ms(now))
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        Ok(revoked == 1)
    }

    /// Revokes all API keys of an account, and gives those that were not revoked before.
    #[boxed]
    pub async fn revoke_api_keys(
        &self,
        account: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Vec<Uuid>, Error> {
        let mut revoked: Vec<Uuid> = on!(&*self.0.store, pools => within(
            sqlx::query_scalar("UPDATE api_keys SET revoked_at_ms = $2 \
                                WHERE account = $1 AND revoked_at_ms IS NULL RETURNING id")
                .bind(account)
                .bind(to_ms(now))
                .fetch_all(&pools.write)
        )
        .await)?;
        revoked.sort_unstable();
        Ok(revoked)
    }

    /// The account's API keys, expired and revoked ones too, until they are forgotten; at most 1,000.
    #[boxed]
    pub async fn api_keys(&self, account: Uuid) -> Result<Vec<ApiKeyInfo>, Error> {
        let rows: Vec<(Uuid, String, i64, Option<i64>)> = on!(&*self.0.store, pools => within(
            sqlx::query_as(
                "SELECT id, scopes, expires_at_ms, revoked_at_ms FROM api_keys WHERE account = $1 ORDER BY id LIMIT $2",
            )
            .bind(account)
            .bind(LISTED)
            .fetch_all(&pools.read)
        )
        .await)?;
        rows.into_iter()
            .map(|(id, scopes, expires_at, revoked_at)| {
                Ok(ApiKeyInfo {
                    id,
                    scopes: read_scopes(id, &scopes)?,
                    expires_at: from_ms(expires_at),
                    revoked_at: revoked_at.map(from_ms),
                })
            })
            .collect()
    }
}

/// The text of a key: always the same for its id, so that a retried creation gets the same.
fn text(keys: &Keys, id: Uuid) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    bytes[..ID_LEN].copy_from_slice(id.as_bytes());
    bytes[ID_LEN..].copy_from_slice(&keys.secret_hash(b"api key", &[id.as_bytes()]));
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
    Zeroizing::new([PREFIX, &encoded].concat())
}

/// The id that a text names.
fn parse(text: &str) -> Option<Uuid> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    let encoded = text.strip_prefix(PREFIX)?;
    let length = URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
    (length == KEY_LEN).then(|| Uuid::from_slice(&bytes[..ID_LEN]).ok())?
}

fn hash(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

fn read_scopes(id: Uuid, json: &str) -> Result<Vec<String>, Error> {
    serde_json::from_str(json)
        .map_err(|error| Error::Invalid(format!("the API key {id} has broken scopes: {error}")))
}
