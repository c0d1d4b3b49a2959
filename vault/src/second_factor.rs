//! Second factors: TOTP, and recovery codes for whoever lost the device.
//!
//! Refuses: to take a code twice (also of two at once), and to store a seed or a recovery code in clear. How often
//! wrong codes may be tried is the caller's ([`Vault::note_failure`]).

use async_recursion::async_recursion as boxed;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::challenges::plain;
use crate::data_key::DataKey;
use crate::error::{Error, KeyError};
use crate::keys::Keys;
use crate::random::random_bytes;
use crate::store::{erased, on, to_ms, within};
use crate::totp::{SEED_LEN, base32, is_code, matching_step};
use crate::vault::Vault;

/// How many recovery codes an account gets.
const RECOVERY_CODES: usize = 10;
/// How many characters a recovery code has, hyphens left out: 60 bits.
const RECOVERY_CHARS: usize = 12;
/// What recovery codes are written in (Crockford's base32): no i, l, o or u to misread.
const RECOVERY_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The table, as it is named within what is sealed.
const TABLE: &str = "second_factors";

/// Why nothing was enrolled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EnrollError {
    /// The account has a confirmed one: remove that first.
    #[error("the account has a second factor already")]
    Already,
    /// There is no data key to seal it under.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What a code came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// It is the device's code, and was not used before.
    Totp,
    /// It was one of the recovery codes.
    RecoveryCode {
        /// How many are left.
        left: u32,
    },
    /// It is wrong, or was used before.
    Wrong,
    /// The account has no second factor.
    NotEnrolled,
}

const DELETE_CODES: &str = "DELETE FROM recovery_codes WHERE account = $1";

/// Stores recovery codes in place of all older ones, within a transaction.
macro_rules! store_codes {
    ($codes:expr, $account:expr, $tx:expr) => {
        sqlx::query(DELETE_CODES)
            .bind($account)
            .execute(&mut *$tx)
            .await?;
        for hash in &$codes.hashes {
            sqlx::query("INSERT INTO recovery_codes (account, hash) VALUES ($1, $2)")
                .bind($account)
                .bind(&hash[..])
                .execute(&mut *$tx)
                .await?;
        }
    };
}
impl Vault {
    /// Draws a seed and gives it in base32, for the holder's device. It counts once a code confirms it; until then, the
    /// next takes its place.
    #[boxed]
    pub async fn enroll_totp(&self, account: Uuid) -> Result<SecretString, EnrollError> {
        let seed = Zeroizing::new(random_bytes::<SEED_LEN>());
        let key = self.data_key(account).await?;
        let mut value = Value::String(URL_SAFE_NO_PAD.encode(*seed));
        let sealed = key.seal_row(TABLE, account, &value);
        crate::data_key::wipe(&mut value);
        let stored = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            if erased!(self.0.store, tx, account) {
                return Ok(None);
            }
            let stored = sqlx::query(
                "INSERT INTO second_factors (account, sealed, last_step) VALUES ($1, $2, -1) \
                 ON CONFLICT (account) DO UPDATE SET sealed = excluded.sealed \
                 WHERE second_factors.confirmed_at_ms IS NULL",
            )
            .bind(account)
            .bind(sealed)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(Some(stored.rows_affected()))
        })
        .await)
        .map_err(KeyError::from)?;
        match stored {
            None => Err(KeyError::Erased.into()),
            Some(0) => Err(EnrollError::Already),
            Some(_) => Ok(base32(&*seed).into()),
        }
    }

    /// Confirms an enrolment with a code of the device, and gives the recovery codes: the only time they can be read.
    /// `None` when the code is wrong, or nothing waits to be confirmed.
    #[boxed]
    pub async fn confirm_totp(
        &self,
        account: Uuid,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<SecretString>>, Error> {
        let row: Option<(Vec<u8>,)> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT sealed FROM second_factors WHERE account = $1 AND confirmed_at_ms IS NULL")
                .bind(account)
                .fetch_optional(&pools.read)
        )
        .await)?;
        let Some((sealed,)) = row else {
            return Ok(None);
        };
        let Some(key) = self.key_unless_erased(account).await? else {
            return Ok(None);
        };
        let seed = open_seed(&key, sealed.clone())?;
        let Some(step) = matching_step(&seed, &plain(code), now) else {
            return Ok(None);
        };
        let codes = Codes::draw(&self.0.keys, account);
        let confirmed = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            // The seed that was confirmed, and no other that took its place meanwhile.
            let confirmed = sqlx::query(
                "UPDATE second_factors SET confirmed_at_ms = $2, last_step = $3 \
                 WHERE account = $1 AND confirmed_at_ms IS NULL AND sealed = $4",
            )
            .bind(account)
            .bind(to_ms(now))
            .bind(step)
            .bind(sealed)
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if confirmed == 1 {
                store_codes!(codes, account, tx);
                tx.commit().await?;
            }
            Ok(confirmed)
        })
        .await)?;
        Ok((confirmed == 1).then_some(codes.texts))
    }

    /// Checks a code: the device's (30 s early or late at most), or a recovery code. Either counts once.
    #[boxed]
    pub async fn check_second_factor(
        &self,
        account: Uuid,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<Factor, Error> {
        let row: Option<(Vec<u8>,)> = on!(&*self.0.store, pools => within(
            sqlx::query_as("SELECT sealed FROM second_factors WHERE account = $1 AND confirmed_at_ms IS NOT NULL")
                .bind(account)
                .fetch_optional(&pools.read)
        )
        .await)?;
        let Some((sealed,)) = row else {
            return Ok(Factor::NotEnrolled);
        };
        let Some(key) = self.key_unless_erased(account).await? else {
            return Ok(Factor::NotEnrolled);
        };
        let code = plain(code);
        if !is_code(&code) {
            return self.use_recovery_code(account, &code).await;
        }
        let Some(step) = matching_step(&open_seed(&key, sealed)?, &code, now) else {
            return Ok(Factor::Wrong);
        };
        // Of two that show the same code at once, one moves the step.
        let moved = on!(&*self.0.store, pools => within(
            sqlx::query("UPDATE second_factors SET last_step = $2 \
                         WHERE account = $1 AND last_step < $2 AND confirmed_at_ms IS NOT NULL")
                .bind(account)
                .bind(step)
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        Ok(if moved == 1 {
            Factor::Totp
        } else {
            Factor::Wrong
        })
    }

    /// Whether the account has a confirmed second factor.
    #[boxed]
    pub async fn has_second_factor(&self, account: Uuid) -> Result<bool, Error> {
        let count: i64 = on!(&*self.0.store, pools => within(
            sqlx::query_scalar(
                "SELECT count(*) FROM second_factors WHERE account = $1 AND confirmed_at_ms IS NOT NULL",
            )
            .bind(account)
            .fetch_one(&pools.read)
        )
        .await)?;
        Ok(count == 1)
    }

    /// Removes the second factor, confirmed or not, and the recovery codes. Tells whether there was one.
    #[boxed]
    pub async fn remove_second_factor(&self, account: Uuid) -> Result<bool, Error> {
        let removed = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            let removed = sqlx::query("DELETE FROM second_factors WHERE account = $1")
                .bind(account)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            sqlx::query(DELETE_CODES).bind(account).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(removed)
        })
        .await)?;
        Ok(removed == 1)
    }

    /// Removes a second factor that was confirmed before a time. Its recovery codes go with the next confirmation.
    #[boxed]
    pub async fn drop_second_factor_of_before(
        &self,
        account: Uuid,
        time: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let removed = on!(&*self.0.store, pools => within(
            sqlx::query("DELETE FROM second_factors WHERE account = $1 AND confirmed_at_ms < $2")
                .bind(account)
                .bind(to_ms(time))
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        Ok(removed == 1)
    }

    /// Draws new recovery codes in place of all older ones. `None` without a confirmed second factor.
    #[boxed]
    pub async fn new_recovery_codes(
        &self,
        account: Uuid,
    ) -> Result<Option<Vec<SecretString>>, Error> {
        let codes = Codes::draw(&self.0.keys, account);
        let enrolled = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            // Changes nothing, but makes two at once take turns.
            let enrolled = sqlx::query(
                "UPDATE second_factors SET last_step = last_step WHERE account = $1 AND confirmed_at_ms IS NOT NULL",
            )
            .bind(account)
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if enrolled == 1 {
                store_codes!(codes, account, tx);
                tx.commit().await?;
            }
            Ok(enrolled)
        })
        .await)?;
        Ok((enrolled == 1).then_some(codes.texts))
    }

    async fn use_recovery_code(&self, account: Uuid, code: &str) -> Result<Factor, Error> {
        let hash = recovery_hash(&self.0.keys, account, &readable(code));
        let left: Option<i64> = on!(&*self.0.store, pools => within(async {
            let mut tx = pools.begin().await?;
            let used = sqlx::query("DELETE FROM recovery_codes WHERE account = $1 AND hash = $2")
                .bind(account)
                .bind(&hash[..])
                .execute(&mut *tx)
                .await?;
            if used.rows_affected() == 0 {
                return Ok(None);
            }
            let left = sqlx::query_scalar("SELECT count(*) FROM recovery_codes WHERE account = $1")
                .bind(account)
                .fetch_one(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(Some(left))
        })
        .await)?;
        Ok(left.map_or(Factor::Wrong, |left| Factor::RecoveryCode {
            left: u32::try_from(left).unwrap_or(u32::MAX),
        }))
    }
}

