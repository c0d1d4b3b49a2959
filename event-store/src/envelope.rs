//! What EventStoreDB has no field for, carried in an event's user metadata: under one key, beside whatever else stands
//! there. Both ends of the wire use this: the adapter, and the log served over EventStoreDB's protocol. It refuses to
//! guess: user metadata without the key, or with something else under it, carries no envelope.

use std::borrow::Cow;
use std::collections::BTreeMap;

use events::{CommandId, EventId, Hash};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

/// The key of a log that has its server to itself. Clients may use every other.
pub const KEY: &str = "showcaller";

/// The keys by which EventStoreDB's own tools follow events.
pub const CORRELATION: &str = "$correlationId";
/// The same for what directly caused an event.
pub const CAUSATION: &str = "$causationId";

/// What travels with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The event's id. EventStoreDB has it under another, so that what it takes for the same event has the same content
    /// ([`Envelope::stored_id`]).
    pub id: EventId,
    /// The schema version of the data.
    pub schema_version: u16,
    /// The hash the event has in its stream.
    pub hash: Hash,
    /// The command that appends the event. A server that has read the event back may not know it.
    pub command_id: Option<CommandId>,
    /// The stored JSON of [`events::Metadata`], byte for byte; without spaces around it.
    pub metadata: String,
}

#[derive(Serialize, Deserialize)]
struct Carried<M> {
    id: EventId,
    schema_version: u16,
    hash: Hash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command_id: Option<CommandId>,
    metadata: M,
}

/// What the metadata has for other eyes. Fields of another form than expected are left out.
#[derive(Default, Deserialize)]
struct Shown {
    /// What a client of the served log wrote as its own user metadata.
    client: Option<BTreeMap<String, Box<RawValue>>>,
    correlation_id: Option<Box<RawValue>>,
    causation_id: Option<Box<RawValue>>,
}

impl Envelope {
    /// The id the event has in EventStoreDB: derived from its hash, hence from its content and its place. EventStoreDB
    /// takes an append of the same ids in the same place for the same append, whatever it holds.
    pub fn stored_id(&self) -> Uuid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.hash.as_bytes()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// As user metadata: a JSON object with the envelope under `key`, the correlations where EventStoreDB's tools look
    /// for them, and what a client of the served log wrote. An error says that the metadata is not JSON, or has spaces
    /// around it, which would be lost.
    pub fn to_user_metadata(&self, key: &str) -> Result<Vec<u8>, String> {
        let metadata: &RawValue = serde_json::from_str(&self.metadata)
            .map_err(|error| format!("its metadata is not JSON: {error}"))?;
        if metadata.get().len() != self.metadata.len() {
            return Err("its metadata has spaces around it".into());
        }
        let shown: Shown = serde_json::from_str(&self.metadata).unwrap_or_default();
        let mut others = shown.client.unwrap_or_default();
        for (key, value) in [
            (CORRELATION, shown.correlation_id),
            (CAUSATION, shown.causation_id),
        ] {
            if let Some(value) = value {
                others.entry(key.to_owned()).or_insert(value);
            }
        }
        let carried = Carried {
            id: self.id,
            schema_version: self.schema_version,
            hash: self.hash,
            command_id: self.command_id,
            metadata,
        };
        let written = to_raw_value(&carried).and_then(|carried| {
            // A client's own value under the key would be taken for an envelope.
            others.insert(key.to_owned(), carried);
            serde_json::to_vec(&others)
        });
        written.map_err(|error| format!("its metadata: {error}"))
    }

    /// From user metadata; `None` if it carries no envelope under this key.
    pub fn from_user_metadata(bytes: &[u8], key: &str) -> Option<Self> {
        let read: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(bytes).ok()?;
        let Carried {
            id,
            schema_version,
            hash,
            command_id,
            metadata,
        } = serde_json::from_str::<Carried<&RawValue>>(read.get(key)?.get()).ok()?;
        Some(Self {
            id,
            schema_version,
            hash,
            command_id,
            metadata: metadata.get().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn envelope(metadata: &str) -> Envelope {
        Envelope {
            id: EventId(Uuid::from_u128(4)),
            schema_version: 3,
            hash: Hash::from_bytes(&[7; 32]).unwrap(),
            command_id: Some(CommandId(Uuid::from_u128(9))),
            metadata: metadata.into(),
        }
    }

    #[test]
    fn metadata_travels_byte_for_byte() {
        for metadata in [
            "{}",
            "{\"b\": 1.10,\t\"a\":\"\\u00fc ü 🎭\", \"n\":9007199254740993}",
            "null",
            "{\"showcaller\":1,\"client\":[]}",
        ] {
            let there = envelope(metadata).to_user_metadata(KEY).unwrap();
            let back = Envelope::from_user_metadata(&there, KEY).unwrap();
            assert_eq!(back, envelope(metadata), "{metadata}");
            assert_eq!(Envelope::from_user_metadata(&there, "another"), None);
        }
        assert!(envelope(" {} ").to_user_metadata(KEY).is_err());
        assert!(envelope("{").to_user_metadata(KEY).is_err());
    }

    #[test]
    fn correlations_and_a_clients_own_keys_stand_beside_the_envelope() {
        let metadata = json!({
            "correlation_id": "c", "causation_id": "d",
            "client": {"$causationId": "theirs", "tenant": 5, "showcaller": "no"},
        });
        let there = envelope(&metadata.to_string())
            .to_user_metadata(KEY)
            .unwrap();
        let seen: Value = serde_json::from_slice(&there).unwrap();
        assert_eq!(
            (
                &seen["$correlationId"],
                &seen["$causationId"],
                &seen["tenant"]
            ),
            (&json!("c"), &json!("theirs"), &json!(5))
        );
        assert_eq!(seen["showcaller"]["metadata"], metadata);
    }

    #[test]
    fn anything_else_carries_no_envelope() {
        for other in [
            "",
            "{}",
            "[]",
            "not json",
            "{\"showcaller\":{}}",
            "{\"showcaller\":7}",
        ] {
            assert_eq!(
                Envelope::from_user_metadata(other.as_bytes(), KEY),
                None,
                "{other}"
            );
        }
    }
}
