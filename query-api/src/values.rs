//! Values as clients write and read them in text: in keys, filters, cursors and CSV. It refuses what no database could store.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use read_models::{Column, ColumnType, Value};
use serde::{Serialize, Serializer};

use crate::scan::Scan;

/// Reads a value that the column can hold; nothing if the text is none. Personal values are written nowhere.
pub(crate) fn parse(text: &str, column: &Column) -> Option<Value> {
    let value = match column.column_type {
        ColumnType::Text => text.into(),
        ColumnType::Personal => return None,
        ColumnType::List => Value::List(array(text)?),
        ColumnType::Decimal { .. } => Value::Decimal(text.parse().ok()?),
        ColumnType::Integer => Value::Integer(text.parse().ok()?),
        ColumnType::Boolean => Value::Boolean(text.parse().ok()?),
        ColumnType::Uuid => Value::Uuid(text.parse().ok()?),
        ColumnType::Date => Value::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?),
        ColumnType::Timestamp => {
            let moment = DateTime::parse_from_rfc3339(text).ok()?;
            Value::Timestamp(moment.with_timezone(&Utc))
        }
    };
    column.fitted(value).ok()
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
        texts.push(scan.value(&[','])?);
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
        for text in ["", "a", "{", "{a", "a}", "{\"a}", "{\"a\"b}"] {
            assert_eq!(array(text), None, "{text}");
        }
    }
}
