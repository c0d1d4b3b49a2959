//! Who calls: the extractors that turn `Authorization: Bearer …` into a verified caller.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use uuid::Uuid;

use crate::{Problem, Tokens};

/// Longest `Authorization` value looked at, in bytes.
const AUTHORIZATION_BYTES: usize = 8 * 1024;

/// A caller whose access token has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: Uuid,
    /// The session of the log-in.
    pub session: Uuid,
    /// What the token allows beyond acting on one's own account.
    pub scopes: Arc<[String]>,
}

impl Caller {
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

/// A caller with a valid access token; anybody else gets 401.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Caller);

/// A caller with a valid access token, or nobody. A token that is sent but not valid still gets 401.
#[derive(Debug, Clone)]
pub struct MaybeAuthenticated(pub Option<Caller>);

fn caller(parts: &Parts, tokens: &Tokens) -> Result<Option<Caller>, Problem> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() || value.len() > AUTHORIZATION_BYTES {
        return Err(Problem::invalid_token());
    }
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match token {
        Some(token) => tokens.verify(token, tokens.now()).map(Some),
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
        caller(parts, &Arc::<Tokens>::from_ref(state))?
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
        caller(parts, &Arc::<Tokens>::from_ref(state)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(scopes: &[&str]) -> Caller {
        Caller {
            account: Uuid::nil(),
            session: Uuid::nil(),
            scopes: scopes.iter().map(|&s| s.to_owned()).collect(),
        }
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
}
