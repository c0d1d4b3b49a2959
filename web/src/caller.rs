//! Who calls: the extractors that turn `Authorization: Bearer …` into a verified caller.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{Problem, Tokens};

/// Longest `Authorization` value looked at, in bytes.
const AUTHORIZATION_BYTES: usize = 8 * 1024;
/// For how long after the log-in a caller may do what asks for a fresh one.
const FRESH: TimeDelta = TimeDelta::minutes(10);

/// A caller whose credential has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: Uuid,
    /// What proved it.
    pub credential: Credential,
    /// What the credential allows beyond acting on one's own account.
    pub scopes: Arc<[String]>,
}

/// What a caller was verified by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// An access token: the person logged in.
    Session {
        /// The session of the log-in.
        id: Uuid,
        /// When the person logged in; 1970 where that is not known.
        authenticated_at: DateTime<Utc>,
        /// Whether the log-in took a second factor.
        second_factor: bool,
    },
    /// An API key: a program acts for the account.
    ApiKey {
        /// The key's id.
        id: Uuid,
    },
}

impl Caller {
    /// The session, if the caller logged in.
    pub fn session(&self) -> Option<Uuid> {
        match self.credential {
            Credential::Session { id, .. } => Some(id),
            Credential::ApiKey { .. } => None,
        }
    }

    /// Whether the person logged in at most ten minutes ago. An API key is never fresh.
    pub fn fresh(&self, now: DateTime<Utc>) -> bool {
        match self.credential {
            Credential::Session {
                authenticated_at, ..
            } => now - authenticated_at <= FRESH,
            Credential::ApiKey { .. } => false,
        }
    }

    /// Whether a scope is held: itself, or one that ends in `*` and begins like it.
    pub fn has_scope(&self, wanted: &str) -> bool {
        self.scopes.iter().any(|held| match held.strip_suffix('*') {
            Some(prefix) => wanted.starts_with(prefix),
            None => held == wanted,
        })
    }

    /// Whether exactly this scope is held; a wildcard does not count.
    pub fn has_exact_scope(&self, wanted: &str) -> bool {
        self.scopes.iter().any(|held| held == wanted)
    }
}

/// A caller with a valid credential; anybody else gets 401.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Caller);

/// A caller with a valid credential, or nobody. A credential that is sent but not valid still gets 401.
#[derive(Debug, Clone)]
pub struct MaybeAuthenticated(pub Option<Caller>);

async fn caller(parts: &Parts, tokens: &Tokens) -> Result<Option<Caller>, Problem> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() || value.len() > AUTHORIZATION_BYTES {
        return Err(Problem::invalid_token());
    }
    let bearer = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, bearer)| bearer.trim());
    match bearer {
        Some(bearer) => tokens.authenticate(bearer).await.map(Some),
        None => Err(Problem::unauthorized()),
    }
}

impl<S> FromRequestParts<S> for Authenticated
where
    S: Send + Sync,
    Arc<Tokens>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        caller(parts, &Arc::<Tokens>::from_ref(state))
            .await?
            .map(Self)
            .ok_or_else(Problem::unauthorized)
    }
}

impl<S> FromRequestParts<S> for MaybeAuthenticated
where
    S: Send + Sync,
    Arc<Tokens>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        caller(parts, &Arc::<Tokens>::from_ref(state))
            .await
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(credential: Credential, scopes: &[&str]) -> Caller {
        Caller {
            account: Uuid::nil(),
            credential,
            scopes: scopes.iter().map(|&s| s.to_owned()).collect(),
        }
    }

    fn holding(scopes: &[&str]) -> Caller {
        caller(Credential::ApiKey { id: Uuid::nil() }, scopes)
    }

    #[test]
    fn a_scope_is_held_by_name_or_by_wildcard() {
        assert!(holding(&["read:accounts"]).has_scope("read:accounts"));
        assert!(holding(&["read:*"]).has_scope("read:accounts"));
        assert!(!holding(&["read:*"]).has_scope("write:accounts"));
        assert!(!holding(&["read:account"]).has_scope("read:accounts"));
        assert!(!holding(&[]).has_scope("read:accounts"));
        assert!(!holding(&["read:*"]).has_exact_scope("read:personal"));
    }

    #[test]
    fn a_log_in_is_fresh_for_ten_minutes_and_an_api_key_never() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let logged_in = |authenticated_at| {
            let id = Uuid::from_u128(7);
            let credential = Credential::Session {
                id,
                authenticated_at,
                second_factor: false,
            };
            caller(credential, &[])
        };
        assert!(logged_in(at(0)).fresh(at(600)));
        assert!(!logged_in(at(0)).fresh(at(601)));
        assert!(!logged_in(DateTime::UNIX_EPOCH).fresh(at(0)));
        assert_eq!(logged_in(at(0)).session(), Some(Uuid::from_u128(7)));
        assert!(!holding(&[]).fresh(at(0)));
        assert_eq!(holding(&[]).session(), None);
    }
}
