//! From a recorded event to its form on the wire.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use event_store::envelope::{Envelope, KEY};
use events::RecordedEvent;
use prost_types::Timestamp;
use serde::Deserialize;

use crate::messages::read::{Commit, Content, ReadAnswer, ReadEvent, Recorded};
use crate::messages::{CONTENT_TYPE, CREATED, Id, JSON, TYPE};
use crate::node::{Node, revision};

/// What of the metadata is shown outside of it.
#[derive(Default, Deserialize)]
struct Shown {
    recorded_at: Option<DateTime<Utc>>,
}

/// An event as an answer. Ids are sent as the client asked for them.
pub(crate) fn answer(node: &Node, event: RecordedEvent, id_as_text: bool) -> ReadAnswer {
    let position = node.on_wire(event.position);
    let shown: Shown = serde_json::from_str(&event.metadata).unwrap_or_default();
    let ticks = shown.recorded_at.map_or(0, |at| at.timestamp_micros() * 10);
    let envelope = Envelope {
        id: event.id,
        schema_version: event.schema_version,
        hash: event.hash,
        command_id: None,
        metadata: event.metadata,
    };
    let metadata = envelope.to_user_metadata(KEY).unwrap_or_else(|why| {
        // Only SQL's hand can have written such a thing.
        tracing::error!(position, why, "stored metadata cannot be served");
        Vec::new()
    });
    let recorded = Recorded {
        id: Some(if id_as_text {
            Id::text(event.id.0)
        } else {
            Id::numbers(event.id.0)
        }),
        stream: Some(event.stream.as_str().into()),
        revision: revision(event.version),
        prepare: position,
        commit: position,
        properties: HashMap::from([
            (TYPE.to_owned(), event.type_name),
            (CONTENT_TYPE.to_owned(), JSON.to_owned()),
            (CREATED.to_owned(), ticks.to_string()),
        ]),
        metadata,
        data: event.data.into_bytes(),
    };
    Content::Event(ReadEvent {
        event: Some(recorded),
        commit: Some(Commit::Position(position)),
    })
    .into()
}

/// A moment as the protocol writes it.
pub(crate) fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: at.timestamp_subsec_nanos() as i32,
    }
}
