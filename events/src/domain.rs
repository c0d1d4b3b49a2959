//! How a domain's event enum becomes stored JSON and back, old schema versions included.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Actor, CommandId, EventTypes, Metadata, NewEvent, RecordedEvent};

/// Why a stored event could not be read as the domain's type.
#[derive(Debug, thiserror::Error)]
#[error(
    "event {id} ({type_name} v{schema_version}) at version {version} of {stream} cannot be read: {cause}"
)]
pub struct DecodeError {
    stream: String,
    version: u64,
    id: String,
    type_name: String,
    schema_version: u16,
    cause: serde_json::Error,
}

impl DecodeError {
    /// A stored event that cannot be taken in, for a reason of the reader's own.
    pub fn new(event: &RecordedEvent, cause: impl std::fmt::Display) -> Self {
        Self::of(event, serde::de::Error::custom(cause))
    }

    fn of(event: &RecordedEvent, cause: serde_json::Error) -> Self {
        Self {
            stream: event.stream.to_string(),
            version: event.version.get(),
            id: event.id.to_string(),
            type_name: event.type_name.clone(),
            schema_version: event.schema_version,
            cause,
        }
    }
}

/// A category's events: an enum that serde tags `#[serde(tag = "type", content = "data")]`, every variant a struct.
/// Variant names are storage format: past tense, for ever.
pub trait DomainEvent: Serialize + DeserializeOwned + Send + Sync {
    /// The schema version that `type_name` is written with today.
    fn schema_version(_type_name: &str) -> u16 {
        1
    }

    /// Turns the data of an older schema version into today's form, and maybe an old type name into today's.
    fn upcast(type_name: &str, _schema_version: u16, data: Value) -> (String, Value) {
        (type_name.to_owned(), data)
    }

    /// What others may know of these events, for the description of the messages: `Some(EventTypes::of::<Self>())`, where
    /// the enum derives `schemars::JsonSchema`. Else only the category is described.
    fn described() -> Option<EventTypes> {
        None
    }

    /// Splits an event into its type name and its data.
    fn encode(&self) -> Result<(String, Value), serde_json::Error> {
        use serde::de::Error;
        match serde_json::to_value(self)? {
            Value::Object(mut object) => match (object.remove("type"), object.remove("data")) {
                (Some(Value::String(name)), data) => Ok((
                    name,
                    data.unwrap_or_else(|| Value::Object(serde_json::Map::new())),
                )),
                _ => Err(serde_json::Error::custom(
                    "an event enum needs #[serde(tag = \"type\", content = \"data\")]",
                )),
            },
            _ => Err(serde_json::Error::custom(
                "an event serialises as an object",
            )),
        }
    }

    /// Reads what is stored of an event, upcast to today's form.
    fn parse(type_name: &str, schema_version: u16, data: &str) -> Result<Self, serde_json::Error> {
        if schema_version == Self::schema_version(type_name) {
            // The tag stands first, so serde reads the data in place.
            let name = serde_json::to_string(type_name)?;
            serde_json::from_str(&format!(r#"{{"type":{name},"data":{data}}}"#))
        } else {
            let (name, data) = Self::upcast(type_name, schema_version, serde_json::from_str(data)?);
            serde_json::from_value(serde_json::json!({ "type": name, "data": data }))
        }
    }

    /// Reads a recorded event, upcast to today's form.
    fn decode(event: &RecordedEvent) -> Result<Self, DecodeError> {
        Self::parse(&event.type_name, event.schema_version, &event.data)
            .map_err(|cause| DecodeError::of(event, cause))
    }
}

/// Events that no request asked for, ready to be appended: `actor` says who did, from where the system runs. For events
/// without personal data: nothing is encrypted.
pub fn without_request<E: DomainEvent>(
    events: &[E],
    command_id: CommandId,
    actor: Actor,
    now: DateTime<Utc>,
) -> Result<Vec<NewEvent>, serde_json::Error> {
    let metadata = serde_json::to_string(&Metadata {
        command_id,
        correlation_id: command_id.0,
        causation_id: command_id.0,
        actor,
        session: None,
        address: None,
        recorded_at: now,
        fingerprint: None,
        traceparent: None,
    })?;
    let new = |(index, event): (usize, &E)| {
        let (type_name, data) = event.encode()?;
        Ok(NewEvent {
            id: command_id.event_id(index),
            schema_version: E::schema_version(&type_name),
            type_name,
            data: serde_json::to_string(&data)?,
            metadata: metadata.clone(),
        })
    };
    events.iter().enumerate().map(new).collect()
}
