//! Examples for the document, made as real messages are: a value that fits the schema of the data, in the envelope that the
//! relay would put around it. It refuses to be random: the same schema has the same example.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use events::{
    Actor, Ciphertext, CommandId, Digest, EventId, EventType, Hash, Heartbeat, LogIdentity,
    Message, Metadata, Partition, Position, RecordedEvent, StreamId, Version, partition_of,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// A trace context, as the W3C's recommendation shows it.
pub(super) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const LOG: Uuid = Uuid::from_u128(0x7b0e_5f3a_2c1d_4e8f_a9b6_1d2e_3f4a_5b6c);
const EPOCH: Uuid = Uuid::from_u128(0xc4d5_e6f7_0819_4a2b_bc3d_4e5f_6071_8293);
const STREAM: Uuid = Uuid::from_u128(0x3f6c_2b1e_9a47_4d0e_8f52_6b1d_0c9e_7a35);
const COMMAND: Uuid = Uuid::from_u128(0x0d8f_4e62_51b3_8c7a_9e14_2f6a_7b3c_8d90);
const KEY: Uuid = Uuid::from_u128(0x9d2c_7e10_4b6f_4c3a_8a51_0e7d_5f2b_6c18);
const PARTITIONS: u16 = 8;
const POSITION: Position = Position::new(1_042);
const PREVIOUS: Position = Position::new(1_037);
/// 2026-11-22T10:15:30Z.
const RECORDED_AT_SECONDS: i64 = 1_795_342_530;
/// What stands in place of a nonce and what it encrypts.
const CLOSED: [u8; 40] = [0x5c; 40];
/// How deep examples go: a schema may refer to itself.
const DEPTH: usize = 16;

/// An event of this type, as a consumer receives it.
pub(super) fn event(
    category: &str,
    known: &EventType,
    data: &Value,
    schemas: &BTreeMap<String, Value>,
) -> Value {
    let command = CommandId(COMMAND);
    let Ok(stream) = StreamId::parse(&format!("{category}-{STREAM}")) else {
        return Value::Null;
    };
    let maker = Maker {
        schemas,
        stream: &stream,
        event: command.event_id(0),
    };
    let metadata = Metadata {
        command_id: command,
        correlation_id: COMMAND,
        causation_id: COMMAND,
        actor: Actor::Account(STREAM),
        session: None,
        address: None,
        recorded_at: DateTime::from_timestamp(RECORDED_AT_SECONDS, 0).unwrap_or_default(),
        fingerprint: None,
        traceparent: Some(TRACEPARENT.to_owned()),
    };
    let mut event = RecordedEvent {
        position: POSITION,
        version: Version::new(1),
        id: maker.event,
        type_name: known.name.clone(),
        schema_version: known.schema_version,
        data: maker.value("", data, DEPTH).to_string(),
        metadata: json!(metadata).to_string(),
        hash: Hash::ZERO,
        stream: stream.clone(),
    };
    event.hash = event.expected_hash(&Hash::ZERO);
    let message = Message {
        log: LOG,
        epoch: EPOCH,
        partition: partition_of(&stream, PARTITIONS),
        previous: PREVIOUS,
        event,
        replay: None,
    };
    let json = message.to_json().unwrap_or_default();
    serde_json::from_slice(&json).unwrap_or_default()
}

/// A heartbeat.
pub(super) fn heartbeat() -> Value {
    json!(Heartbeat {
        log: LogIdentity {
            log: LOG,
            epoch: EPOCH,
            partitions: PARTITIONS,
        },
        partition: Partition(5),
        position: POSITION,
        digest: Digest::ZERO.then(&Hash::ZERO),
    })
}

struct Maker<'a> {
    schemas: &'a BTreeMap<String, Value>,
    stream: &'a StreamId,
    event: EventId,
}

impl Maker<'_> {
    /// A value that fits the schema, at this path of the data.
    fn value(&self, path: &str, schema: &Value, depth: usize) -> Value {
        let Some(depth) = depth.checked_sub(1) else {
            return Value::Null;
        };
        if let Some(first) = schema["examples"].get(0).or_else(|| schema["enum"].get(0)) {
            return first.clone();
        }
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(name) = schema["$ref"]
            .as_str()
            .and_then(|target| target.rsplit('/').next())
        {
            let schema = self.schemas.get(name).unwrap_or(&Value::Null);
            return self.value(path, schema, depth);
        }
        let choices = ["allOf", "anyOf", "oneOf"]
            .into_iter()
            .find_map(|key| schema[key].get(0));
        if let Some(first) = choices {
            return self.value(path, first, depth);
        }
        match schema["type"].as_str().or(schema["type"][0].as_str()) {
            Some("object") => self.object(path, schema, depth),
            Some("array") => json!([self.value(path, &schema["items"], depth)]),
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
            Some("boolean") => json!(true),
            Some("string") => self.text(path, schema),
            _ => Value::Null,
        }
    }

    /// Every field, those that may be absent too.
    fn object(&self, path: &str, schema: &Value, depth: usize) -> Value {
        let fields = schema["properties"].as_object().into_iter().flatten();
        let made = fields.map(|(name, schema)| {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            (name.clone(), self.value(&path, schema, depth))
        });
        Value::Object(made.collect())
    }

    fn text(&self, path: &str, schema: &Value) -> Value {
        let personal = schema["pattern"]
            .as_str()
            .is_some_and(|pattern| pattern.starts_with("^enc1"));
        match schema["format"].as_str() {
            _ if personal => {
                let stream = URL_SAFE_NO_PAD.encode(self.stream.as_str());
                let context = Ciphertext::context(KEY, &stream, self.event, path);
                json!(Ciphertext::from_parts(&context, &URL_SAFE_NO_PAD.encode(CLOSED)).as_str())
            }
            Some("uuid") => json!(STREAM),
            Some("date-time") => json!("2026-12-22T10:15:30Z"),
            Some("date") => json!("2026-12-22"),
            _ => json!("…"),
        }
    }
}
