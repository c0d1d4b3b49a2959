//! Rows as JSON: columns by name, in their order, personal values opened for those who may see them. It refuses to show
//! ciphertext.

use chrono::{DateTime, SecondsFormat, Utc};
use events::Ciphertext;
use read_models::{ColumnType, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use vault::{Opened, Vault};
use web::{Caller, Problem};

use crate::access::may_open;
use crate::state::Hosted;

/// The hidden columns that end every row.
pub(crate) const HIDDEN: [&str; 2] = ["_position", "_updated_at"];

/// The column that holds the version of a row's stream, where a read model has one.
const VERSION: &str = "version";

/// The version of the stream that a row shows, if its read model tells: what `If-Match` compares.
pub(crate) fn version(hosted: &Hosted, row: &[Value]) -> Option<i64> {
    hosted
        .columns()
        .zip(row)
        .find_map(|(column, value)| match value {
            Value::Integer(version) if column.name == VERSION => Some(*version),
            _ => None,
        })
}

/// One value of a row on its way out.
enum Cell {
    Stored(Value),
    Opened(serde_json::Value),
    /// Not for this caller, or erased.
    Masked,
}

/// A row on its way out.
pub(crate) struct JsonRow<'m> {
    hosted: &'m Hosted,
    cells: Vec<Cell>,
}

/// Turns rows into JSON rows. All personal values that the caller may see are opened with one query of the vault.
pub(crate) async fn open<'m>(
    hosted: &'m Hosted,
    rows: Vec<Vec<Value>>,
    caller: &Caller,
    vault: &Vault,
) -> Result<Vec<JsonRow<'m>>, Problem> {
    let personal: Vec<bool> = hosted
        .columns()
        .map(|column| column.column_type == ColumnType::Personal)
        .collect();
    let mut sealed = Vec::new();
    let mut places = Vec::new();
    let mut opened_rows = Vec::with_capacity(rows.len());
    for (row_index, row) in rows.into_iter().enumerate() {
        let mut cells = Vec::with_capacity(row.len());
        for (index, value) in row.into_iter().enumerate() {
            cells.push(match value {
                Value::Text(text) if personal.get(index) == Some(&true) => {
                    let ciphertext = Ciphertext::parse(&text).map_err(Problem::fault)?;
                    if may_open(&ciphertext, caller) {
                        sealed.push(ciphertext);
                        places.push((row_index, index));
                    }
                    Cell::Masked
                }
                value => Cell::Stored(value),
            });
        }
        opened_rows.push(JsonRow { hosted, cells });
    }
    if !sealed.is_empty() {
        let opened = vault.open_many(&sealed).await.map_err(vault_problem)?;
        for ((row, cell), opened) in places.into_iter().zip(opened) {
            if let Opened::Plain(value) = opened {
                opened_rows[row].cells[cell] = Cell::Opened(value);
            }
        }
    }
    Ok(opened_rows)
}

pub(crate) fn vault_problem(error: vault::Error) -> Problem {
    match error {
        vault::Error::Unavailable(_) | vault::Error::Busy => {
            tracing::warn!(%error, "personal values cannot be opened");
            Problem::unavailable("Personal values cannot be opened right now: try again.")
        }
        vault::Error::Invalid(_) => Problem::fault(error),
    }
}

/// A moment as every answer writes it.
pub(crate) fn text_of(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.cells.len()))?;
        let names = self
            .hosted
            .columns()
            .map(|column| column.name.as_str())
            .chain(HIDDEN);
        for (name, cell) in names.zip(&self.cells) {
            object.serialize_entry(name, cell)?;
        }
        object.end()
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Masked => serializer.serialize_unit(),
            Self::Opened(value) => value.serialize(serializer),
            Self::Stored(Value::Timestamp(moment)) => serializer.serialize_str(&text_of(*moment)),
            Self::Stored(value) => value.serialize(serializer),
        }
    }
}
