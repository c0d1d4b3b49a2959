//! Values as PostgreSQL holds them, one by one and as arrays of a column. It sends nothing.

use chrono::{DateTime, NaiveDate, Utc};
use events::{Partition, Position};
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use uuid::Uuid;

use crate::{ColumnType, Error, ReadModel, Row, RowKey, Value, bookkeeping};

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
    }
}

fn read(row: &PgRow, index: usize, column_type: ColumnType) -> Result<Value, Error> {
    Ok(match column_type {
        ColumnType::Text | ColumnType::Personal => row.try_get::<Option<String>, _>(index)?.into(),
        ColumnType::Integer => row.try_get::<Option<i64>, _>(index)?.into(),
        ColumnType::Boolean => row.try_get::<Option<bool>, _>(index)?.into(),
        ColumnType::Timestamp => row.try_get::<Option<DateTime<Utc>>, _>(index)?.into(),
        ColumnType::Date => row.try_get::<Option<NaiveDate>, _>(index)?.into(),
        ColumnType::Uuid => row.try_get::<Option<Uuid>, _>(index)?.into(),
    })
}

/// A row in its stored form: key, columns, partition, position, moment.
pub(super) fn stored_row(model: &ReadModel, row: &PgRow) -> Result<(RowKey, Row), Error> {
    let mut values = Vec::with_capacity(model.columns.len());
    let mut key = Vec::with_capacity(model.key.len());
    for (index, column) in model.key.iter().enumerate() {
        key.push(read(row, index, column.column_type)?);
    }
    for (index, column) in model.columns.iter().enumerate() {
        values.push(read(row, key.len() + index, column.column_type)?);
    }
    let hidden = key.len() + values.len();
    let partition: i16 = row.try_get(hidden)?;
    let partition =
        Partition(u16::try_from(partition).map_err(|_| bookkeeping::damaged("a partition"))?);
    let position = Position::from_i64(row.try_get(hidden + 1)?);
    let updated_at = row.try_get(hidden + 2)?;
    Ok((
        key,
        Row {
            values,
            partition,
            position,
            updated_at,
        },
    ))
}

/// Rows as readers see them, without the row that says that nothing was found.
pub(super) fn shown_rows(model: &ReadModel, rows: &[PgRow]) -> Result<Vec<Vec<Value>>, Error> {
    let types = model
        .key
        .iter()
        .chain(&model.columns)
        .map(|column| column.column_type);
    let types: Vec<ColumnType> = types
        .chain([ColumnType::Integer, ColumnType::Timestamp])
        .collect();
    let shown = |row| {
        types
            .iter()
            .enumerate()
            .map(|(index, of)| read(row, index, *of))
            .collect::<Result<Vec<_>, _>>()
    };
    let all: Vec<Vec<Value>> = rows.iter().map(shown).collect::<Result<_, _>>()?;
    Ok(all
        .into_iter()
        .filter(|row| row[0] != Value::Null)
        .collect())
}
