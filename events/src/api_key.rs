//! The events of an API key: what a program acts with in place of a person.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DomainEvent, EventTypes, Personal};

/// The category of API key streams: `apikey-{id}`.
pub const CATEGORY: &str = "apikey";

/// What happens to an API key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// Somebody made it.
    ApiKeyCreated {
        /// Whose account it acts for.
        account_id: Uuid,
        /// What its owner calls it.
        name: Personal<String>,
        /// What it allows.
        #[schemars(extend("examples" = [["log:read"]]))]
        scopes: Vec<String>,
        /// When it ends by itself.
        expires_at: DateTime<Utc>,
    },
    /// It is worth nothing any more.
    ApiKeyRevoked {
        /// Whose account it acted for.
        account_id: Uuid,
        /// Why.
        reason: RevokeReason,
    },
}

/// Why an API key was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevokeReason {
    /// Somebody who may revoked it: the owner, or an operator.
    Revoked,
    /// Its owner may do less than it allowed.
    RoleRevoked,
    /// The account was closed.
    AccountClosed,
    /// The person was erased.
    AccountErased,
}

impl DomainEvent for Event {
    fn described() -> Option<EventTypes> {
        Some(EventTypes::of::<Self>())
    }
}
