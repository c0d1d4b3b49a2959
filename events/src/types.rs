//! What a category's events look like, for those who receive them: JSON Schema (draft-07), derived from the very types that
//! are stored, type names included. It refuses to be written by hand.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{DomainEvent, Heartbeat, Message, Metadata};

/// Where the schemas that others refer to stand, in the document and in every reference.
const DEFINITIONS: &str = "/components/schemas";

/// The event types of a category.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTypes {
    /// Each type, in the order of the enum.
    pub types: Vec<EventType>,
    /// Schemas that those of the types refer to as `#/components/schemas/{name}`.
    pub schemas: BTreeMap<String, Value>,
}

/// What there is to know of an event type.
#[derive(Debug, Clone, PartialEq)]
pub struct EventType {
    /// Its name.
    pub name: String,
    /// What it means, in the words of the type's own documentation.
    pub meaning: String,
    /// The schema version that it is written with today.
    pub schema_version: u16,
    /// The JSON Schema of the data in that version.
    pub data: Value,
}

impl EventTypes {
    /// Those of an enum as [`DomainEvent`] wants it. The types that it names must not share their names with others of the
    /// same category.
    pub fn of<E: DomainEvent + JsonSchema>() -> Self {
        let (mut schema, schemas) = derived(SchemaGenerator::into_root_schema_for::<E>);
        let variants = match schema.remove("oneOf") {
            Some(Value::Array(variants)) => variants,
            // An enum of one variant is no choice.
            _ => vec![Value::Object(schema)],
        };
        let types = variants.into_iter().filter_map(event_type::<E>).collect();
        Self { types, schemas }
    }
}

/// The schemas of what every message consists of, by name: `CloudEvent`, `Heartbeat`, `Metadata`, and what they refer to.
pub fn envelope_schemas() -> BTreeMap<String, Value> {
    let (_, schemas) = derived(|mut generator| {
        generator.subschema_for::<Message>();
        generator.subschema_for::<Heartbeat>();
        generator.subschema_for::<Metadata>();
        generator.into_root_schema_for::<()>()
    });
    schemas
}

/// A schema, and those that it refers to.
fn derived(
    root: impl FnOnce(SchemaGenerator) -> schemars::Schema,
) -> (Map<String, Value>, BTreeMap<String, Value>) {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = DEFINITIONS.into();
        settings.meta_schema = None;
    });
    let mut schema = root(settings.into_generator()).to_value();
    let schemas = schema
        .pointer_mut(DEFINITIONS)
        .and_then(Value::as_object_mut)
        .map(std::mem::take)
        .unwrap_or_default();
    let schema = match schema {
        Value::Object(mut fields) => {
            fields.remove("components");
            fields
        }
        _ => Map::new(),
    };
    (schema, schemas.into_iter().collect())
}

/// One variant of an enum that is tagged `type` and `data`.
fn event_type<E: DomainEvent>(mut variant: Value) -> Option<EventType> {
    let name = variant
        .pointer("/properties/type/const")?
        .as_str()?
        .to_owned();
    let meaning = variant["description"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let data = variant.pointer_mut("/properties/data").map(Value::take);
    Some(EventType {
        schema_version: E::schema_version(&name),
        data: data.unwrap_or_else(|| json!({ "type": "object" })),
        name,
        meaning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session;

    #[test]
    fn type_names_meanings_and_data_come_from_the_enum() {
        let described = EventTypes::of::<session::Event>();
        let names: Vec<&str> = described
            .types
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        assert_eq!(names, ["SessionStarted", "SessionEnded"]);
        let ended = &described.types[1];
        assert_eq!(
            (ended.meaning.as_str(), ended.schema_version),
            ("The session ended before its time.", 1)
        );
        assert_eq!(ended.data["required"], json!(["account_id", "reason"]));
        let reasons = &described.schemas["EndReason"].to_string();
        assert!(reasons.contains("RefreshTokenReused") || reasons.contains("refresh_token_reused"));
    }
}
