//! What surrounds an event: before it is recorded, and as it stands in the log.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::{CommandId, EventId, Hash, InvalidId, Personal, Position, StreamId, Version};

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// An account, acting with a token.
    Account(Uuid),
    /// Somebody without a token, as when registering.
    Anonymous,
    /// Showcaller itself, for the named task.
    System(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account:{id}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::System(task) => write!(f, "system:{task}"),
        }
    }
}

impl FromStr for Actor {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once(':') {
            None if text == "anonymous" => Ok(Self::Anonymous),
            Some(("account", id)) => id
                .parse()
                .map(Self::Account)
                .map_err(|_| InvalidId(format!("the actor {text:?} names no account id"))),
            Some(("system", task)) => Ok(Self::System(task.to_owned())),
            _ => Err(InvalidId(format!("{text:?} is no actor"))),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What is known of how an event came about. Unknown fields of later versions are ignored on reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// The command that appended the event.
    #[schemars(with = "Uuid")]
    pub command_id: CommandId,
    /// The request that everything which followed from it shares.
    pub correlation_id: Uuid,
    /// What directly caused the event: the command, or another event.
    pub causation_id: Uuid,
    /// Who did it: `account:` with an id, `anonymous`, or `system:` with a task.
    #[schemars(with = "String")]
    pub actor: Actor,
    /// The session whose token was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Uuid>,
    /// The client's IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal<String>>,
    /// When the command was accepted. For people; never used to order anything.
    pub recorded_at: DateTime<Utc>,
    /// Keyed hash of the command's name and body, without passwords: tells a retry from another command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// W3C trace context of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// An event that is to be appended: everything stored of it but what its place decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Derived from the command's id ([`CommandId::event_id`]).
    pub id: EventId,
    /// Past tense, without `.`, for ever.
    pub type_name: String,
    /// The schema version of `data`, from 1.
    pub schema_version: u16,
    /// JSON, personal fields already encrypted. Stored byte for byte.
    pub data: String,
    /// JSON of [`Metadata`]. Stored byte for byte.
    pub metadata: String,
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its place in the log.
    pub position: Position,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place in the stream.
    pub version: Version,
    /// Its id.
    pub id: EventId,
    /// Its type's name.
    pub type_name: String,
    /// The schema version of `data`.
    pub schema_version: u16,
    /// The stored JSON.
    pub data: String,
    /// The stored JSON of [`Metadata`].
    pub metadata: String,
    /// Chained over the stream: see [`crate::chain`].
    pub hash: Hash,
}

impl RecordedEvent {
    /// The metadata, parsed.
    pub fn parse_metadata(&self) -> Result<Metadata, serde_json::Error> {
        serde_json::from_str(&self.metadata)
    }

    /// The hash this event must have after `previous` in its stream.
    pub fn expected_hash(&self, previous: &Hash) -> Hash {
        crate::chain(
            previous,
            self.id,
            &self.stream,
            self.version,
            &self.type_name,
            self.schema_version,
            &self.data,
            &self.metadata,
        )
    }
}
