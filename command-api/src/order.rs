//! A command on its way to a decider, and what became of it.

use chrono::{DateTime, Utc};
use event_store::Appended;
use events::{Actor, CommandId, StreamId, Version};
use uuid::Uuid;

use crate::Aggregate;

/// Where a command comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who gives it.
    pub actor: Actor,
    /// The session of the token.
    pub session: Option<Uuid>,
    /// The client's address.
    pub address: Option<String>,
    /// When it was accepted.
    pub now: DateTime<Utc>,
    /// The request it belongs to.
    pub correlation_id: Uuid,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// A command on its way to a decider.
pub struct Order<'a, A: Aggregate> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The person whose data key encrypts what is personal in the events.
    pub person: Option<Uuid>,
    /// The command.
    pub command: &'a A::Command,
    /// Its id; `retryable` says that the client chose it and may send it again.
    pub command_id: CommandId,
    /// The client gave an Idempotency-Key.
    pub retryable: bool,
    /// What tells this command from another under the same id: its name and body, without passwords.
    pub content: &'a [u8],
    /// The version the client has seen.
    pub if_match: Option<Version>,
    /// Where it comes from.
    pub origin: &'a Origin,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The stream.
    pub stream: StreamId,
    /// Its version after the command.
    pub version: Version,
    /// Where the command's last event stands; `None` when there was nothing to do.
    pub appended: Option<Appended>,
    /// The types of its events, in order.
    pub event_types: Vec<String>,
}
