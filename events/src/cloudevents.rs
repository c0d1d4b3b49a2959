//! Events on their way to consumers: CloudEvents 1.0 in structured JSON, with Showcaller's extensions, and the relay's
//! heartbeat. Positions and versions are strings, since JSON numbers lose precision in many languages.

use std::borrow::Cow;

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

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    specversion: Cow<'a, str>,
    id: EventId,
    source: Cow<'a, str>,
    #[serde(rename = "type")]
    type_name: Cow<'a, str>,
    subject: Cow<'a, str>,
    datacontenttype: Cow<'a, str>,
    log: Uuid,
    epoch: Uuid,
    position: Cow<'a, str>,
    previous: Cow<'a, str>,
    partition: Cow<'a, str>,
    version: Cow<'a, str>,
    schemaversion: Cow<'a, str>,
    hash: Hash,
    metadata: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay: Option<Uuid>,
    #[serde(borrow)]
    data: &'a RawValue,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The log it speaks of.
    pub log: LogIdentity,
    /// The partition.
    pub partition: Partition,
    /// The position of the partition's last published event.
    pub position: Position,
    /// The partition's running digest after that event.
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
