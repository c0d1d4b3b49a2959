//! Events on their way to consumers: CloudEvents 1.0 in structured JSON, with Showcaller's extensions, and the relay's
//! heartbeat. Positions and versions are strings, since JSON numbers lose precision in many languages.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    Digest, EventId, Hash, LogIdentity, Partition, Position, RecordedEvent, StreamId, Version,
};

/// Why bytes from a queue are not a message of ours.
#[derive(Debug, thiserror::Error)]
#[error("not a message of Showcaller: {0}")]
pub struct MessageError(String);

/// An event as a consumer receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The log it comes from, without its partition count.
    pub log: Uuid,
    /// That log's epoch.
    pub epoch: Uuid,
    /// The partition of its stream.
    pub partition: Partition,
    /// The position of the event before it in its partition.
    pub previous: Position,
    /// The event.
    pub event: RecordedEvent,
    /// The replay that sends it again, if one does: no news, so no side effect may come of it, and no read model either.
    pub replay: Option<Uuid>,
}

/// The form of numbers: JSON's own lose digits above 2⁵³ in many languages.
const DIGITS: &str = "^[0-9]+$";
/// The form of hashes and digests.
const HEX: &str = "^[0-9a-f]{64}$";

#[derive(Serialize, Deserialize, JsonSchema)]
struct Wire<'a> {
    /// The version of CloudEvents.
    #[schemars(with = "String", extend("const" = "1.0"))]
    specversion: Cow<'a, str>,
    /// The event's id: the same in every repetition.
    #[schemars(with = "Uuid")]
    id: EventId,
    /// `/showcaller/` and the log's id.
    #[schemars(with = "String", regex(pattern = "^/showcaller/[0-9a-f-]{36}$"))]
    source: Cow<'a, str>,
    /// What happened.
    #[serde(rename = "type")]
    type_name: Cow<'a, str>,
    /// The stream: its category, `-`, and an id.
    subject: Cow<'a, str>,
    /// The media type of `data`.
    #[schemars(with = "String", extend("const" = "application/json"))]
    datacontenttype: Cow<'a, str>,
    /// The id of the log that the event stands in.
    log: Uuid,
    /// Which of the log's lives: restore and import draw a new one, and positions of another say nothing of this one.
    epoch: Uuid,
    /// The event's place in the whole log.
    #[schemars(with = "String", regex(pattern = DIGITS))]
    position: Cow<'a, str>,
    /// The position of the event before it in its partition; `0` at the first.
    #[schemars(with = "String", regex(pattern = DIGITS))]
    previous: Cow<'a, str>,
    /// The partition of its stream.
    #[schemars(with = "String", regex(pattern = DIGITS))]
    partition: Cow<'a, str>,
    /// The event's place in its stream, from 1.
    #[schemars(with = "String", regex(pattern = DIGITS))]
    version: Cow<'a, str>,
    /// The version of the form of `data`.
    #[schemars(with = "String", regex(pattern = DIGITS))]
    schemaversion: Cow<'a, str>,
    /// SHA-256, chained over the stream.
    #[schemars(with = "String", regex(pattern = HEX))]
    hash: Hash,
    /// Who caused the event and when: the JSON text that was stored, an object of the form `Metadata`.
    #[schemars(with = "String", extend("contentMediaType" = "application/json"))]
    metadata: Cow<'a, str>,
    /// The replay that sends it again, if an operator's does: no news, so no side effect may come of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay: Option<Uuid>,
    /// The event, as it was stored.
    #[serde(borrow)]
    #[schemars(with = "serde_json::Value")]
    data: &'a RawValue,
}

/// Of the JSON that it becomes.
impl JsonSchema for Message {
    fn schema_name() -> Cow<'static, str> {
        "CloudEvent".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Wire::json_schema(generator)
    }
}

impl Message {
    /// The topic it is published under: `{partition}.{category}.{type}`.
    pub fn routing_key(&self) -> String {
        format!(
            "{}.{}.{}",
            self.partition,
            self.event.stream.category(),
            self.event.type_name
        )
    }

