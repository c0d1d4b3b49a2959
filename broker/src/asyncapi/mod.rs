//! What goes over RabbitMQ, as an AsyncAPI 3.0 document: one channel a category, one for heartbeats, one for whatever else is
//! in the log; one message an event type. Made from the types that are stored and from the constants that are declared.
//! It refuses to open anything: a document needs no log and no broker.

mod example;

use std::collections::BTreeMap;

use events::{DomainEvent, EventType, EventTypes, envelope_schemas};
use serde_json::{Map, Value, json};

use crate::port::{EVENT_MEDIA_TYPE, HEARTBEAT_MEDIA_TYPE, TRACEPARENT};
use crate::rabbitmq::{EXCHANGE, RabbitMqOptions};

const BINDING_VERSION: &str = "0.3.0";
/// AMQP's delivery mode for messages that a queue writes to disk.
const PERSISTENT: u8 = 2;
/// The key of the channel for categories that nobody described, and of its message.
const OTHERS: &str = "other-categories";
/// Neither key can be a category: those hold no `-`.
const HEARTBEATS: &str = "partition-heartbeats";

/// A category of streams whose events are published.
#[derive(Debug, Clone)]
pub struct Category {
    /// Its name.
    pub name: &'static str,
    types: Option<EventTypes>,
}

impl Category {
    /// The category of these events, with what they say of themselves.
    pub fn of<E: DomainEvent>(name: &'static str) -> Self {
        Self {
            name,
            types: E::described(),
        }
    }
}

/// The AsyncAPI document of an application that goes by this title, in this version, and publishes these categories.
pub fn document(title: &str, version: &str, categories: &[Category]) -> Value {
    let mut parts = Parts {
        schemas: envelope_schemas(),
        ..Parts::default()
    };
    for category in categories {
        match &category.types {
            Some(described) => parts.described(category.name, described),
            None => parts.free(category.name, category.name),
        }
    }
    parts.free(OTHERS, "{category}");
    parts.heartbeats();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": format!("{title}: messages"),
            "version": version,
            "description": "Every event of the log, and heartbeats. The queue is a hint: what it loses, repeats or delays is \
                in the log, and every message says enough to notice. Compare `previous` with the position that you have, by \
                partition; where they differ, or where a heartbeat is ahead of you, read the log.",
        },
        "defaultContentType": EVENT_MEDIA_TYPE,
        "servers": { "rabbitmq": {
            "host": "{host}",
            "pathname": "/{vhost}",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "description": "RabbitMQ 3.10 or later. Its operator knows where it is, and who may consume.",
            "variables": {
                "host": { "default": "localhost:5672" },
                "vhost": { "default": "%2f", "description": "One of its own for each Showcaller." },
            },
        } },
        "channels": parts.channels,
        "operations": parts.operations,
        "components": { "messages": parts.messages, "schemas": parts.schemas },
    })
}

/// The document, as it grows.
#[derive(Default)]
struct Parts {
    channels: BTreeMap<String, Value>,
    operations: BTreeMap<String, Value>,
    messages: BTreeMap<String, Value>,
    schemas: BTreeMap<String, Value>,
}

impl Parts {
    /// A category that says what its events are.
    fn described(&mut self, category: &str, described: &EventTypes) {
        for (name, schema) in &described.schemas {
            let schema = apart(category, described, schema.clone());
            self.schemas.insert(format!("{category}.{name}"), schema);
        }
        let mut names = Vec::new();
        for known in &described.types {
            let name = format!("{category}.{}", known.name);
            let message = self.typed_message(category, described, known);
            self.messages.insert(name.clone(), message);
            names.push(name);
        }
        let types: Vec<&str> = described
            .types
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        let parameters = json!({
            "partition": partition(),
            "type": { "description": "The event's type.", "enum": types },
        });
        let address = format!("{{partition}}.{category}.{{type}}");
        let meaning = format!("The events of {category} streams.");
        self.channel(category, &address, &meaning, &parameters, &names);
    }