/// Recovery codes as they are shown, and as they are stored.
struct Codes {
    texts: Vec<SecretString>,
    hashes: Vec<[u8; 32]>,
}

impl Codes {
    fn draw(keys: &Keys, account: Uuid) -> Self {
        let (mut texts, mut hashes) = (Vec::new(), Vec::new());
        for _ in 0..RECOVERY_CODES {
            let code: Zeroizing<String> = Zeroizing::new(
                random_bytes::<RECOVERY_CHARS>()
                    .map(|byte| char::from(RECOVERY_ALPHABET[usize::from(byte & 31)]))
                    .iter()
                    .collect(),
            );
            hashes.push(recovery_hash(keys, account, &code));
            texts.push(format!("{}-{}-{}", &code[..4], &code[4..8], &code[8..]).into());
        }
        Self { texts, hashes }
    }
}

fn recovery_hash(keys: &Keys, account: Uuid, code: &str) -> [u8; 32] {
    keys.secret_hash(b"recovery code", &[account.as_bytes(), code.as_bytes()])
}

fn open_seed(key: &DataKey, sealed: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let broken = || Error::Invalid(format!("{}: the sealed TOTP seed is broken", key.person()));
    let Value::String(text) = key.open_row(TABLE, key.person(), sealed)? else {
        return Err(broken());
    };
    let text = Zeroizing::new(text);
    URL_SAFE_NO_PAD
        .decode(&*text)
        .map(Zeroizing::new)
        .map_err(|_| broken())
}

/// A recovery code as it was given, whatever was misread.
fn readable(code: &str) -> Zeroizing<String> {
    Zeroizing::new(
        code.chars()
            .map(|c| match c.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                c => c,
            })
            .collect(),
    )
}
