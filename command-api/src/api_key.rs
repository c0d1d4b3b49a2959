//! The rules of an API key: it is created once and revoked once. Its secret and its expiry are the vault's.

use chrono::{DateTime, Utc};
use events::Personal;
use events::api_key::{CATEGORY, Event, RevokeReason};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Aggregate, Decider, Form};

/// What the rules need to know of an API key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApiKey {
    /// Whose it is; `None` before it was created.
    pub account_id: Option<Uuid>,
    revoked: bool,
}

/// What may be asked of an API key.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begins it.
    Create {
        /// Whose it is.
        account_id: Uuid,
        /// What its owner calls it.
        name: Personal<String>,
        /// What it allows.
        scopes: Vec<String>,
        /// When it ends by itself.
        expires_at: DateTime<Utc>,
    },
    /// Ends it.
    Revoke {
        /// Why.
        reason: RevokeReason,
    },
}

/// Why an API key says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error("there is no such API key")]
    Unknown,
    /// It was created before.
    #[error("the API key was created before")]
    AlreadyCreated,
}

impl Decider for ApiKey {
    const CATEGORY: &'static str = CATEGORY;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match (self.account_id, command) {
            (Some(_), Command::Create { .. }) => Err(Refusal::AlreadyCreated),
            (
                None,
                Command::Create {
                    account_id,
                    name,
                    scopes,
                    expires_at,
                },
            ) => Ok(vec![Event::ApiKeyCreated {
                account_id: *account_id,
                name: name.clone(),
                scopes: scopes.clone(),
                expires_at: *expires_at,
            }]),
            (None, Command::Revoke { .. }) => Err(Refusal::Unknown),
            (Some(_), Command::Revoke { .. }) if self.revoked => Ok(vec![]),
            (Some(account_id), Command::Revoke { reason }) => Ok(vec![Event::ApiKeyRevoked {
                account_id,
                reason: *reason,
            }]),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::ApiKeyCreated { account_id, .. } => self.account_id = Some(*account_id),
            Event::ApiKeyRevoked { .. } => self.revoked = true,
        }
        self
    }
}

impl Aggregate for ApiKey {
    fn shown(&self) -> Value {
        json!({ "account_id": self.account_id, "revoked": self.revoked })
    }

    const COLLECTION: &'static str = "api-keys";
    const COMMANDS: &'static [&'static str] = &["revoke"];

    fn parse(_name: &str, _form: &mut Form) -> Option<Command> {
        None
    }

    fn code(refusal: &Refusal) -> &'static str {
        match refusal {
            Refusal::Unknown => "api_key_unknown",
            Refusal::AlreadyCreated => "api_key_already_created",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;

    const WHO: Uuid = Uuid::from_u128(1);

    fn create() -> Command {
        Command::Create {
            account_id: WHO,
            name: Personal::Plain("nightly import".into()),
            scopes: vec!["self:read".into()],
            expires_at: DateTime::UNIX_EPOCH,
        }
    }

    fn created() -> Event {
        Event::ApiKeyCreated {
            account_id: WHO,
            name: Personal::Plain("nightly import".into()),
            scopes: vec!["self:read".into()],
            expires_at: DateTime::UNIX_EPOCH,
        }
    }

    fn revoke() -> Command {
        Command::Revoke {
            reason: RevokeReason::Revoked,
        }
    }

    #[test]
    fn a_key_is_created_once() {
        given::<ApiKey>([]).when(create()).then([created()]);
        given::<ApiKey>([created()])
            .when(create())
            .then_refused(Refusal::AlreadyCreated);
    }

    #[test]
    fn a_key_is_revoked_once_and_only_after_it_was_created() {
        let revoked = || Event::ApiKeyRevoked {
            account_id: WHO,
            reason: RevokeReason::Revoked,
        };
        given::<ApiKey>([created()])
            .when(revoke())
            .then([revoked()]);
        given::<ApiKey>([created(), revoked()])
            .when(revoke())
            .then([]);
        given::<ApiKey>([])
            .when(revoke())
            .then_refused(Refusal::Unknown);
    }
}
