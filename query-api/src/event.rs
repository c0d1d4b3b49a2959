//! Server-sent events as text, and their ids: which table, and how far in each partition. It refuses to read an id as a place
//! of another table.

use axum::body::Bytes;
use events::Position;
use read_models::{Place, ReadModel, RowKey, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::rows::OpenRow;
use crate::values;

/// How much of a log's epoch names it.
const EPOCH_CHARS: usize = 8;
/// Longest id looked at, in characters: enough for 256 partitions.
const ID_CHARS: usize = 6 * 1024;

/// Events, one after another.
#[derive(Debug, Default)]
pub(crate) struct Events {
    text: String,
    /// Where the last event begins, so that an id can still be put into it.
    last: Option<usize>,
}

impl Events {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.text.into()
    }

    /// A row as it is now.
    pub(crate) fn row(&mut self, row: &OpenRow<'_>) {
        self.event("row", row);
    }

    /// A row that is not there any more, or not in this answer, by its key.
    pub(crate) fn gone(&mut self, model: &ReadModel, key: &RowKey) {
        self.event("gone", &Key(model, key));
    }

    /// The client has everything up to a place.
    pub(crate) fn ready(&mut self, place: &Place) {
        self.event("ready", &json!({}));
        self.end_with(place);
    }

    /// Gives the last event the id of the place that all of them lead to: a client that has it misses nothing.
    pub(crate) fn end_with(&mut self, place: &Place) {
        if let Some(last) = self.last {
            self.text.insert_str(last, &format!("id: {}\n", id(place)));
        }
    }

    fn event(&mut self, name: &str, data: &impl Serialize) {
        // Rows are made of what JSON can say, and compact JSON has no line breaks.
        let Ok(data) = serde_json::to_string(data) else {
            return;
        };
        self.last = Some(self.text.len());
        self.text.push_str("event: ");
        self.text.push_str(name);
        self.text.push_str("\ndata: ");
        self.text.push_str(&data);
        self.text.push_str("\n\n");
    }
}

/// A key as an object.
struct Key<'k>(&'k ReadModel, &'k RowKey);

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.1.len()))?;
        for (column, value) in self.0.key.iter().zip(self.1) {
            object.serialize_entry(&column.name, &Part(value))?;
        }
        object.end()
    }
}

struct Part<'k>(&'k Value);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        values::serialize(self.0, serializer)
    }
}

/// The client is to forget all rows, and the id that it has.
pub(crate) fn reset() -> Events {
    let mut events = Events::default();
    events.event("reset", &json!({}));
    events.text.insert_str(0, "id:\n");
    events
}

/// The stream ends, and why.
pub(crate) fn end(reason: &str) -> Events {
    let mut events = Events::default();
    events.event("end", &json!({ "reason": reason }));
    events
}

/// Nothing has happened: a comment, and the place for whoever resumes. An id without data is taken in silently.
pub(crate) fn heartbeat(place: &Place) -> Events {
    Events {
        text: format!(":\nid: {}\n\n", id(place)),
        last: None,
    }
}

/// `{number}-{definition}-{epoch}:{position}.{position}…`, a position for each partition; the epoch with `-{times}` where
/// rows were amended.
fn id(place: &Place) -> String {
    let positions: Vec<String> = place
        .positions
        .iter()
        .map(|p| p.get().to_string())
        .collect();
    format!("{}:{}", table(place), positions.join("."))
}

fn table(place: &Place) -> String {
    let epoch = place.log.epoch.simple().to_string();
    let definition = &place.generation.definition_hash;
    let table = format!(
        "{}-{}-{}",
        place.generation.number,
        definition.get(..EPOCH_CHARS).unwrap_or(definition),
        &epoch[..EPOCH_CHARS]
    );
    // Positions say nothing of rows that were amended behind them.
    match place.amended {
        0 => table,
        amended => format!("{table}-{amended}"),
    }
}

/// The place that an id names, if it is one of the same table as `now`.
pub(crate) fn place(id: &str, now: &Place) -> Option<Place> {
    if id.len() > ID_CHARS {
        return None;
    }
    let (table, positions) = id.trim().split_once(':')?;
    let positions = positions
        .split('.')
        .map(|position| position.parse().ok().map(Position::new))
        .collect::<Option<Vec<Position>>>()?;
    let of_this = table == self::table(now) && positions.len() == now.positions.len();
    of_this.then(|| Place {
        positions,
        ..now.clone()
    })
}
