//! A row's key as bytes whose order is the order of the keys, so that one short binary column identifies a row whatever its
//! key is made of. It refuses nothing: keys were checked before.
//!
//! MySQL's own collations and index lengths would not do: an index ends at 3,072 bytes and counts four for each character,
//! and which of its collations tell "" from " " hangs on the server.

use chrono::Datelike;

use crate::{Column, ColumnType, RowKey, Value};

/// The most bytes of text in a key, as the algebra of changes bounds it.
const TEXT_BYTES: usize = 1_024;
/// The most bytes of any other value.
const VALUE_BYTES: usize = 16;

/// The key's values one after another. A text ends with a NUL, which no text holds; all others have a fixed width.
pub(super) fn bytes(key: &RowKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VALUE_BYTES * key.len());
    for value in key {
        match value {
            // No key holds these; the column refuses the one, the definition the other.
            Value::Null | Value::List(_) => {}
            Value::Boolean(yes) => bytes.push(u8::from(*yes)),
            Value::Integer(number) => signed(&mut bytes, *number),
            Value::Text(text) => {
                bytes.extend_from_slice(text.as_bytes());
                bytes.push(0);
            }
            Value::Uuid(id) => bytes.extend_from_slice(id.as_bytes()),
            Value::Timestamp(moment) => signed(&mut bytes, moment.timestamp_micros()),
            Value::Date(day) => signed(&mut bytes, i64::from(day.num_days_from_ce())),
            // At the scale of its column.
            Value::Decimal(number) => signed(&mut bytes, number.units()),
        }
    }
    bytes
}

/// Big-endian with the sign's bit turned over: the order of the bytes is the order of the numbers.
fn signed(bytes: &mut Vec<u8>, number: i64) {
    bytes.extend_from_slice(&(number ^ i64::MIN).to_be_bytes());
}

/// The most bytes that a key of these columns has.
pub(super) fn longest(key: &[Column]) -> usize {
    let texts = key
        .iter()
        .filter(|column| column.column_type == ColumnType::Text)
        .count();
    let text = if texts == 0 { 0 } else { TEXT_BYTES + texts };
    text + (key.len() - texts) * VALUE_BYTES
}