    /// The JSON of the CloudEvent.
    pub fn to_json(&self) -> Result<Vec<u8>, MessageError> {
        let fail = |e: serde_json::Error| MessageError(e.to_string());
        let data: &RawValue = serde_json::from_str(&self.event.data).map_err(fail)?;
        serde_json::to_vec(&Wire {
            specversion: "1.0".into(),
            id: self.event.id,
            source: format!("/showcaller/{}", self.log).into(),
            type_name: self.event.type_name.as_str().into(),
            subject: self.event.stream.as_str().into(),
            datacontenttype: "application/json".into(),
            log: self.log,
            epoch: self.epoch,
            position: self.event.position.to_string().into(),
            previous: self.previous.to_string().into(),
            partition: self.partition.to_string().into(),
            version: self.event.version.to_string().into(),
            schemaversion: self.event.schema_version.to_string().into(),
            hash: self.event.hash,
            metadata: self.event.metadata.as_str().into(),
            replay: self.replay,
            data,
        })
        .map_err(fail)
    }

    /// Reads the JSON of a CloudEvent.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MessageError> {
        let wire: Wire<'_> =
            serde_json::from_slice(bytes).map_err(|e| MessageError(e.to_string()))?;
        let number = |name: &str, text: &str| {
            text.parse::<u64>()
                .map_err(|_| MessageError(format!("{name} is {text:?}, not a number")))
        };
        Ok(Self {
            log: wire.log,
            epoch: wire.epoch,
            partition: Partition(number("partition", &wire.partition)? as u16),
            previous: Position::new(number("previous", &wire.previous)?),
            replay: wire.replay,
            event: RecordedEvent {
                position: Position::new(number("position", &wire.position)?),
                stream: StreamId::parse(&wire.subject).map_err(|e| MessageError(e.to_string()))?,
                version: Version::new(number("version", &wire.version)?),
                id: wire.id,
                type_name: wire.type_name.into_owned(),
                schema_version: number("schemaversion", &wire.schemaversion)? as u16,
                data: wire.data.get().to_owned(),
                metadata: wire.metadata.into_owned(),
                hash: wire.hash,
            },
        })
    }
}

/// What the relay says of a partition when there is nothing new: a lost last message is noticed by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The log it speaks of.
    pub log: LogIdentity,
    /// The partition.
    #[schemars(with = "u16")]
    pub partition: Partition,
    /// The position of the partition's last published event.
    #[schemars(with = "u64")]
    pub position: Position,
    /// The partition's running digest after that event.
    #[schemars(with = "String", regex(pattern = HEX))]
    pub digest: Digest,
}

impl Heartbeat {
    /// The topic it is published under: `{partition}.heartbeat`, which no `*.category.*` binding matches.
    pub fn routing_key(&self) -> String {
        format!("{}.heartbeat", self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_there_and_back_byte_for_byte() {
        let message = Message {
            log: Uuid::from_u128(1),
            epoch: Uuid::from_u128(2),
            partition: Partition(3),
            previous: Position::new(u64::MAX >> 1),
            event: RecordedEvent {
                position: Position::new(9_007_199_254_740_993),
                stream: StreamId::parse("account-ü\"'").unwrap(),
                version: Version::new(4),
                id: EventId(Uuid::from_u128(5)),
                type_name: "AccountRegistered".into(),
                schema_version: 1,
                data: r#"{"b": 1.10, "a":"\u00fc"}"#.into(),
                metadata: r#"{"x":"\"y\""}"#.into(),
                hash: Hash::ZERO,
            },
            replay: None,
        };
        let json = message.to_json().unwrap();
        assert_eq!(Message::from_json(&json).unwrap(), message);
        assert!(!String::from_utf8(json).unwrap().contains("replay"));
        let again = Message {
            replay: Some(Uuid::from_u128(6)),
            ..message.clone()
        };
        assert_eq!(
            Message::from_json(&again.to_json().unwrap()).unwrap(),
            again
        );
        assert_eq!(message.routing_key(), "3.account.AccountRegistered");
    }
}
