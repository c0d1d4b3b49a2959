//! Values as MySQL and MariaDB hold them, and how many rows go into one statement. It sends nothing.

use chrono::{NaiveDate, NaiveDateTime};
use events::Partition;
use sqlx::Row as _;
use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::query::Query;
use uuid::Uuid;

use super::key;
use crate::rows::Cells;
use crate::{ColumnType, CommitError, Decimal, Error, Row, RowKey, Value, bookkeeping};

type Sql<'q> = Query<'q, sqlx::MySql, MySqlArguments>;

/// Rows in one statement, greatest first: few sizes, so that few statements are prepared.
const SIZES: [usize; 6] = [1_024, 256, 64, 16, 4, 1];
/// A statement takes 65,535 parameters.
const PARAMETERS: usize = 60_000;
/// What a statement's rows hold at most, if they are several: a quarter of the smallest packet that is accepted.
const STATEMENT_BYTES: usize = 4 << 20;
/// What one row holds at most.
const ROW_BYTES: usize = 12 << 20;
/// What a value that is no text takes, at most.
const VALUE_BYTES: usize = 24;
/// What a byte of text takes in JSON, at most.
const JSON: usize = 6;

/// A row on its way, with its key's bytes and how many it takes in all.
pub(super) struct Encoded<'r> {
    key: Vec<u8>,
    row: &'r (RowKey, Row),
    bytes: usize,
}

/// Rows in the order of their keys, so that workers take the database's locks in one order.
pub(super) fn encode(rows: &[(RowKey, Row)]) -> Result<Vec<Encoded<'_>>, CommitError> {
    let mut encoded = Vec::with_capacity(rows.len());
    for row in rows {
        let values = row.0.iter().chain(&row.1.values);
        let bytes = values.map(size).sum::<usize>() + 4 * VALUE_BYTES;
        if bytes > ROW_BYTES {
            return Err(CommitError::Refused(format!(
                "a row of {bytes} bytes; this mirror takes {ROW_BYTES}"
            )));
        }
        let key = key::bytes(&row.0);
        encoded.push(Encoded { key, row, bytes });
    }
    encoded.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(encoded)
}

fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len() + VALUE_BYTES,
        Value::List(texts) => texts.iter().map(|text| JSON * (text.len() + 1)).sum(),
        _ => VALUE_BYTES,
    }
}

/// As many rows as fit into one statement, again and again.
pub(super) fn chunks<'a, 'r>(
    rows: &'a [Encoded<'r>],
    columns: usize,
) -> impl Iterator<Item = &'a [Encoded<'r>]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let fits = |size: &&usize| {
            **size <= rest.len()
                && (**size == 1
                    || (*size * columns <= PARAMETERS
                        && rest[..**size].iter().map(|row| row.bytes).sum::<usize>()
                            <= STATEMENT_BYTES))
        };
        let size = SIZES.iter().find(fits)?;
        let (chunk, others) = rest.split_at(*size);
        rest = others;
        Some(chunk)
    })
}

/// Binds each row's key, columns, partition, position and moment.
pub(super) fn bind_rows<'q>(
    mut query: Sql<'q>,
    rows: &[Encoded<'_>],
    partition: Partition,
) -> Sql<'q> {
    for Encoded {
        key,
        row: (columns, row),
        ..
    } in rows
    {
        query = query.bind(key.clone());
        for value in columns.iter().chain(&row.values) {
            query = bind(query, value);
        }
        query = query
            .bind(i64::from(partition.0))
            .bind(row.position.as_i64())
            .bind(row.updated_at.map(|moment| moment.naive_utc()));
    }
    query
}

/// Keys in chunks that are bound with their last one repeated up to the size given, which changes nothing inside `IN (…)`.
pub(super) fn padded_chunks(keys: &[RowKey]) -> impl Iterator<Item = (&[RowKey], usize)> {
    keys.chunks(SIZES[0]).map(|chunk| {
        let size = SIZES.iter().rev().find(|size| **size >= chunk.len());
        (chunk, *size.unwrap_or(&SIZES[0]))
    })
}

pub(super) fn bind_keys<'q>(mut query: Sql<'q>, keys: &[RowKey], size: usize) -> Sql<'q> {
    let last = keys.last();
    for key in keys.iter().chain(last.into_iter().cycle()).take(size) {
        query = query.bind(key::bytes(key));
    }
    query
}

pub(super) fn bind<'q>(query: Sql<'q>, value: &Value) -> Sql<'q> {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Boolean(yes) => query.bind(*yes),
        Value::Integer(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.clone()),
        Value::Uuid(id) => query.bind(id.to_string()),
        Value::Timestamp(moment) => query.bind(moment.naive_utc()),
        Value::Date(day) => query.bind(*day),
        Value::Decimal(number) => query.bind(number.to_string()),
        Value::List(texts) => query.bind(serde_json::json!(texts).to_string()),
    }
}

fn read(row: &MySqlRow, index: usize, column_type: ColumnType) -> Result<Value, Error> {
    Ok(match column_type {
        ColumnType::Text | ColumnType::Personal => row.try_get::<Option<String>, _>(index)?.into(),
        ColumnType::Integer => row.try_get::<Option<i64>, _>(index)?.into(),
        ColumnType::Boolean => row.try_get::<Option<bool>, _>(index)?.into(),
        ColumnType::Timestamp => row
            .try_get::<Option<NaiveDateTime>, _>(index)?
            .map(|moment| moment.and_utc())
            .into(),
        ColumnType::Date => row.try_get::<Option<NaiveDate>, _>(index)?.into(),
        // The driver reads these as text when it is not asked whether they are.
        ColumnType::Uuid | ColumnType::Decimal { .. } | ColumnType::List => {
            match row.try_get_unchecked::<Option<String>, _>(index)? {
                None => Value::Null,
                Some(text) => parse(&text, column_type)
                    .ok_or_else(|| bookkeeping::damaged("a stored value"))?,
            }
        }
    })
}

fn parse(text: &str, column_type: ColumnType) -> Option<Value> {
    Some(match column_type {
        ColumnType::Decimal { scale } => text.parse::<Decimal>().ok()?.rescaled(scale)?.into(),
        ColumnType::List => Value::List(serde_json::from_str(text).ok()?),
        _ => text.parse::<Uuid>().ok()?.into(),
    })
}

impl Cells for MySqlRow {
    fn value(&self, index: usize, column_type: ColumnType) -> Result<Value, Error> {
        read(self, index, column_type)
    }

    fn partition(&self, index: usize) -> Result<i64, Error> {
        Ok(self.try_get(index)?)
    }
}
