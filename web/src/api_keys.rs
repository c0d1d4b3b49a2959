//! API keys in the place of access tokens. It refuses to hold a key's text, and to believe an answer for longer than a
//! second.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::brief::Brief;
use crate::tokens::{Sha256, sha256};
use crate::{Caller, Credential, Problem};

/// What tells an API key from an access token.
pub(crate) const PREFIX: &str = "sck_";
/// Longest key looked at, in bytes.
const KEY_BYTES: usize = 256;

/// For whom an API key speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyCaller {
    /// The key's id.
    pub id: Uuid,
    /// The account.
    pub account: Uuid,
    /// What it allows beyond acting on the account.
    pub scopes: Vec<String>,
}

/// Where API keys are looked up.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Whom the key that reads `text` speaks for. `None` for one that is unknown, expired or revoked.
    async fn find(&self, text: &str, now: DateTime<Utc>) -> Result<Option<ApiKeyCaller>, Problem>;
}

/// Lets callers in by their keys.
pub(crate) struct ApiKeyDoor {
    keys: Arc<dyn ApiKeys>,
    found: Brief<Sha256, Option<Caller>, Problem>,
}

impl ApiKeyDoor {
    pub(crate) fn new(keys: Arc<dyn ApiKeys>) -> Self {
        Self {
            keys,
            found: Brief::new(),
        }
    }

    pub(crate) async fn caller(&self, text: &str, now: DateTime<Utc>) -> Result<Caller, Problem> {
        if text.len() > KEY_BYTES {
            return Err(Problem::invalid_token());
        }
        let look_up = || {
            let (keys, text) = (Arc::clone(&self.keys), text.to_owned());
            async move { Ok(keys.find(&text, now).await?.map(Caller::from)) }
        };
        self.found
            .get(sha256(text), look_up)
            .await
            .map_err(|problem: Arc<Problem>| (*problem).clone())?
            .ok_or_else(Problem::invalid_token)
    }
}

impl From<ApiKeyCaller> for Caller {
    fn from(key: ApiKeyCaller) -> Self {
        Self {
            account: key.account,
            credential: Credential::ApiKey { id: key.id },
            scopes: key.scopes.into(),
        }
    }
}

#[cfg(test)]
#[path = "api_keys_tests.rs"]
mod tests;
