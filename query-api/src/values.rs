//! Values as clients write and read them in text: in keys, filters, cursors and CSV. It refuses what no database could store.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};
use read_models::{ColumnType, Value};

/// The years that every database can store.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

/// Reads a value of a column's type; nothing if the text is none. Personal values are written nowhere.
pub(crate) fn parse(text: &str, column_type: ColumnType) -> Option<Value> {
    match column_type {
        ColumnType::Text => (!text.contains('\0')).then(|| text.into()),
        ColumnType::Personal => None,
        ColumnType::Integer => text.parse().ok().map(Value::Integer),
        ColumnType::Boolean => text.parse().ok().map(Value::Boolean),
        ColumnType::Uuid => text.parse().ok().map(Value::Uuid),
        ColumnType::Date => {
            let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            YEARS.contains(&day.year()).then_some(Value::Date(day))
        }
        ColumnType::Timestamp => {
            let moment = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
            YEARS
                .contains(&moment.year())
                .then_some(Value::Timestamp(moment))
        }
    }
}

/// What [`parse`] reads for a type, in words.
pub(crate) fn form(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text | ColumnType::Personal => "text",
        ColumnType::Integer => "integer",
        ColumnType::Boolean => "true or false",
        ColumnType::Timestamp => "RFC 3339 time",
        ColumnType::Date => "YYYY-MM-DD",
        ColumnType::Uuid => "UUID",
    }
}

/// A value that is not null, as text that [`parse`] reads.
pub(crate) fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(yes) => yes.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Uuid(id) => id.to_string(),
        Value::Timestamp(moment) => moment_text(*moment),
        Value::Date(day) => day.format("%Y-%m-%d").to_string(),
    })
}

/// A moment as every answer writes it.
pub(crate) fn moment_text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Micros, true)
}
