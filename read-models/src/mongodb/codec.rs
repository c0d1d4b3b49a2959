//! Values as BSON holds them, and rows as documents. It sends nothing.
//!
//! BSON's dates end at the millisecond, so what a moment has beyond that stands beside it, in `_micros`.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use events::{Partition, Position};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document};
use uuid::Uuid;

use super::{HIDDEN_MICROS, HIDDEN_PARTITION, HIDDEN_POSITION, HIDDEN_UPDATED_AT};
use crate::{
    Column, ColumnType, CommitError, Decimal, Due, Error, ReadModel, Row, RowKey, Value,
    bookkeeping,
};

/// What one row holds at most: a document ends at 16 MiB.
const ROW_BYTES: usize = 12 << 20;
/// What the rows of one command hold at most, if they are several: a command ends at 16 MiB as well.
const COMMAND_BYTES: usize = 6 << 20;
/// The rows of one command.
const COMMAND_ROWS: usize = 1_000;
/// What a field takes beside its text, about.
const FIELD_BYTES: usize = 100;

/// What identifies the document of a row: the key's value, or a document of them where there are several or the row is one
/// of several partial ones.
pub(super) fn id(model: &ReadModel, partition: Partition, key: &RowKey) -> Bson {
    if let ([value], false) = (key.as_slice(), model.shared) {
        return id_value(value);
    }
    let mut id = Document::new();
    for (column, value) in model.key.iter().zip(key) {
        id.insert(column.name.clone(), id_value(value));
    }
    if model.shared {
        id.insert(HIDDEN_PARTITION, i32::from(partition.0));
    }
    Bson::Document(id)
}

/// A value where it identifies: a moment is its microseconds since 1970, which no date would hold.
fn id_value(value: &Value) -> Bson {
    match value {
        Value::Timestamp(moment) => Bson::Int64(moment.timestamp_micros()),
        value => bson(value).0,
    }
}

/// A value where it is read, and the microseconds that it does not show.
fn bson(value: &Value) -> (Bson, i32) {
    let bson = match value {
        Value::Null => Bson::Null,
        Value::Boolean(yes) => Bson::Boolean(*yes),
        Value::Integer(number) => Bson::Int64(*number),
        Value::Text(text) => Bson::String(text.clone()),
        Value::Uuid(id) => Bson::Binary(Binary {
            subtype: BinarySubtype::Uuid,
            bytes: id.as_bytes().to_vec(),
        }),
        Value::Timestamp(moment) => {
            let micros = moment.timestamp_micros();
            return (
                date(micros.div_euclid(1_000)),
                micros.rem_euclid(1_000) as i32,
            );
        }
        Value::Date(day) => date(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis()),
        // Every decimal of 18 digits is one of 34.
        Value::Decimal(number) => number
            .to_string()
            .parse()
            .map_or(Bson::Null, Bson::Decimal128),
        Value::List(texts) => Bson::Array(texts.iter().cloned().map(Bson::String).collect()),
    };
    (bson, 0)
}

fn date(millis: i64) -> Bson {
    Bson::DateTime(mongodb::bson::DateTime::from_millis(millis))
}

/// A row as a document.
pub(super) fn document(
    model: &ReadModel,
    partition: Partition,
    key: &RowKey,
    row: &Row,
) -> Document {
    let mut document = Document::new();
    let mut hidden = Document::new();
    document.insert("_id", id(model, partition, key));
    let updated_at: Value = row.updated_at.into();
    let fields = columns(model)
        .map(|column| column.name.as_str())
        .zip(key.iter().chain(&row.values))
        .chain([(HIDDEN_UPDATED_AT, &updated_at)]);
    for (name, value) in fields {
        let (value, micros) = bson(value);
        document.insert(name, value);
        if micros != 0 {
            hidden.insert(name, micros);
        }
    }
    document.insert(HIDDEN_PARTITION, i32::from(partition.0));
    document.insert(HIDDEN_POSITION, row.position.as_i64());
    if !hidden.is_empty() {
        document.insert(HIDDEN_MICROS, hidden);
    }
    document
}

fn columns(model: &ReadModel) -> impl Iterator<Item = &Column> {
    model.key.iter().chain(&model.columns)
}

/// The row of a document.
pub(super) fn row(model: &ReadModel, document: &Document) -> Result<(RowKey, Row), Error> {
    let value = |name: &str, of: ColumnType| {
        read(document, name, of).ok_or_else(|| bookkeeping::damaged("a stored value"))
    };
    let values = |columns: &[Column]| -> Result<Vec<Value>, Error> {
        columns
            .iter()
            .map(|c| value(&c.name, c.column_type))
            .collect()
    };
    let partition = number(document, HIDDEN_PARTITION)
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| bookkeeping::damaged("a partition"))?;
    let position =
        number(document, HIDDEN_POSITION).ok_or_else(|| bookkeeping::damaged("a position"))?;
    let row = Row {
        values: values(&model.columns)?,
        partition: Partition(partition),
        position: Position::from_i64(position),
        updated_at: match value(HIDDEN_UPDATED_AT, ColumnType::Timestamp)? {
            Value::Timestamp(moment) => Some(moment),
            _ => None,
        },
    };
    Ok((values(&model.key)?, row))
}

