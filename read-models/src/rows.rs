//! Rows as they come out of a table, whatever the database: what differs is how it holds one value.

use chrono::{DateTime, Utc};
use events::{Partition, Position};
use uuid::Uuid;

use crate::live::Stored;
use crate::{
    ColumnType, Error, Field, Page, Place, Query, ReadModel, Row, RowKey, Value, bookkeeping,
};

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

/// Keys with the owner behind them, where there is one.
pub(crate) fn owners(model: &ReadModel, rows: &[impl Cells]) -> Result<Vec<(RowKey, Uuid)>, Error> {
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let columns = model.key.iter().enumerate();
        let key = columns
            .map(|(index, column)| row.value(index, column.column_type))
            .collect::<Result<RowKey, _>>()?;
        if let Value::Uuid(owner) = row.value(model.key.len(), ColumnType::Uuid)? {
            found.push((key, owner));
        }
    }
    Ok(found)
}

/// A page from the rows that came back, of which there is at least one.
pub(crate) fn page(
    stored: &Stored,
    query: &Query,
    fetched: &[Field],
    rows: &[impl Cells],
) -> Result<Page, Error> {
    let place = |field: &Field| fetched.iter().position(|other| other == field);
    let places = |fields: &mut dyn Iterator<Item = &Field>| -> Vec<usize> {
        fields.filter_map(place).collect()
    };
    let select = places(&mut query.select.iter());
    let order = places(&mut query.order().iter().map(|order| &order.field));
    let key = fetched.iter().position(Field::is_key).unwrap_or_default();
    let mut page = Page {
        rows: Vec::with_capacity(rows.len()),
        next: None,
        total: None,
        place: Place {
            generation: stored.generation.clone(),
            log: stored.log,
            positions: Vec::new(),
            amended: 0,
        },
    };
    if let Some(first) = rows.first() {
        (page.place.amended, page.place.positions) = positions(first, fetched.len())?;
        if query.count {
            page.total = match first.value(fetched.len() + 1, ColumnType::Integer)? {
                Value::Integer(total) => u64::try_from(total).ok(),
                _ => None,
            };
        }
    }
    let mut last = Vec::new();
    for row in rows {
        let values = fetched
            .iter()
            .enumerate()
            .map(|(index, field)| row.value(index, field.column_type()))
            .collect::<Result<Vec<_>, _>>()?;
        if values[key] == Value::Null {
            break;
        }
        if page.rows.len() == query.limit as usize {
            page.next = Some(last);
            break;
        }
        last = order.iter().map(|&place| values[place].clone()).collect();
        page.rows
            .push(select.iter().map(|&place| values[place].clone()).collect());
    }
    Ok(page)
}

/// How often the table was amended, and how far it has come in each partition.
fn positions(row: &impl Cells, index: usize) -> Result<(u64, Vec<Position>), Error> {
    let Value::Text(text) = row.value(index, ColumnType::Text)? else {
        return Ok((0, Vec::new()));
    };
    let numbers: Result<Vec<i64>, _> = text.split(',').map(str::parse).collect();
    let numbers = numbers.map_err(|_| bookkeeping::damaged("a position"))?;
    let (amended, positions) = numbers.split_first().unwrap_or((&0, &[]));
    let positions = positions.iter().copied().map(Position::from_i64);
    Ok((amended.cast_unsigned(), positions.collect()))
}
