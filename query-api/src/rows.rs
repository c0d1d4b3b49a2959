//! Rows as JSON and CSV: columns by name, in the order asked, personal values opened for those who may see them. It refuses to show
//! ciphertext.

use events::Ciphertext;
use read_models::{ColumnType, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use vault::{Opened, Vault};
use web::{Caller, Problem};

use crate::access::may_open;
use crate::grammar::Output;
use crate::{csv, values};

/// One value of a row on its way out.
enum Cell<'r> {
    Stored(&'r Value),
    Opened(serde_json::Value),
    /// Not for this caller, or erased.
    Masked,
}

/// A row on its way out.
pub(crate) struct OpenRow<'r> {
    outputs: &'r [Output],
    cells: Vec<Cell<'r>>,
}

/// Opens rows, whose values are those of the outputs. All personal values that the caller may see are opened with one
/// query of the vault.
pub(crate) async fn open<'r>(
    outputs: &'r [Output],
    rows: Vec<Vec<&'r Value>>,
    caller: &Caller,
    vault: &Vault,
) -> Result<Vec<OpenRow<'r>>, Problem> {
    let personal: Vec<bool> = outputs
        .iter()
        .map(|output| output.field.column_type() == ColumnType::Personal)
        .collect();
    let mut sealed = Vec::new();
    let mut places = Vec::new();
    let mut opened_rows = Vec::with_capacity(rows.len());
    for (row_index, row) in rows.into_iter().enumerate() {
        let mut cells = Vec::with_capacity(row.len());
        for (index, value) in row.into_iter().enumerate() {
            cells.push(match value {
                Value::Text(text) if personal.get(index) == Some(&true) => {
                    let ciphertext = Ciphertext::parse(text).map_err(Problem::fault)?;
                    if may_open(&ciphertext, caller) {
                        sealed.push(ciphertext);
                        places.push((row_index, index));
                    }
                    Cell::Masked
                }
                value => Cell::Stored(value),
            });
        }
        opened_rows.push(OpenRow { outputs, cells });
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

/// Rows as comma-separated values, with a line of names.
pub(crate) fn csv(outputs: &[Output], rows: &[OpenRow<'_>]) -> String {
    let mut text = String::new();
    let names = outputs
        .iter()
        .map(|output| csv::Cell::Text(output.name.clone()));
    csv::line(&mut text, names);
    for row in rows {
        csv::line(&mut text, row.cells.iter().map(Cell::csv));
    }
    text
}

impl Cell<'_> {
    fn csv(&self) -> csv::Cell {
        match self {
            Self::Masked | Self::Stored(Value::Null) | Self::Opened(serde_json::Value::Null) => {
                csv::Cell::Empty
            }
            Self::Opened(serde_json::Value::String(text)) | Self::Stored(Value::Text(text)) => {
                csv::Cell::Text(text.clone())
            }
            Self::Opened(other) => csv::Cell::Text(other.to_string()),
            Self::Stored(value) => values::text(value).map_or(csv::Cell::Empty, csv::Cell::Exact),
        }
    }
}

impl Serialize for OpenRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.cells.len()))?;
        for (output, cell) in self.outputs.iter().zip(&self.cells) {
            object.serialize_entry(&output.name, cell)?;
        }
        object.end()
    }
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Masked => serializer.serialize_unit(),
            Self::Opened(value) => value.serialize(serializer),
            Self::Stored(value) => values::serialize(value, serializer),
        }
    }
}
