//! Rows as they come out of a table, whatever the database: what differs is how it holds one value.

use chrono::{DateTime, Utc};
use events::{Partition, Position};

use crate::{ColumnType, Error, ReadModel, Row, RowKey, Value, bookkeeping};

/// One row of a database's answer.
pub(crate) trait Cells {
    /// The value of a column of this type.
    fn value(&self, index: usize, column_type: ColumnType) -> Result<Value, Error>;

    /// The hidden column of the partition, which may be a smaller integer than others.
    fn partition(&self, index: usize) -> Result<i64, Error>;
}

/// Rows in their stored form: key, columns, partition, position, moment.
pub(crate) fn stored(model: &ReadModel, rows: &[impl Cells]) -> Result<Vec<(RowKey, Row)>, Error> {
    rows.iter().map(|row| stored_row(model, row)).collect()
}

fn stored_row(model: &ReadModel, row: &impl Cells) -> Result<(RowKey, Row), Error> {
    let mut values = Vec::with_capacity(model.columns.len());
    let mut key = Vec::with_capacity(model.key.len());
    for (index, column) in model.key.iter().enumerate() {
        key.push(row.value(index, column.column_type)?);
    }
    for (index, column) in model.columns.iter().enumerate() {
        values.push(row.value(key.len() + index, column.column_type)?);
    }
    let hidden = key.len() + values.len();
    let partition = u16::try_from(row.partition(hidden)?)
        .map(Partition)
        .map_err(|_| bookkeeping::damaged("a partition"))?;
    let row = Row {
        values,
        partition,
        position: position(row, hidden + 1)?,
        updated_at: moment(row, hidden + 2)?,
    };
    Ok((key, row))
}

fn position(row: &impl Cells, index: usize) -> Result<Position, Error> {
    match row.value(index, ColumnType::Integer)? {
        Value::Integer(position) => Ok(Position::from_i64(position)),
        _ => Err(bookkeeping::damaged("a position")),
    }
}

fn moment(row: &impl Cells, index: usize) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(match row.value(index, ColumnType::Timestamp)? {
        Value::Timestamp(moment) => Some(moment),
        _ => None,
    })
}

/// Rows as readers see them, without the row that says that nothing was found.
pub(crate) fn shown(model: &ReadModel, rows: &[impl Cells]) -> Result<Vec<Vec<Value>>, Error> {
    let types: Vec<ColumnType> = model
        .key
        .iter()
        .chain(&model.columns)
        .map(|column| column.column_type)
        .chain([ColumnType::Integer, ColumnType::Timestamp])
        .collect();
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        let values = types
            .iter()
            .enumerate()
            .map(|(index, of)| row.value(index, *of))
            .collect::<Result<Vec<_>, _>>()?;
        if values[0] != Value::Null {
            shown.push(values);
        }
    }
    Ok(shown)
}
