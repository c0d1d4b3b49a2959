//! Values as clients write and read them in text: in keys, filters, cursors and CSV. It refuses what no database could store.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};
use read_models::{ColumnType, Decimal, Value};
use serde::{Serialize, Serializer};

use crate::scan::Scan;

/// The years that every database can store.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

/// Reads a value of a column's type; nothing if the text is none. Personal values are written nowhere.
pub(crate) fn parse(text: &str, column_type: ColumnType) -> Option<Value> {
    match column_type {
        ColumnType::Text => (!text.contains('\0')).then(|| text.into()),
        ColumnType::Personal => None,
        ColumnType::List => array(text).map(Value::List),
        ColumnType::Decimal { scale } => {
            let number: Decimal = text.parse().ok()?;
            number.rescaled(scale).map(Value::Decimal)
        }
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
        ColumnType::List => "{text,\"text, quoted\"}",
        ColumnType::Decimal { .. } => "decimal number",
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
        Value::Decimal(number) => number.to_string(),
        Value::List(texts) => array_text(texts),
    })
}

/// A value as JSON has it in every answer.
pub(crate) fn serialize<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Timestamp(moment) => serializer.serialize_str(&moment_text(*moment)),
        value => value.serialize(serializer),
    }
}

/// Texts in braces, as PostgreSQL writes arrays: `{a,"b, c"}`.
fn array(text: &str) -> Option<Vec<String>> {
    let mut scan = Scan::new(text.strip_suffix('}')?);
    if !scan.take("{") {
        return None;
    }
    let mut texts = Vec::new();
    if scan.rest().is_empty() {
        return Some(texts);
    }
    loop {
        let text = scan.value(&[','])?;
        if text.contains('\0') {
            return None;
        }
        texts.push(text);
        if scan.rest().is_empty() {
            return Some(texts);
        }
        if !scan.take(",") {
            return None;
        }
    }
}

fn array_text(texts: &[String]) -> String {
    let quoted = |text: &String| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    };
    format!(
        "{{{}}}",
        texts.iter().map(quoted).collect::<Vec<_>>().join(",")
    )
}

/// A moment as every answer writes it.
pub(crate) fn moment_text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let texts = ["a", "", "b, c", "\"\\", "{}"].map(String::from);
        assert_eq!(array(&array_text(&texts)), Some(texts.to_vec()));
        assert_eq!(array("{a,b c}"), Some(vec!["a".into(), "b c".into()]));
        assert_eq!(array("{}"), Some(vec![]));
        for text in ["", "a", "{", "{a", "a}", "{\"a}", "{\"a\"b}", "{\0}"] {
            assert_eq!(array(text), None, "{text}");
        }
    }
}
