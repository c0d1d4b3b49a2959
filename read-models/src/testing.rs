//! Given events, then rows: how a read model is tested on its own, without a database. It projects the way a projector
//! does, each stream in a partition of its own, so that rows which two streams change show up as the mistake they are.
//!
//! Refuses: to be used outside tests. It panics where an expectation is not met.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use events::{
    Ciphertext, CommandId, DomainEvent, EventId, Hash, Partition, Position, RecordedEvent,
    StreamId, Version,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{Changes, Column, EventPlace, Merge, ReadModel, Row, RowKey, Rows, Value, fold};

/// What came of the given events.
#[derive(Debug)]
pub struct GivenEvents<'m> {
    model: &'m ReadModel,
    events: Vec<(Partition, RecordedEvent)>,
    /// By partition, where partitions share rows; else all in the first.
    rows: Vec<Rows>,
    parked: Vec<(StreamId, Position, String)>,
}

impl ReadModel {
    /// Begins a test: projects the events in order, at positions (and seconds) from 1, with versions counted by stream.
    /// [`recorded`] makes an event.
    ///
    /// ```
    /// # use read_models::{ColumnType, Op, ReadModel, testing::recorded_json};
    /// let seats = ReadModel::new("seats")
    ///     .key("class_id", ColumnType::Text)
    ///     .column("booked", ColumnType::Integer)
    ///     .project(|event, rows| {
    ///         rows.upsert([event.stream.id().into()], [("booked", Op::Add(1))]);
    ///         Ok(())
    ///     });
    /// let booked = recorded_json("class-yoga", "SeatBooked", serde_json::json!({}));
    /// seats
    ///     .given([booked.clone(), booked])
    ///     .then_rows([[("class_id", "yoga".into()), ("booked", 2.into())]]);
    /// ```
    pub fn given(&self, events: impl IntoIterator<Item = RecordedEvent>) -> GivenEvents<'_> {
        let mut given = GivenEvents {
            model: self,
            events: Vec::new(),
            rows: vec![Rows::new()],
            parked: Vec::new(),
        };
        let mut streams: HashMap<StreamId, (Partition, Version)> = HashMap::new();
        let mut ids = HashSet::new();
        for (position, mut event) in (1..).zip(events) {
            let next = Partition(streams.len() as u16);
            let stream = streams.entry(event.stream.clone());
            let (partition, version) = stream.or_insert((next, Version::ZERO));
            *version = version.plus(1);
            event.version = *version;
            if !ids.insert(event.id) {
                // The same event twice stands for two events.
                event.id = CommandId(event.id.0).event_id(position as usize);
            }
            event.position = Position::new(position);
            event.metadata = whole_metadata(&event.metadata, recorded_at(position));
            given.take(*partition, &event);
            given.events.push((*partition, event));
        }
        given
    }
}

