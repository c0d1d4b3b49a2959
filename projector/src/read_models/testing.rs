//! Given events, then rows: how a projection is tested on its own.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use events::{
    Ciphertext, CommandId, EventId, Hash, Partition, Position, RecordedEvent, StreamId, Version,
};
use read_models::{Changes, EventPlace, ReadModel, RowKey, Rows, Value, fold};
use serde_json::json;
use uuid::Uuid;

/// What came of the given events.
pub(super) struct Outcome<'m> {
    model: &'m ReadModel,
    rows: Result<Rows, String>,
}

/// Projects the events in order, at positions (and seconds) from 1, and versions counted by stream.
pub(super) fn given(
    model: &ReadModel,
    events: impl IntoIterator<Item = RecordedEvent>,
) -> Outcome<'_> {
    let mut versions: HashMap<StreamId, Version> = HashMap::new();
    let mut rows = Rows::new();
    let mut outcome = Ok(());
    for (position, mut event) in (1..).zip(events) {
        let version = versions.entry(event.stream.clone()).or_default();
        *version = version.plus(1);
        event.version = *version;
        event.position = Position::new(position);
        let at = recorded_at(position);
        let mut metadata = json!({
            "command_id": Uuid::nil(), "correlation_id": Uuid::nil(), "causation_id": Uuid::nil(),
            "actor": "anonymous", "address": sealed("address"), "recorded_at": at,
        });
        if !event.metadata.is_empty() {
            metadata["session"] = event.metadata.as_str().into();
        }
        event.metadata = metadata.to_string();
        let mut changes = Changes::new(model);
        let place = EventPlace {
            partition: Partition(0),
            position: event.position,
            recorded_at: Some(at),
        };
        outcome = (model.project)(&event, &mut changes)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                for key in changes.keys() {
                    rows.or_absent(key);
                }
                fold(&mut rows, changes, place).map_err(|error| error.to_string())
            });
        if outcome.is_err() {
            break;
        }
    }
    Outcome {
        model,
        rows: outcome.map(|()| rows),
    }
}

impl Outcome<'_> {
    /// These rows and no others; a column that is left out is null.
    pub(super) fn then(self, expected: &[&[(&str, Value)]]) {
        let rows = self.rows.expect("the events can be projected");
        let mut found: Vec<_> = rows
            .into_iter()
            .filter_map(|(key, row)| Some((key, row?.values)))
            .collect();
        let mut expected: Vec<_> = expected.iter().map(|row| named(self.model, row)).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    /// The last event cannot be projected, for a reason that says this.
    pub(super) fn then_error(self, part: &str) {
        let error = self.rows.expect_err("the last event cannot be projected");
        assert!(error.contains(part), "{error}");
    }
}

fn named(model: &ReadModel, row: &[(&str, Value)]) -> (RowKey, Vec<Value>) {
    let value = |name: &str| {
        let found = row.iter().find(|(column, _)| *column == name);
        found.map_or(Value::Null, |(_, value)| value.clone())
    };
    let columns = model.key.iter().chain(&model.columns);
    let unknown = row
        .iter()
        .find(|(name, _)| columns.clone().all(|column| column.name != *name));
    assert!(unknown.is_none(), "{unknown:?} is no column");
    (
        model.key.iter().map(|column| value(&column.name)).collect(),
        model
            .columns
            .iter()
            .map(|column| value(&column.name))
            .collect(),
    )
}

/// When the event at this position was recorded.
pub(super) fn recorded_at(position: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + position as i64, 0).expect("a time")
}

/// A ciphertext in form, of nothing.
pub(super) fn sealed(field: &str) -> String {
    let event = EventId(Uuid::nil());
    let context = Ciphertext::context(Uuid::nil(), "c3RyZWFt", event, field);
    Ciphertext::from_parts(&context, "AAAA").as_str().to_owned()
}

/// An event of the account with this id.
pub(super) fn account(id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    event("account", id, type_name, data)
}

/// An event of the session with this id.
pub(super) fn session(id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    event("session", id, type_name, data)
}

/// An event of the API key with this id.
pub(super) fn api_key(id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    event("apikey", id, type_name, data)
}

/// The same event, caused with a token of this session.
pub(super) fn in_session(mut event: RecordedEvent, session: u128) -> RecordedEvent {
    // The rest of the metadata depends on the event's place: `given` adds it.
    event.metadata = Uuid::from_u128(session).to_string();
    event
}

#[expect(clippy::needless_pass_by_value, reason = "callers write json!(…)")]
fn event(category: &str, id: u128, type_name: &str, data: serde_json::Value) -> RecordedEvent {
    let id = Uuid::from_u128(id);
    RecordedEvent {
        position: Position::ZERO,
        stream: StreamId::new(category, &id.to_string()).expect("a stream name"),
        version: Version::ZERO,
        id: CommandId(id).event_id(type_name.len()),
        type_name: type_name.to_owned(),
        schema_version: 1,
        data: data.to_string(),
        metadata: String::new(),
        hash: Hash::ZERO,
    }
}
