//! The events of a session: one log-in on one device, until it ends.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DomainEvent, EventTypes, Personal};

/// The category of session streams: `session-{id}`.
pub const CATEGORY: &str = "session";

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// Somebody logged in.
    SessionStarted {
        /// Whose session it is.
        account_id: Uuid,
        /// When it ends by itself, however much it is used.
        expires_at: DateTime<Utc>,
        /// The log-in took a second factor.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        second_factor: bool,
        /// What the client calls itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<Personal<String>>,
    },
    /// The session ended before its time.
    SessionEnded {
        /// Whose session it was.
        account_id: Uuid,
        /// Why.
        reason: EndReason,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The account was closed.
    AccountClosed,
    /// A refresh token was used again after its successor was.
    RefreshTokenReused,
    /// Somebody who may ended it: the owner, or an operator.
    Ended,
    /// The password changed.
    PasswordChanged,
    /// The second factor was switched on or off.
    SecondFactorChanged,
    /// The account may do less than before.
    RoleRevoked,
    /// The person was erased.
    AccountErased,
}

impl DomainEvent for Event {
    fn described() -> Option<EventTypes> {
        Some(EventTypes::of::<Self>())
    }
}
