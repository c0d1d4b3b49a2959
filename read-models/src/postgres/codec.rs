//! Values as PostgreSQL holds them, one by one and as arrays of a column. It sends nothing.

use chrono::{DateTime, NaiveDate, Utc};
use events::Partition;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use uuid::Uuid;

use super::numeric::Numeric;
use crate::rows::Cells;
use crate::{ColumnType, Error, ReadModel, Row, RowKey, Value};

type Sql<'q> = Query<'q, sqlx::Postgres, PgArguments>;

pub(super) fn small(partition: Partition) -> Result<i16, Error> {
    i16::try_from(partition.0)
        .map_err(|_| Error::Invalid(format!("there is no partition {partition}")))
}

/// Binds one array for each key column.
pub(super) fn bind_keys<'q>(query: Sql<'q>, model: &ReadModel, keys: &[RowKey]) -> Sql<'q> {
    let columns = model.key.iter().enumerate();
    columns.fold(query, |query, (i, column)| {
        bind_array(query, column.column_type, keys.iter().map(|key| &key[i]))
    })
}

/// Binds one array for each column, then the positions and the moments.
pub(super) fn bind_rows<'q>(query: Sql<'q>, model: &ReadModel, rows: &[(RowKey, Row)]) -> Sql<'q> {
    let key = model.key.iter().enumerate();
    let query = key.fold(query, |query, (i, column)| {
        bind_array(
            query,
            column.column_type,
            rows.iter().map(|(key, _)| &key[i]),
        )
    });
    let columns = model.columns.iter().enumerate();
    let query = columns.fold(query, |query, (i, column)| {
        bind_array(
            query,
            column.column_type,
            rows.iter().map(|(_, row)| &row.values[i]),
        )
    });
    let positions: Vec<i64> = rows.iter().map(|(_, row)| row.position.as_i64()).collect();
    let moments: Vec<Option<DateTime<Utc>>> = rows.iter().map(|(_, row)| row.updated_at).collect();
    query.bind(positions).bind(moments)
}

/// Values of another type have been refused before ([`crate::checks::writes`]); what is left over is null.
fn bind_array<'q, 'v>(
    query: Sql<'q>,
    column_type: ColumnType,
    values: impl Iterator<Item = &'v Value>,
) -> Sql<'q> {
    macro_rules! array {
        ($variant:ident, $type:ty, $value:ident => $taken:expr) => {{
            let array: Vec<Option<$type>> = values
                .map(|value| {
                    if let Value::$variant($value) = value {
                        Some($taken)
                    } else {
                        None
                    }
                })
                .collect();
            query.bind(array)
        }};
    }
    match column_type {
        ColumnType::Text | ColumnType::Personal => array!(Text, &str, text => text.as_str()),
        ColumnType::Integer => array!(Integer, i64, number => *number),
        ColumnType::Boolean => array!(Boolean, bool, yes => *yes),
        ColumnType::Timestamp => array!(Timestamp, DateTime<Utc>, moment => *moment),
        ColumnType::Date => array!(Date, NaiveDate, day => *day),
        ColumnType::Uuid => array!(Uuid, Uuid, id => *id),
        ColumnType::Decimal { .. } => array!(Decimal, Numeric, number => Numeric(*number)),
        ColumnType::List => array!(List, String, texts => array_text(texts)),
    }
}

/// Binds a value that is not null.
pub(super) fn bind<'q>(query: Sql<'q>, value: &Value) -> Sql<'q> {
    match value {
        Value::Null => query.bind(None::<String>),
        Value::Boolean(yes) => query.bind(*yes),
        Value::Integer(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.clone()),
        Value::Uuid(id) => query.bind(*id),
        Value::Timestamp(moment) => query.bind(*moment),
        Value::Date(day) => query.bind(*day),
        Value::Decimal(number) => query.bind(Numeric(*number)),
        Value::List(texts) => query.bind(texts.clone()),
    }
}

/// A list as PostgreSQL writes arrays: arrays of arrays cannot be parameters, their lengths would have to be the same.
fn array_text(texts: &[String]) -> String {
    let mut array = String::from("{");
    for (index, text) in texts.iter().enumerate() {
        array.push_str(if index == 0 { "\"" } else { ",\"" });
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                array.push('\\');
            }
            array.push(character);
        }
        array.push('"');
    }
    array.push('}');
    array
}

fn read(row: &PgRow, index: usize, column_type: ColumnType) -> Result<Value, Error> {
    Ok(match column_type {
        ColumnType::Text | ColumnType::Personal => row.try_get::<Option<String>, _>(index)?.into(),
        ColumnType::Integer => row.try_get::<Option<i64>, _>(index)?.into(),
        ColumnType::Boolean => row.try_get::<Option<bool>, _>(index)?.into(),
        ColumnType::Timestamp => row.try_get::<Option<DateTime<Utc>>, _>(index)?.into(),
        ColumnType::Date => row.try_get::<Option<NaiveDate>, _>(index)?.into(),
        ColumnType::Uuid => row.try_get::<Option<Uuid>, _>(index)?.into(),
        ColumnType::Decimal { .. } => {
            let number = row.try_get::<Option<Numeric>, _>(index)?;
            number.map(|Numeric(number)| number).into()
        }
        ColumnType::List => row.try_get::<Option<Vec<String>>, _>(index)?.into(),
    })
}

impl Cells for PgRow {
    fn value(&self, index: usize, column_type: ColumnType) -> Result<Value, Error> {
        read(self, index, column_type)
    }

    fn partition(&self, index: usize) -> Result<i64, Error> {
        Ok(i64::from(self.try_get::<i16, _>(index)?))
    }
}
