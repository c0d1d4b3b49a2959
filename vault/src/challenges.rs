//! One-time codes and links for e-mail: proof that somebody reads the mail of an address.
//!
//! Refuses: to store a code or a link (keyed hashes alone), to compare a code before a try was taken durably, and to
//! tell why it refuses. Checking uses nothing up: whoever acts on a challenge deletes it in the same transaction.

use async_recursion::async_recursion as boxed;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::{Keys, same};
use crate::random::{random_bytes, random_uuid};
use crate::store::{on, to_ms, within};
use crate::vault::Vault;

/// How often a code may be tried.
const TRIES: i64 = 5;
/// How many codes there are: eight decimal digits.
const CODES: u32 = 100_000_000;

/// What a challenge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A new account proves its address (10 minutes).
    VerifyEmail,
    /// An account proves the address it wants to have (10 minutes).
    ChangeEmail,
    /// Somebody who forgot their password sets a new one (30 minutes).
    ResetPassword,
}

impl Purpose {
    /// How long a challenge of this purpose is good for.
    pub fn lifetime(self) -> TimeDelta {
        TimeDelta::minutes(match self {
            Self::VerifyEmail | Self::ChangeEmail => 10,
            Self::ResetPassword => 30,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify-email",
            Self::ChangeEmail => "change-email",
            Self::ResetPassword => "reset-password",
        }
    }
}

/// A challenge as it is sent: the only time that code and link are there to read.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The challenge.
    pub id: Uuid,
    /// Eight decimal digits.
    pub code: SecretString,
    /// 256 random bits in base64url.
    pub link: SecretString,
    /// When both stop to count.
    pub expires_at: DateTime<Utc>,
}

/// A challenge that was met, and is not used up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The challenge.
    pub id: Uuid,
    /// Whose it is.
    pub account: Uuid,
    /// What it is for.
    pub purpose: Purpose,
    /// The keyed hash of the address that it was sent to, where it proves one.
    pub subject: Option<[u8; 32]>,
}

/// Why a challenge is not met.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChallengeError {
    /// Wrong, expired, tried too often, used or unknown: nobody is told which.
    #[error("the code or link is wrong, has expired or was used")]
    Refused,
    /// The vault broke.
    #[error(transparent)]
    Fault(#[from] Error),
}

type Row = (Uuid, Uuid, Option<Vec<u8>>, Vec<u8>);

impl Vault {
    /// Makes a challenge. It takes the place of an older one of the same account and purpose.
    #[boxed]
    pub async fn issue_challenge(
        &self,
        account: Uuid,
        purpose: Purpose,
        subject: Option<[u8; 32]>,
        now: DateTime<Utc>,
    ) -> Result<Issued, Error> {
        let id = random_uuid();
        let code = random_code();
        let link = Zeroizing::new(URL_SAFE_NO_PAD.encode(random_bytes::<32>()));
        let expires_at = now + purpose.lifetime();
        let keys = &self.0.keys;
        let (code_hash, link_hash) = (code_hash(keys, id, &code), link_hash(keys, purpose, &link));
        on!(&*self.0.store, pools => within(
            sqlx::query(
                "INSERT INTO challenges (id, account, purpose, subject, code_hash, link_hash, tries_left, expires_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, purpose) DO UPDATE \
                 SET id = excluded.id, subject = excluded.subject, code_hash = excluded.code_hash, \
                     link_hash = excluded.link_hash, tries_left = excluded.tries_left, \
                     expires_at_ms = excluded.expires_at_ms",
            )
            .bind(id)
            .bind(account)
            .bind(purpose.name())
            .bind(subject.as_ref().map(|subject| &subject[..]))
            .bind(&code_hash[..])
            .bind(&link_hash[..])
            .bind(TRIES)
            .bind(to_ms(expires_at))
            .execute(&pools.write)
        )
        .await
        .map(drop))?;
        Ok(Issued {
            id,
            code: code.as_str().into(),
            link: link.as_str().into(),
            expires_at,
        })
    }

