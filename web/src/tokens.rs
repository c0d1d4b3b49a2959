//! Access tokens (RFC 9068: JWTs of the type `at+jwt`), issued and verified. It refuses every algorithm but EdDSA over
//! Ed25519, and every key that is not in the keys file.

use async_recursion::async_recursion as boxed;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;
use vault::{Keys, SigningKey, SigningRing};

use crate::api_keys::{self, ApiKeyDoor};
use crate::clock::{self, Clock};
use crate::{ApiKeys, Caller, Credential, Problem, Revocations};

/// How long an access token is good for, in seconds.
pub(crate) const LIFETIME_S: i64 = 300;
/// How far apart the clocks of two machines may be, in seconds.
pub(crate) const SKEW_S: i64 = 30;
/// What a log-in takes (RFC 8176): the password, and a code from the person's second factor.
const PASSWORD: &str = "pwd";
const ONE_TIME_CODE: &str = "otp";
/// The media type that a token's header names (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";
/// Longest token looked at, in bytes.
const TOKEN_BYTES: usize = 4 * 1024;
/// Verified tokens remembered, so that a token is checked against its signature once.
const REMEMBERED: usize = 20_000;

/// What names this installation in its tokens. Never taken from the address it listens on.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
}

/// A token for a client.
#[derive(Clone)]
pub struct AccessToken {
    /// The JWT.
    pub token: String,
    /// Seconds until it expires.
    pub expires_in: i64,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// What a new token says of its bearer.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The account.
    pub account: Uuid,
    /// The session of the log-in.
    pub session: Uuid,
    /// What it allows beyond acting on one's own account.
    pub scopes: Vec<String>,
    /// When the person logged in: a refresh does not move it.
    pub authenticated_at: DateTime<Utc>,
    /// Whether the log-in took a second factor.
    pub second_factor: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: Uuid,
    aud: String,
    exp: i64,
    iat: i64,
    jti: Uuid,
    sid: Uuid,
    #[serde(default)]
    scope: String,
    /// Tokens issued before this claim came up have none: 1970, which is never fresh.
    #[serde(default)]
    auth_time: i64,
    #[serde(default)]
    amr: Vec<String>,
}

/// What is remembered of a token whose signature and names were right.
#[derive(Clone)]
struct Verified {
    caller: Caller,
    issued_at: i64,
    expires_at: i64,
}

pub(crate) type Sha256 = [u8; digest::SHA256_OUTPUT_LEN];

/// Issues and verifies access tokens.
pub struct Tokens {
    settings: TokenSettings,
    keys: Arc<Keys>,
    derived: RwLock<Arc<Derived>>,
    validation: Validation,
    revocations: Option<Revocations>,
    api_keys: Option<ApiKeyDoor>,
    clock: Clock,
}

/// What follows from one state of the keys file's signing keys.
struct Derived {
    ring: Arc<SigningRing>,
    signing: HashMap<String, EncodingKey>,
    verifying: HashMap<String, DecodingKey>,
    jwks: serde_json::Value,
    /// It goes with the keys, so that no remembered token outlives the key that signed it.
    seen: Cache<Sha256, Verified>,
}

impl Derived {
    fn new(ring: Arc<SigningRing>) -> Arc<Self> {
        let jwks = json!({ "keys": ring.keys().iter().map(|key| json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": key.kid(),
            "x": URL_SAFE_NO_PAD.encode(key.public_key()),
        })).collect::<Vec<_>>() });
        let signing = |key: &SigningKey| EncodingKey::from_ed_der(key.pkcs8_der());
        let verifying = |key: &SigningKey| DecodingKey::from_ed_der(key.public_key());
        let by_kid = ring.keys().iter().map(|key| (key.kid().to_owned(), key));
        Arc::new(Self {
            signing: by_kid
                .clone()
                .map(|(kid, key)| (kid, signing(key)))
                .collect(),
            verifying: by_kid.map(|(kid, key)| (kid, verifying(key))).collect(),
            jwks,
            seen: Cache::new(REMEMBERED),
            ring,
        })
    }
}

