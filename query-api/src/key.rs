//! A row's key in a URL: the values of the key columns, percent-encoded, separated by commas. It refuses what no stored
//! key can be.

use percent_encoding::percent_decode_str;
use read_models::{Column, RowKey, Value};
use web::Problem;

use crate::values;

/// Reads the last segment of a path, still encoded, as a key; 400 says how the key is written.
pub(crate) fn parse(segment: &str, columns: &[Column]) -> Result<RowKey, Problem> {
    let parts: Vec<_> = segment.split(',').collect();
    let values = (parts.len() == columns.len())
        .then(|| {
            parts
                .iter()
                .zip(columns)
                .map(|(part, column)| value(part, column))
                .collect()
        })
        .flatten();
    values.ok_or_else(|| {
        let form: Vec<_> = columns.iter().map(|column| format!("{{{}: {}}}", column.name, values::form(column.column_type))).collect();
        Problem::malformed(format!(
            "The key in the path is written {}, percent-encoded, with nothing between but the commas.",
            form.join(",")
        ))
    })
}

fn value(encoded: &str, column: &Column) -> Option<Value> {
    let text = percent_decode_str(encoded).decode_utf8().ok()?;
    values::parse(&text, column)
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use read_models::ColumnType;

    use super::*;

    fn columns(types: &[ColumnType]) -> Vec<Column> {
        let column = |(i, t): (usize, &ColumnType)| Column::new(&format!("c{i}"), *t);
        types.iter().enumerate().map(column).collect()
    }

    #[test]
    fn keys_of_every_type_are_read() {
        use ColumnType as T;
        let read = |text: &str, types: &[T]| parse(text, &columns(types)).unwrap();
        assert_eq!(
            read("a%2Cb,-7", &[T::Text, T::Integer]),
            ["a,b".into(), Value::Integer(-7)]
        );
        assert_eq!(read("", &[T::Text]), ["".into()]);
        assert_eq!(read("%C3%BC%2F+", &[T::Text]), ["ü/+".into()]);
        assert_eq!(
            read("2026-11-22", &[T::Date])[0],
            NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().into()
        );
        assert_eq!(read("true", &[T::Boolean]), [true.into()]);
        let moment = read("2026-11-22T10:00:00.000001%2B01:00", &[T::Timestamp]);
        assert_eq!(
            moment[0],
            Value::Timestamp("2026-11-22T09:00:00.000001Z".parse().unwrap())
        );
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_form() {
        use ColumnType as T;
        for (text, types) in [
            ("x", &[T::Uuid][..]),
            ("1,2", &[T::Integer]),
            ("1", &[T::Integer, T::Integer]),
            ("9223372036854775808", &[T::Integer]),
            ("%00", &[T::Text]),
            ("%FF", &[T::Text]),
            ("2026-02-30", &[T::Date]),
            ("99999-01-01T00:00:00Z", &[T::Timestamp]),
        ] {
            assert_eq!(
                parse(text, &columns(types)).unwrap_err().code(),
                "malformed",
                "{text}"
            );
        }
        let problem = parse("x", &columns(&[T::Date, T::Text])).unwrap_err();
        assert!(
            problem.detail().contains("{c0: YYYY-MM-DD},{c1: text}"),
            "{}",
            problem.detail()
        );
    }
}