impl<'m> GivenEvents<'m> {
    /// These rows and no others, as readers see them; a column that is left out is null.
    ///
    /// # Panics
    /// If the rows are others, or an event could not be projected.
    #[track_caller]
    pub fn then_rows<'a, R>(&self, expected: impl IntoIterator<Item = R>)
    where
        R: AsRef<[(&'a str, Value)]>,
    {
        assert!(self.parked.is_empty(), "parked: {:?}", self.parked);
        let named = |row: R| named(self.model, row.as_ref());
        let mut expected: Vec<_> = expected.into_iter().map(named).collect();
        expected.sort();
        assert_eq!(self.shown(), expected);
    }

    /// An event could not be projected, so its stream waits, for a reason that says this.
    ///
    /// # Panics
    /// If every event could be projected, or the first reason is another.
    #[track_caller]
    pub fn then_parked(&self, part: &str) {
        let (_, _, reason) = self.parked.first().expect("an event cannot be projected");
        assert!(reason.contains(part), "{reason}");
    }

    /// The read model.
    pub fn model(&self) -> &'m ReadModel {
        self.model
    }

    /// The events as they stand in the log, each with the partition of its stream.
    pub fn events(&self) -> &[(Partition, RecordedEvent)] {
        &self.events
    }

    /// The streams that wait, with the first event that does, and why.
    pub fn parked(&self) -> &[(StreamId, Position, String)] {
        &self.parked
    }

    /// The rows as a database stores them.
    pub fn stored(&self) -> BTreeMap<(Partition, RowKey), Row> {
        let rows = self.rows.iter().flat_map(Rows::clone);
        rows.filter_map(|(key, row)| row.map(|row| ((row.partition, key), row)))
            .collect()
    }

    fn take(&mut self, partition: Partition, event: &RecordedEvent) {
        let model = self.model;
        if !model.takes(&event.stream)
            || self
                .parked
                .iter()
                .any(|(stream, ..)| *stream == event.stream)
        {
            return;
        }
        let shard = if model.shared {
            usize::from(partition.0)
        } else {
            0
        };
        if self.rows.len() <= shard {
            self.rows.resize_with(shard + 1, Rows::new);
        }
        let rows = &mut self.rows[shard];
        let mut changes = Changes::new(model);
        let at = EventPlace::of(partition, event);
        let outcome = (model.project)(event, &mut changes)
            .map_err(|error| error.to_string())
            .and_then(|()| {
                changes.keys().for_each(|key| rows.or_absent(key));
                fold(rows, changes, at).map_err(|error| error.to_string())
            });
        if let Err(reason) = outcome {
            let stream = event.stream.clone();
            self.parked.push((stream, event.position, reason));
        }
    }

    fn shown(&self) -> Vec<(RowKey, Vec<Value>)> {
        let mut shown: BTreeMap<RowKey, Vec<Value>> = BTreeMap::new();
        for ((_, key), row) in self.stored() {
            match shown.get_mut(&key) {
                None => _ = shown.insert(key, row.values),
                Some(values) => {
                    for ((column, value), part) in
                        self.model.columns.iter().zip(values).zip(row.values)
                    {
                        merge(column, value, part);
                    }
                }
            }
        }
        shown.into_iter().collect()
    }
}

/// As the databases do it on reading.
fn merge(column: &Column, value: &mut Value, part: Value) {
    *value = match (column.merge(), &*value, part) {
        (Merge::Sum, Value::Integer(sum), Value::Integer(part)) => (sum + part).into(),
        (Merge::Sum, Value::Decimal(sum), Value::Decimal(part)) => {
            sum.plus(part).expect("a sum of at most 18 digits").into()
        }
        (_, Value::Null, part) => part,
        (Merge::Min, value, part) if part != Value::Null && part < *value => part,
        (Merge::Max, value, part) if part > *value => part,
        _ => return,
    };
}

#[track_caller]
fn named(model: &ReadModel, row: &[(&str, Value)]) -> (RowKey, Vec<Value>) {
    let columns = model.key.iter().chain(&model.columns);
    let unknown = row
        .iter()
        .find(|(name, _)| columns.clone().all(|column| column.name != *name));
    assert!(unknown.is_none(), "{unknown:?} is no column");
    let value = |column: &Column| {
        let found = row.iter().find(|(name, _)| *name == column.name);
        let value = found.map_or(Value::Null, |(_, value)| value.clone());
        column.fitted(value).expect("a value of the column's type")
    };
    (
        model.key.iter().map(value).collect(),
        model.columns.iter().map(value).collect(),
    )
}

/// An event of a stream, written as a command would write it.
///
/// # Panics
/// If the stream's name is none, or the event cannot be written.
pub fn recorded<E: DomainEvent>(stream: &str, event: &E) -> RecordedEvent {
    let (type_name, data) = event.encode().expect("the event can be written");
    RecordedEvent {
        schema_version: E::schema_version(&type_name),
        ..recorded_json(stream, &type_name, data)
    }
}

/// An event of a stream from its type's name and its data, in schema version 1.
///
/// # Panics
/// If the stream's name is none.
#[expect(clippy::needless_pass_by_value, reason = "callers write json!(…)")]
pub fn recorded_json(stream: &str, type_name: &str, data: Json) -> RecordedEvent {
    let stream = StreamId::parse(stream).expect("a stream's name: {category}-{id}");
    let command = CommandId(stream.id().parse().unwrap_or_default());
    RecordedEvent {
        position: Position::ZERO,
        id: command.event_id(type_name.len()),
        stream,
        version: Version::ZERO,
        type_name: type_name.to_owned(),
        schema_version: 1,
        data: data.to_string(),
        metadata: String::new(),
        hash: Hash::ZERO,
    }
}

/// When the event at this position was recorded.
pub fn recorded_at(position: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::Duration::seconds(1_800_000_000 + position as i64)
}

/// A ciphertext in form, of nothing, for a personal field.
pub fn sealed(field: &str) -> String {
    let event = EventId(Uuid::nil());
    let context = Ciphertext::context(Uuid::nil(), "c3RyZWFt", event, field);
    Ciphertext::from_parts(&context, "AAAA").as_str().to_owned()
}

/// What a test gave of an event's metadata, with the rest filled in.
fn whole_metadata(given: &str, at: DateTime<Utc>) -> String {
    let mut metadata = json!({
        "command_id": Uuid::nil(), "correlation_id": Uuid::nil(), "causation_id": Uuid::nil(),
        "actor": "anonymous", "address": sealed("address"), "recorded_at": at,
    });
    if let Ok(Json::Object(given)) = serde_json::from_str(given) {
        given
            .into_iter()
            .for_each(|(name, value)| metadata[name] = value);
    }
    metadata.to_string()
}
