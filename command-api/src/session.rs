//! The rules of a session: it starts once and ends once. Logging in starts it; its owner, a refresh token that comes twice
//! and what happens to the account end it.

use chrono::{DateTime, Utc};
use events::Personal;
use events::session::{CATEGORY, EndReason, Event};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Aggregate, Decider, Form};

/// What the rules need to know of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Session {
    /// Whose it is; `None` before it started.
    pub account_id: Option<Uuid>,
    ended: bool,
}

/// What may be asked of a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begins it.
    Start {
        /// Whose it is.
        account_id: Uuid,
        /// When it ends by itself.
        expires_at: DateTime<Utc>,
        /// The log-in took a second factor.
        second_factor: bool,
        /// What the client calls itself.
        device: Option<Personal<String>>,
    },
    /// Ends it before its time.
    End {
        /// Whose it is.
        account_id: Uuid,
        /// Why.
        reason: EndReason,
    },
}

/// Why a session says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was started before.
    #[error("the session was started before")]
    AlreadyStarted,
}

impl Decider for Session {
    const CATEGORY: &'static str = CATEGORY;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match command {
            Command::Start { .. } if self.account_id.is_some() => Err(Refusal::AlreadyStarted),
            Command::Start {
                account_id,
                expires_at,
                second_factor,
                device,
            } => Ok(vec![Event::SessionStarted {
                account_id: *account_id,
                expires_at: *expires_at,
                second_factor: *second_factor,
                device: device.clone(),
            }]),
            Command::End { account_id, reason } if self.account_id.is_some() && !self.ended => {
                Ok(vec![Event::SessionEnded {
                    account_id: *account_id,
                    reason: *reason,
                }])
            }
            Command::End { .. } => Ok(vec![]),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::SessionStarted { account_id, .. } => self.account_id = Some(*account_id),
            Event::SessionEnded { .. } => self.ended = true,
        }
        self
    }
}

impl Aggregate for Session {
    fn shown(&self) -> Value {
        json!({ "account_id": self.account_id, "ended": self.ended })
    }

    const COLLECTION: &'static str = "sessions";
    const COMMANDS: &'static [&'static str] = &["end"];

    fn parse(_name: &str, _form: &mut Form) -> Option<Command> {
        None
    }

    fn code(_refusal: &Refusal) -> &'static str {
        "session_already_started"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::given;

    const WHO: Uuid = Uuid::from_u128(1);

    fn started() -> Event {
        Event::SessionStarted {
            account_id: WHO,
            expires_at: DateTime::UNIX_EPOCH,
            second_factor: true,
            device: None,
        }
    }

    fn end() -> Command {
        Command::End {
            account_id: WHO,
            reason: EndReason::AccountClosed,
        }
    }

    #[test]
    fn a_session_starts_once() {
        let start = || Command::Start {
            account_id: WHO,
            expires_at: DateTime::UNIX_EPOCH,
            second_factor: true,
            device: None,
        };
        given::<Session>([]).when(start()).then([started()]);
        given::<Session>([started()])
            .when(start())
            .then_refused(Refusal::AlreadyStarted);
    }

    #[test]
    fn a_session_ends_once_and_only_after_it_started() {
        let ended = || Event::SessionEnded {
            account_id: WHO,
            reason: EndReason::AccountClosed,
        };
        given::<Session>([started()]).when(end()).then([ended()]);
        given::<Session>([started(), ended()]).when(end()).then([]);
        given::<Session>([]).when(end()).then([]);
    }
}
