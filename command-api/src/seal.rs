//! From decided events to what may be stored: encoded, encrypted where they are personal, with their metadata.

use events::{DomainEvent, Metadata, NewEvent, Personal};
use vault::DataKey;

use crate::{Aggregate, CommandError, Order};

/// Encodes events and encrypts what is personal in them.
pub(crate) fn seal<A: Aggregate>(
    order: &Order<'_, A>,
    events: &[A::Event],
    key: Option<&DataKey>,
    fingerprint: &str,
) -> Result<Vec<NewEvent>, CommandError> {
    let origin = order.origin;
    let mut sealed = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let id = order.command_id.event_id(index);
        let (type_name, mut data) = event.encode().map_err(CommandError::fault)?;
        let mut address = None;
        if let Some(key) = key {
            key.seal_event(order.stream, id, &mut data)
                .map_err(CommandError::fault)?;
            if let Some(text) = &origin.address {
                let text = serde_json::Value::String(text.clone());
                address = Some(Personal::Sealed(key.seal_value(
                    order.stream,
                    id,
                    "metadata/address",
                    &text,
                )));
            }
        } else if holds_personal(&data) {
            return Err(CommandError::fault(format!(
                "{type_name} holds personal fields, but {} names no person for {}",
                std::any::type_name::<A>(),
                order.stream
            )));
        }
        let metadata = Metadata {
            command_id: order.command_id,
            correlation_id: origin.correlation_id,
            causation_id: order.command_id.0,
            actor: origin.actor.clone(),
            session: origin.session,
            address,
            recorded_at: origin.now,
            fingerprint: Some(fingerprint.to_owned()),
            traceparent: origin.traceparent.clone(),
        };
        sealed.push(NewEvent {
            id,
            schema_version: A::Event::schema_version(&type_name),
            type_name,
            data: serde_json::to_string(&data).map_err(CommandError::fault)?,
            metadata: serde_json::to_string(&metadata).map_err(CommandError::fault)?,
        });
    }
    Ok(sealed)
}

fn holds_personal(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(map) => {
            map.contains_key(events::PERSONAL_MARKER) || map.values().any(holds_personal)
        }
        serde_json::Value::Array(list) => list.iter().any(holds_personal),
        _ => false,
    }
}
