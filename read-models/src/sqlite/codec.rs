//! Values as SQLite holds them: integers, text in forms whose byte order is the values' order, and lists as JSON. It
//! sends nothing.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use events::Partition;
use sqlx::Row as _;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};

use crate::rows::Cells;
use crate::{ColumnType, Decimal, Error, Row, RowKey, Value, bookkeeping};

type Sql<'q> = Query<'q, sqlx::Sqlite, SqliteArguments>;

/// Rows in one statement, greatest first: few sizes, so that few statements are prepared.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];
/// SQLite takes 32,766 parameters; half of it is fast enough.
const PARAMETERS: usize = 16_000;

/// `columns` are a row's values; three hidden ones come with them.
pub(super) fn chunks<T>(rows: &[T], columns: usize) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let fits = |size: &&usize| {
            **size <= rest.len() && (**size == 1 || *size * (columns + 3) <= PARAMETERS)
        };
        let size = SIZES.iter().find(fits)?;
        let (chunk, others) = rest.split_at(*size);
        rest = others;
        Some(chunk)
    })
}

/// Chunks that are bound with their last key repeated up to the size given, which changes nothing inside `IN (…)`.
pub(super) fn padded_chunks(
    keys: &[RowKey],
    columns: usize,
) -> impl Iterator<Item = (&[RowKey], usize)> {
    let greatest = *SIZES
        .iter()
        .find(|size| *size * columns <= PARAMETERS)
        .unwrap_or(&1);
    keys.chunks(greatest).map(move |chunk| {
        let size = SIZES
            .iter()
            .rev()
            .find(|size| **size >= chunk.len())
            .unwrap_or(&greatest);
        (chunk, *size)
    })
}

pub(super) fn bind_keys<'q>(
    mut query: Sql<'q>,
    keys: &[RowKey],
    size: usize,
    partition: Option<Partition>,
) -> Sql<'q> {
    let last = keys.last();
    for value in keys
        .iter()
        .chain(last.into_iter().cycle())
        .take(size)
        .flatten()
    {
        query = bind(query, value);
    }
    match partition {
        Some(partition) => query.bind(i64::from(partition.0)),
        None => query,
    }
}

pub(super) fn bind_rows<'q>(
    mut query: Sql<'q>,
    rows: &[(RowKey, Row)],
    partition: Partition,
) -> Sql<'q> {
    for (key, row) in rows {
        for value in key.iter().chain(&row.values) {
            query = bind(query, value);
        }
        query = query
            .bind(i64::from(partition.0))
            .bind(row.position.as_i64())
            .bind(row.updated_at.map(moment_text));
    }
    query
}

pub(super) fn bind<'q>(query: Sql<'q>, value: &Value) -> Sql<'q> {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Boolean(yes) => query.bind(i64::from(*yes)),
        Value::Integer(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.clone()),
        Value::Uuid(id) => query.bind(id.to_string()),
        Value::Timestamp(moment) => query.bind(moment_text(*moment)),
        Value::Date(day) => query.bind(day.format("%Y-%m-%d").to_string()),
        Value::Decimal(number) => query.bind(number.units()),
        Value::List(texts) => query.bind(serde_json::json!(texts).to_string()),
    }
}

/// Fixed width for the years 1 to 9999, so that the order of the texts is the order of the moments.
fn moment_text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn read(row: &SqliteRow, index: usize, column_type: ColumnType) -> Result<Value, Error> {
    if let ColumnType::Integer | ColumnType::Boolean | ColumnType::Decimal { .. } = column_type {
        let number: Option<i64> = row.try_get(index)?;
        return Ok(match (number, column_type) {
            (None, _) => Value::Null,
            (Some(number), ColumnType::Boolean) => Value::Boolean(number != 0),
            (Some(units), ColumnType::Decimal { scale }) => Decimal::at(units, scale).into(),
            (Some(number), _) => Value::Integer(number),
        });
    }
    let Some(text) = row.try_get::<Option<String>, _>(index)? else {
        return Ok(Value::Null);
    };
    let value = match column_type {
        ColumnType::Uuid => text.parse().ok().map(Value::Uuid),
        ColumnType::Timestamp => DateTime::parse_from_rfc3339(&text)
            .ok()
            .map(|m| Value::Timestamp(m.to_utc())),
        ColumnType::Date => text.parse::<NaiveDate>().ok().map(Value::Date),
        ColumnType::List => serde_json::from_str(&text).ok().map(Value::List),
        _ => Some(Value::Text(text)),
    };
    value.ok_or_else(|| bookkeeping::damaged("a stored value"))
}

impl Cells for SqliteRow {
    fn value(&self, index: usize, column_type: ColumnType) -> Result<Value, Error> {
        read(self, index, column_type)
    }

    fn partition(&self, index: usize) -> Result<i64, Error> {
        Ok(self.try_get(index)?)
    }
}
