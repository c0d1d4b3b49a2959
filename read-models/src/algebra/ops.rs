//! The operations on one column: which ones a definition allows, and what each makes of a value. They are pure.

use std::cmp::Ordering;

use super::Op;
use crate::{Column, ColumnType, Decimal, Merge, ReadModel, Value};

/// The most bytes of text in a column that an index names: with four of them, and a key, an index entry stays within the
/// 2,700 bytes that PostgreSQL can hold.
const INDEXED_TEXT_BYTES: usize = 512;

/// Says whether the definition allows the operation, and every database can store its value.
pub(super) fn check_op(model: &ReadModel, column: usize, op: &Op) -> Result<(), String> {
    use ColumnType as T;
    let column = &model.columns[column];
    let name = &column.name;
    match (op, column.column_type) {
        (Op::Add(_), T::Integer | T::Decimal { .. }) | (Op::AddDecimal(_), T::Decimal { .. }) => {
            check_merge(model, column, Merge::Sum)
        }
        (Op::Add(_), _) => Err(format!(
            "only integers and decimals can be added to, and the column {name:?} is none"
        )),
        (Op::AddDecimal(_), _) => Err(format!(
            "a decimal can only be added to a decimal, and the column {name:?} is none"
        )),
        (Op::Append(_) | Op::Remove(_), of) if of != T::List => Err(format!(
            "only lists can be appended to and removed from, and the column {name:?} is none"
        )),
        (Op::Min(_) | Op::Max(_), of) if !of.is_ordered() => Err(format!(
            "the column {name:?} is {of:?}: its values have no order"
        )),
        (Op::Min(value), _) => {
            check_merge(model, column, Merge::Min)?;
            check_value(model, column, value)
        }
        (Op::Max(value), _) => {
            check_merge(model, column, Merge::Max)?;
            check_value(model, column, value)
        }
        _ if model.shared => Err(format!(
            "the column {name:?} stands in rows that partitions share; it may only be changed by {:?}",
            column.merge()
        )),
        (Op::Set(value), _) => check_value(model, column, value),
        (Op::Append(_) | Op::Remove(_), _) => Ok(()),
    }
}

fn check_value(model: &ReadModel, column: &Column, value: &Value) -> Result<(), String> {
    if let Value::Text(text) = value
        && text.len() > INDEXED_TEXT_BYTES
        && model
            .indexes
            .iter()
            .flatten()
            .any(|name| *name == column.name)
    {
        return Err(format!(
            "the text for the column {:?} has {} bytes, and an index names the column: at most {INDEXED_TEXT_BYTES} fit",
            column.name,
            text.len()
        ));
    }
    column.check(value)
}

/// Partial rows come out right only if each is changed in the way in which they merge.
fn check_merge(model: &ReadModel, column: &Column, merge: Merge) -> Result<(), String> {
    if !model.shared || column.merge() == merge {
        return Ok(());
    }
    Err(format!(
        "the column {:?} stands in rows that partitions share and merge by {:?}; it may not be changed by {merge:?}",
        column.name,
        column.merge()
    ))
}

/// What stands in the column afterwards, if that is something else. The operation has been checked.
pub(super) fn result(before: &Value, op: Op, column: &Column) -> Result<Option<Value>, String> {
    let keeps = |new: &Value, order: Ordering| {
        *new == Value::Null || (*before != Value::Null && new.cmp(before) != order)
    };
    let mut new = match op {
        Op::Add(number) => match column.column_type {
            ColumnType::Decimal { scale } => decimal_sum(before, number.into(), scale, column)?,
            _ => integer_sum(before, number, column)?,
        },
        Op::AddDecimal(number) => match column.column_type {
            ColumnType::Decimal { scale } => decimal_sum(before, number, scale, column)?,
            _ => return Ok(None),
        },
        Op::Min(new) if keeps(&new, Ordering::Less) => return Ok(None),
        Op::Max(new) if keeps(&new, Ordering::Greater) => return Ok(None),
        Op::Set(new) | Op::Min(new) | Op::Max(new) => new,
        Op::Append(text) => {
            let mut texts = match before {
                Value::List(texts) => texts.clone(),
                _ => Vec::new(),
            };
            texts.push(text);
            Value::List(texts)
        }
        Op::Remove(text) => match before {
            Value::List(texts) if texts.contains(&text) => {
                Value::List(texts.iter().filter(|t| **t != text).cloned().collect())
            }
            _ => return Ok(None),
        },
    };
    if let Value::List(_) = &new {
        column.check_storable(&new)?;
    }
    new.normalise(column.column_type);
    Ok(Some(new))
}

fn integer_sum(before: &Value, number: i64, column: &Column) -> Result<Value, String> {
    let sum = match before {
        Value::Integer(before) => before.checked_add(number),
        _ => Some(number),
    };
    sum.map(Value::Integer).ok_or_else(|| {
        format!(
            "the column {:?} would leave the range of 64-bit integers",
            column.name
        )
    })
}

fn decimal_sum(
    before: &Value,
    number: Decimal,
    scale: u8,
    column: &Column,
) -> Result<Value, String> {
    let before = match before {
        Value::Decimal(before) => *before,
        _ => Decimal::at(0, scale),
    };
    before.plus(number).map(Value::Decimal).ok_or_else(|| {
        format!(
            "{before} and {number} make a sum for the column {:?} that has more than {scale} digits after the point, or more \
             than 18 in all",
            column.name
        )
    })
}