    /// Checks a code; spaces and hyphens in it do not count. Costs one of five tries, also when it is right.
    #[boxed]
    pub async fn check_code(
        &self,
        account: Uuid,
        purpose: Purpose,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<Challenge, ChallengeError> {
        // Committed before anything is compared: a process that dies, or many at once, win no further try.
        let rows: Vec<Row> = on!(&*self.0.store, pools => within(
            sqlx::query_as(
                "UPDATE challenges SET tries_left = tries_left - 1 \
                 WHERE account = $1 AND purpose = $2 AND tries_left > 0 AND expires_at_ms > $3 \
                 RETURNING id, account, subject, code_hash",
            )
            .bind(account)
            .bind(purpose.name())
            .bind(to_ms(now))
            .fetch_all(&pools.write)
        )
        .await)?;
        let (id, account, subject, hash) =
            rows.into_iter().next().ok_or(ChallengeError::Refused)?;
        if !same(&code_hash(&self.0.keys, id, &plain(code)), &hash) {
            return Err(ChallengeError::Refused);
        }
        challenge(id, account, purpose, subject)
    }

    /// Checks a link. It can't be guessed, so it costs no try, and still counts when the code's tries are used up:
    /// else anybody could keep the holder of an address out.
    #[boxed]
    pub async fn check_link(
        &self,
        purpose: Purpose,
        link: &str,
        now: DateTime<Utc>,
    ) -> Result<Challenge, ChallengeError> {
        let hash = link_hash(&self.0.keys, purpose, link);
        let row: Option<(Uuid, Uuid, Option<Vec<u8>>)> = on!(&*self.0.store, pools => within(
            sqlx::query_as(
                "SELECT id, account, subject FROM challenges \
                 WHERE link_hash = $1 AND purpose = $2 AND expires_at_ms > $3",
            )
            .bind(&hash[..])
            .bind(purpose.name())
            .bind(to_ms(now))
            .fetch_optional(&pools.read)
        )
        .await)?;
        let (id, account, subject) = row.ok_or(ChallengeError::Refused)?;
        challenge(id, account, purpose, subject)
    }
}

/// Within a transaction: uses a challenge up. Tells whether it was there to be used: not of somebody who was erased, and not
/// used, replaced or deleted before.
macro_rules! use_up {
    ($store:expr, $tx:expr, $challenge:expr) => {{
        let challenge: &$crate::challenges::Challenge = $challenge;
        !$crate::store::erased!($store, $tx, challenge.account)
            && sqlx::query("DELETE FROM challenges WHERE id = $1 AND account = $2 AND purpose = $3")
                .bind(challenge.id)
                .bind(challenge.account)
                .bind(challenge.purpose.name())
                .execute(&mut *$tx)
                .await?
                .rows_affected()
                == 1
    }};
}
pub(crate) use use_up;

fn challenge(
    id: Uuid,
    account: Uuid,
    purpose: Purpose,
    subject: Option<Vec<u8>>,
) -> Result<Challenge, ChallengeError> {
    let subject = subject
        .map(|subject| {
            <[u8; 32]>::try_from(subject)
                .map_err(|_| Error::Invalid(format!("the challenge {id} has a broken subject")))
        })
        .transpose()?;
    Ok(Challenge {
        id,
        account,
        purpose,
        subject,
    })
}

/// A code without the spaces and hyphens that people write between its parts.
pub(crate) fn plain(code: &str) -> Zeroizing<String> {
    Zeroizing::new(
        code.chars()
            .filter(|c| !c.is_whitespace() && *c != '-')
            .collect(),
    )
}

/// Any of the codes, each as likely as the others.
fn random_code() -> Zeroizing<String> {
    loop {
        let drawn = u32::from_be_bytes(random_bytes());
        // The numbers above would make some codes likelier.
        if drawn < u32::MAX / CODES * CODES {
            return Zeroizing::new(format!("{:08}", drawn % CODES));
        }
    }
}

fn code_hash(keys: &Keys, id: Uuid, code: &str) -> [u8; 32] {
    keys.secret_hash(b"challenge code", &[id.as_bytes(), code.as_bytes()])
}

fn link_hash(keys: &Keys, purpose: Purpose, link: &str) -> [u8; 32] {
    keys.secret_hash(
        b"challenge link",
        &[purpose.name().as_bytes(), link.as_bytes()],
    )
}