impl Tokens {
    /// With the signing keys of the keys file as it is and will be: the current one signs, all verify.
    pub fn new(keys: Arc<Keys>, settings: TokenSettings) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library would read the machine's clock: `check_time` judges by the caller's.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self {
            derived: RwLock::new(Derived::new(keys.signing())),
            keys,
            validation,
            settings,
            revocations: None,
            api_keys: None,
            clock: clock::system(),
        }
    }

    /// Refuses tokens of sessions that ended.
    #[must_use]
    pub fn with_revocations(mut self, revocations: Revocations) -> Self {
        self.revocations = Some(revocations);
        self
    }

    /// Takes API keys beside access tokens.
    #[must_use]
    pub fn with_api_keys(mut self, keys: Arc<dyn ApiKeys>) -> Self {
        self.api_keys = Some(ApiKeyDoor::new(keys));
        self
    }

    /// Judges tokens of requests by another clock than the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// What time it is for the tokens of requests.
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// A new token for a session.
    pub fn issue(&self, grant: &Grant, now: DateTime<Utc>) -> AccessToken {
        let factors: &[&str] = if grant.second_factor {
            &[PASSWORD, ONE_TIME_CODE]
        } else {
            &[PASSWORD]
        };
        let claims = Claims {
            iss: self.settings.issuer.clone(),
            sub: grant.account,
            aud: self.settings.audience.clone(),
            exp: now.timestamp() + LIFETIME_S,
            iat: now.timestamp(),
            jti: vault::random_uuid(),
            sid: grant.session,
            scope: grant.scopes.join(" "),
            auth_time: grant.authenticated_at.timestamp(),
            amr: factors.iter().map(|&factor| factor.to_owned()).collect(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        let derived = self.derived();
        let kid = derived.ring.current(now).kid();
        header.kid = Some(kid.to_owned());
        let token = jsonwebtoken::encode(&header, &claims, &derived.signing[kid])
            .expect("the keys file's Ed25519 keys were checked when it was read");
        AccessToken {
            token,
            expires_in: LIFETIME_S,
        }
    }

    /// Who the bearer of an access token or an API key is, now; else 401. 503 when nobody can tell whether the session has
    /// ended, or the key is good.
    #[boxed]
    pub async fn authenticate(&self, bearer: &str) -> Result<Caller, Problem> {
        if bearer.starts_with(api_keys::PREFIX) {
            let door = self.api_keys.as_ref().ok_or_else(Problem::invalid_token)?;
            return door.caller(bearer, self.now()).await;
        }
        let caller = self.verify(bearer, self.now())?;
        if let (Some(revocations), Some(session)) = (&self.revocations, caller.session()) {
            revocations.check(session).await?;
        }
        Ok(caller)
    }

    /// Who a token speaks for, if it is ours and good at `now`; else the problem `invalid_token`, which never says why.
    /// Answers from memory, so it does not know of sessions that ended: [`Tokens::authenticate`] does.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Caller, Problem> {
        if token.len() > TOKEN_BYTES {
            return Err(Problem::invalid_token());
        }
        let hash = sha256(token);
        let derived = self.derived();
        if let Some(verified) = derived.seen.get(&hash) {
            check_time(&verified, now)?;
            return Ok(verified.caller);
        }
        let (verified, derived) = self
            .check(token, derived)
            .ok_or_else(Problem::invalid_token)?;
        check_time(&verified, now)?;
        derived.seen.insert(hash, verified.clone());
        Ok(verified.caller)
    }

    /// The public keys, as a JSON Web Key Set (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> serde_json::Value {
        self.derived().jwks.clone()
    }

    /// What follows from the keys file as it is, or was a second ago.
    fn derived(&self) -> Arc<Derived> {
        let ring = self.keys.signing();
        let derived = Arc::clone(&self.derived.read().unwrap_or_else(PoisonError::into_inner));
        if Arc::ptr_eq(&derived.ring, &ring) {
            return derived;
        }
        let mut derived = self.derived.write().unwrap_or_else(PoisonError::into_inner);
        let ring = self.keys.signing();
        if !Arc::ptr_eq(&derived.ring, &ring) {
            *derived = Derived::new(ring);
        }
        Arc::clone(&derived)
    }

    /// Everything of a token but the time. Also gives the keys that it was checked with.
    fn check(&self, token: &str, mut derived: Arc<Derived>) -> Option<(Verified, Arc<Derived>)> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        // `kid` picks among our own keys alone: `jwk`, `jku` and `x5u` in a header are never looked at.
        if header.alg != Algorithm::EdDSA
            || header.typ.as_deref() != Some(TYPE)
            || header.crit.is_some()
        {
            return None;
        }
        let kid = header.kid?;
        if !derived.verifying.contains_key(&kid) {
            // Another process may know a newer keys file.
            self.keys.look_again();
            derived = self.derived();
        }
        let key = derived.verifying.get(&kid)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation)
            .ok()?
            .claims;
        let scopes = claims
            .scope
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        let verified = Verified {
            caller: Caller {
                account: claims.sub,
                credential: Credential::Session {
                    id: claims.sid,
                    authenticated_at: DateTime::from_timestamp(claims.auth_time, 0)
                        .unwrap_or_default(),
                    second_factor: claims.amr.iter().any(|factor| factor == ONE_TIME_CODE),
                },
                scopes,
            },
            issued_at: claims.iat,
            expires_at: claims.exp,
        };
        Some((verified, derived))
    }
}

/// Under what a credential is remembered: never the credential itself.
pub(crate) fn sha256(text: &str) -> Sha256 {
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hash
}

fn check_time(verified: &Verified, now: DateTime<Utc>) -> Result<(), Problem> {
    let now = now.timestamp();
    // Saturating: a token may name any number.
    let good = now < verified.expires_at.saturating_add(SKEW_S)
        && verified.issued_at <= now.saturating_add(SKEW_S);
    if good {
        Ok(())
    } else {
        Err(Problem::invalid_token())
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod rotation_tests;
