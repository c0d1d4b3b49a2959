//! The keys of a journal's entry as bytes: a fraction of the rows they stand for, and read without any definition. It
//! refuses to guess: what it does not know is told, and read as a journal that does not reach back.

use chrono::{DateTime, NaiveDate};
use uuid::Uuid;

use crate::{RowKey, Value};

/// The first byte. A version that writes another form takes another one, and older readers start over.
const FORM: u8 = 1;

const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const TEXT: u8 = 4;
const UUID: u8 = 5;
const TIMESTAMP: u8 = 6;
const DATE: u8 = 7;
const DECIMAL: u8 = 8;

/// Keys of rows that were written, and of rows that were removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) upserts: Vec<RowKey>,
    pub(super) deletes: Vec<RowKey>,
}

/// The form, then the number of keys written, then all keys, each with its number of values in front.
pub(super) fn write<'k>(
    upserts: impl ExactSizeIterator<Item = &'k RowKey>,
    deletes: &'k [RowKey],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + 18 * (upserts.len() + deletes.len()));
    bytes.push(FORM);
    length(&mut bytes, upserts.len());
    for key in upserts.chain(deletes) {
        length(&mut bytes, key.len());
        for part in key {
            value(&mut bytes, part);
        }
    }
    bytes
}

/// What [`write`] wrote; nothing for any other bytes.
pub(super) fn read(bytes: &[u8]) -> Option<Keys> {
    let mut rest = bytes;
    if byte(&mut rest)? != FORM {
        return None;
    }
    let written = read_length(&mut rest)?;
    let mut keys = Keys::default();
    while !rest.is_empty() {
        let parts = read_length(&mut rest)?;
        let key = (0..parts)
            .map(|_| read_value(&mut rest))
            .collect::<Option<RowKey>>()?;
        if keys.upserts.len() < written {
            keys.upserts.push(key);
        } else {
            keys.deletes.push(key);
        }
    }
    (keys.upserts.len() == written).then_some(keys)
}

fn value(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        // No key holds these; what would is refused before it comes here.
        Value::Null | Value::List(_) => {}
        Value::Boolean(false) => bytes.push(FALSE),
        Value::Boolean(true) => bytes.push(TRUE),
        Value::Integer(number) => tagged(bytes, INTEGER, &number.to_be_bytes()),
        Value::Text(text) => self::text(bytes, TEXT, text),
        Value::Decimal(number) => text(bytes, DECIMAL, &number.to_string()),
        Value::Uuid(id) => tagged(bytes, UUID, id.as_bytes()),
        Value::Timestamp(moment) => {
            tagged(bytes, TIMESTAMP, &moment.timestamp_micros().to_be_bytes());
        }
        Value::Date(day) => tagged(bytes, DATE, &day.to_epoch_days().to_be_bytes()),
    }
}

fn text(bytes: &mut Vec<u8>, tag: u8, text: &str) {
    bytes.push(tag);
    length(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn read_text<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let bytes = read_length(rest)?;
    let (text, others) = rest.split_at_checked(bytes)?;
    *rest = others;
    std::str::from_utf8(text).ok()
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(value);
}

fn read_value(rest: &mut &[u8]) -> Option<Value> {
    Some(match byte(rest)? {
        FALSE => Value::Boolean(false),
        TRUE => Value::Boolean(true),
        INTEGER => Value::Integer(i64::from_be_bytes(*array(rest)?)),
        TEXT => Value::Text(read_text(rest)?.to_owned()),
        DECIMAL => Value::Decimal(read_text(rest)?.parse().ok()?),
        UUID => Value::Uuid(Uuid::from_bytes(*array(rest)?)),
        TIMESTAMP => {
            let micros = i64::from_be_bytes(*array(rest)?);
            Value::Timestamp(DateTime::from_timestamp_micros(micros)?)
        }
        DATE => Value::Date(NaiveDate::from_epoch_days(i32::from_be_bytes(*array(
            rest,
        )?))?),
        _ => return None,
    })
}

/// LEB128: seven bits a byte, the lowest first.
fn length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

fn read_length(rest: &mut &[u8]) -> Option<usize> {
    let mut length = 0;
    for shift in (0..35).step_by(7) {
        let byte = byte(rest)?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(length);
        }
    }
    None
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    array::<1>(rest).map(|[byte]| *byte)
}

fn array<'b, const N: usize>(rest: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (taken, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_type_are_read_as_they_were_written() {
        let moment: DateTime<chrono::Utc> = "2026-11-22T10:00:00.000001Z".parse().unwrap();
        let old: DateTime<chrono::Utc> = "0001-01-01T00:00:00Z".parse().unwrap();
        let day: NaiveDate = "9999-12-31".parse().unwrap();
        let upserts: Vec<RowKey> = vec![
            vec![Uuid::from_u128(7).into(), "ü, \"x\"".into()],
            vec![i64::MIN.into(), true.into(), false.into()],
            vec![moment.into(), old.into(), day.into(), "".into()],
            vec!["x".repeat(1_000).into()],
            vec![Value::Decimal("-12.50".parse().unwrap())],
        ];
        let deletes = vec![vec![(-1).into()], vec![Uuid::nil().into()]];
        let bytes = write(upserts.iter(), &deletes);
        assert_eq!(read(&bytes), Some(Keys { upserts, deletes }));
        assert_eq!(read(&write([].iter(), &[])), Some(Keys::default()));
    }

    #[test]
    fn other_bytes_are_not_taken_for_keys() {
        let key: RowKey = vec![Uuid::from_u128(7).into(), "text".into()];
        let bytes = write([&key].into_iter(), &[]);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), None, "{end}");
        }
        let mut newer = bytes.clone();
        newer[0] = FORM + 1;
        assert_eq!(read(&newer), None);
        let mut unknown = bytes;
        unknown[3] = 99;
        assert_eq!(read(&unknown), None);
    }
}