    /// One whose data are anybody's.
    fn free(&mut self, key: &str, category: &str) {
        let mut parameters = json!({
            "partition": partition(),
            "type": { "description": "The event's type." },
        });
        let mut schema = reference("schemas", "CloudEvent");
        let meaning = if key == OTHERS {
            parameters["category"] =
                json!({ "description": "What stands before the stream's first `-`." });
            "Events of every category, described here or not: clients of the served log bring their own.".to_owned()
        } else {
            schema =
                json!({ "allOf": [schema, { "properties": { "subject": subject(category) } }] });
            format!("The events of {category} streams. Their types do not describe themselves.")
        };
        let message = json!({
            "name": key,
            "title": key,
            "summary": meaning,
            "contentType": EVENT_MEDIA_TYPE,
            "headers": headers(),
            "payload": schema,
        });
        self.messages.insert(key.to_owned(), message);
        let address = format!("{{partition}}.{category}.{{type}}");
        self.channel(key, &address, &meaning, &parameters, &[key.to_owned()]);
    }

    fn heartbeats(&mut self) {
        let meaning = "A partition's last position and the digest up to there: twice a second while nothing happens, every two \
                       seconds otherwise. What it is ahead of you by was lost, or is late.";
        let message = json!({
            "name": "Heartbeat",
            "title": "Heartbeat",
            "summary": "How far a partition goes.",
            "contentType": HEARTBEAT_MEDIA_TYPE,
            "payload": reference("schemas", "Heartbeat"),
            "examples": [{ "name": "Heartbeat", "payload": example::heartbeat() }],
        });
        self.messages.insert("heartbeat".into(), message);
        let parameters = json!({ "partition": partition() });
        let names = ["heartbeat".to_owned()];
        self.channel(
            HEARTBEATS,
            "{partition}.heartbeat",
            meaning,
            &parameters,
            &names,
        );
    }

    fn typed_message(&self, category: &str, described: &EventTypes, known: &EventType) -> Value {
        let data = apart(category, described, known.data.clone());
        let payload = example::event(category, known, &data, &self.schemas);
        let own = json!({ "properties": {
            "type": { "const": known.name },
            "subject": subject(category),
            "schemaversion": { "const": known.schema_version.to_string() },
            "data": data,
        } });
        json!({
            "name": known.name,
            "title": known.name,
            "summary": known.meaning,
            "contentType": EVENT_MEDIA_TYPE,
            "headers": headers(),
            "payload": { "allOf": [reference("schemas", "CloudEvent"), own] },
            "examples": [{
                "name": known.name,
                "headers": { TRACEPARENT: example::TRACEPARENT },
                "payload": payload,
            }],
        })
    }

    fn channel(
        &mut self,
        key: &str,
        address: &str,
        meaning: &str,
        parameters: &Value,
        messages: &[String],
    ) {
        let listed: Map<String, Value> = messages
            .iter()
            .map(|name| (name.clone(), reference("messages", name)))
            .collect();
        let channel = json!({
            "address": address,
            "title": key,
            "description": meaning,
            "servers": [{ "$ref": "#/servers/rabbitmq" }],
            "parameters": parameters,
            "messages": listed,
            "bindings": { "amqp": {
                "is": "routingKey",
                "exchange": { "name": EXCHANGE, "type": "topic", "durable": true, "autoDelete": false },
                "x-queue": queue(),
                "bindingVersion": BINDING_VERSION,
            } },
        });
        self.channels.insert(key.to_owned(), channel);
        let operation = json!({
            "action": "send",
            "channel": { "$ref": format!("#/channels/{key}") },
            "summary": "Published at least once, in the log's order within a partition.",
            "bindings": { "amqp": { "deliveryMode": PERSISTENT, "bindingVersion": BINDING_VERSION } },
        });
        self.operations.insert(format!("send.{key}"), operation);
    }
}