/// An integer of either width.
pub(super) fn number(document: &Document, name: &str) -> Option<i64> {
    match document.get(name)? {
        Bson::Int64(number) => Some(*number),
        Bson::Int32(number) => Some(i64::from(*number)),
        _ => None,
    }
}

fn read(document: &Document, name: &str, column_type: ColumnType) -> Option<Value> {
    Some(match (column_type, document.get(name)?) {
        (_, Bson::Null) => Value::Null,
        (ColumnType::Text | ColumnType::Personal, Bson::String(text)) => text.clone().into(),
        (ColumnType::Integer, _) => number(document, name)?.into(),
        (ColumnType::Boolean, Bson::Boolean(yes)) => (*yes).into(),
        (ColumnType::Uuid, Bson::Binary(binary)) => Uuid::from_slice(&binary.bytes).ok()?.into(),
        (ColumnType::Timestamp, Bson::DateTime(moment)) => {
            let hidden = document.get_document(HIDDEN_MICROS).ok();
            let micros = hidden.and_then(|micros| number(micros, name)).unwrap_or(0);
            let micros = moment.timestamp_millis().checked_mul(1_000)? + micros;
            DateTime::<Utc>::from_timestamp_micros(micros)?.into()
        }
        (ColumnType::Decimal { scale }, Bson::Decimal128(number)) => {
            decimal(&number.to_string())?.rescaled(scale)?.into()
        }
        (ColumnType::List, Bson::Array(texts)) => {
            let texts = texts.iter().map(|text| text.as_str().map(str::to_owned));
            Value::List(texts.collect::<Option<_>>()?)
        }
        (ColumnType::Date, Bson::DateTime(moment)) => day(moment.timestamp_millis())?.into(),
        _ => return None,
    })
}

/// A number as `Decimal128` writes it: with an exponent, where it is small.
fn decimal(text: &str) -> Option<Decimal> {
    let Some((digits, exponent)) = text.split_once(['E', 'e']) else {
        return text.parse().ok();
    };
    let fraction = digits
        .split_once('.')
        .map_or(0, |(_, fraction)| fraction.len());
    let scale = i32::try_from(fraction).ok()? - exponent.parse::<i32>().ok()?;
    let units: i64 = digits.replace('.', "").parse().ok()?;
    if let Ok(scale) = u8::try_from(scale) {
        return Some(Decimal::at(units, scale));
    }
    let factor = 10_i64.checked_pow(scale.unsigned_abs())?;
    Some(Decimal::at(units.checked_mul(factor)?, 0))
}

/// What a document holds whose column has this value.
pub(super) fn search(column: &Column, value: &Value) -> Document {
    let (sought, micros) = bson(value);
    let mut filter = Document::new();
    filter.insert(&column.name, sought);
    if column.column_type == ColumnType::Timestamp {
        // Null: there are none.
        let micros = if micros == 0 {
            Bson::Null
        } else {
            Bson::Int32(micros)
        };
        filter.insert(format!("{HIDDEN_MICROS}.{}", column.name), micros);
    }
    filter
}

/// What a document holds that is due. Its date ends at the millisecond, so within that one it is found later.
pub(super) fn due(due: &Due) -> Document {
    let (before, _) = bson(&due.before);
    let smaller = Document::from_iter([("$lt".to_owned(), before)]);
    Document::from_iter([(due.column.clone(), Bson::Document(smaller))])
}

fn day(millis: i64) -> Option<NaiveDate> {
    Some(DateTime::<Utc>::from_timestamp_millis(millis)?.date_naive())
}

/// Rows in pieces that fit into one command each.
pub(super) fn pieces(rows: &[(RowKey, Row)]) -> Result<Vec<&[(RowKey, Row)]>, CommitError> {
    let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, row) in rows.iter().enumerate() {
        let size = size(row);
        if size > ROW_BYTES {
            return Err(CommitError::Refused(format!(
                "a row of {size} bytes; this mirror takes {ROW_BYTES}"
            )));
        }
        if index > start && (bytes + size > COMMAND_BYTES || index - start == COMMAND_ROWS) {
            pieces.push(&rows[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < rows.len() {
        pieces.push(&rows[start..]);
    }
    Ok(pieces)
}

/// A row's bytes, about; the key stands in it twice.
fn size((key, row): &(RowKey, Row)) -> usize {
    let values = key.iter().chain(key).chain(&row.values);
    let texts = values.map(|value| match value {
        Value::Text(text) => text.len() + FIELD_BYTES,
        Value::List(texts) => texts.iter().map(|text| text.len() + FIELD_BYTES).sum(),
        _ => FIELD_BYTES,
    });
    texts.sum::<usize>() + 4 * FIELD_BYTES
}