/// What a consumer declares: AsyncAPI's binding has no place for a queue's arguments.
fn queue() -> Value {
    let bounds = RabbitMqOptions::default();
    json!({
        "durable": true,
        "arguments": {
            "x-queue-type": "quorum",
            "x-single-active-consumer": true,
            "x-overflow": "drop-head",
            "x-max-length": bounds.max_length,
            "x-max-length-bytes": bounds.max_length_bytes,
        },
    })
}

fn partition() -> Value {
    json!({
        "description": "The first 8 bytes of the SHA-256 of the stream's name, as a big-endian number, modulo the log's number of \
            partitions, which heartbeats carry.",
        "examples": ["5"],
    })
}

fn subject(category: &str) -> Value {
    json!({ "pattern": format!("^{category}-.") })
}

fn headers() -> Value {
    json!({ "type": "object", "properties": { TRACEPARENT: {
        "type": "string",
        "description": "W3C trace context of the request that caused the event, where it had one.",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    } } })
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// Lets a category's schemas be named by it, since another may use the same names.
fn apart(category: &str, described: &EventTypes, mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                let name = value.as_str().and_then(|target| target.rsplit('/').next());
                *value = match name {
                    Some(name) if key == "$ref" && described.schemas.contains_key(name) => {
                        json!(format!("#/components/schemas/{category}.{name}"))
                    }
                    _ => apart(category, described, value.take()),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = apart(category, described, item.take());
            }
        }
        _ => {}
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use events::{Heartbeat, Message, account, api_key, session};

    use super::*;

    fn built_in() -> Vec<Category> {
        vec![
            Category::of::<account::Event>(account::CATEGORY),
            Category::of::<session::Event>(session::CATEGORY),
            Category::of::<api_key::Event>(api_key::CATEGORY),
        ]
    }

    /// Every example, with the message that it is of.
    fn examples(document: &Value) -> Vec<(String, Value)> {
        let messages = document["components"]["messages"].as_object().unwrap();
        messages
            .iter()
            .filter_map(|(name, message)| {
                Some((
                    name.clone(),
                    message.pointer("/examples/0/payload")?.clone(),
                ))
            })
            .collect()
    }

    #[test]
    fn every_example_is_read_by_those_who_read_messages() {
        let document = document("Showcaller", "1", &built_in());
        let examples = examples(&document);
        assert!(examples.len() > 20, "{}", examples.len());
        for (name, payload) in examples {
            let text = payload.to_string();
            if name == "heartbeat" {
                serde_json::from_str::<Heartbeat>(&text).expect("a heartbeat");
                continue;
            }
            let message = Message::from_json(text.as_bytes()).expect(&name);
            let event = &message.event;
            event.parse_metadata().expect(&name);
            let read = match event.stream.category() {
                account::CATEGORY => account::Event::decode(event).map(|_| ()),
                session::CATEGORY => session::Event::decode(event).map(|_| ()),
                _ => api_key::Event::decode(event).map(|_| ()),
            };
            read.expect(&name);
            assert_eq!(
                name,
                format!("{}.{}", event.stream.category(), event.type_name)
            );
            let next = event.expected_hash(&events::Hash::ZERO);
            assert_eq!(event.hash, next, "{name}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, into: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                        into.insert(target.to_owned());
                    }
                    fields.values().for_each(|value| references(value, into));
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, into)),
                _ => {}
            }
        }
        let document = document("Showcaller", "1", &built_in());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(
            found.contains("#/components/schemas/account.Profile"),
            "{found:?}"
        );
        for target in found {
            let pointer = target.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }

    #[test]
    fn a_category_that_says_nothing_of_its_events_is_described_with_free_data() {
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(tag = "type", content = "data")]
        enum Quiet {
            Heard {},
        }
        impl DomainEvent for Quiet {}
        let document = document("Showcaller", "1", &[Category::of::<Quiet>("quiet")]);
        assert_eq!(
            document["channels"]["quiet"]["address"],
            "{partition}.quiet.{type}"
        );
        let message = &document["components"]["messages"]["quiet"];
        assert!(
            message["payload"].to_string().contains("^quiet-."),
            "{message}"
        );
    }
}
