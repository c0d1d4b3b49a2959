//! The algebra of changes: what a projection may do to rows, and how changes to one row fold into its net state.
//!
//! Folding is pure and deterministic: the same events give the same rows, or the same error, in whatever batches they
//! come. It refuses what a definition does not allow, and what one of the databases could not store.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::mem;

use chrono::{DateTime, Utc};
use events::{Partition, Position};

use crate::{Column, ColumnType, Decimal, Merge, ReadModel, Value};

/// The most bytes of text in one key: PostgreSQL's index entries end at about 2,700.
const KEY_TEXT_BYTES: usize = 1_024;

/// A row's key: the values of the key columns, in order.
pub type RowKey = Vec<Value>;

/// What is done to one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Takes this value.
    Set(Value),
    /// Adds to an integer or a decimal; nothing counts as 0.
    Add(i64),
    /// Adds to a decimal; nothing counts as 0.
    AddDecimal(Decimal),
    /// Takes the value if it is smaller than what stands there, or if nothing does. `Null` changes nothing.
    Min(Value),
    /// Takes the value if it is greater than what stands there, or if nothing does. `Null` changes nothing.
    Max(Value),
    /// Puts a text at the end of a list, also where the list has it already; nothing counts as the empty list.
    Append(String),
    /// Takes every text that equals this one out of a list. A list that gets empty stays a list; nothing stays nothing.
    Remove(String),
}

/// One change to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Makes the row if it is not there, then does this to its columns (by index in `ReadModel::columns`).
    Upsert(Vec<(usize, Op)>),
    /// Does this to the row's columns, if the row is there.
    Update(Vec<(usize, Op)>),
    /// Removes the row, if it is there.
    Delete,
}

/// Where a projection writes the changes that one event causes.
#[derive(Debug)]
pub struct Changes<'m> {
    model: &'m ReadModel,
    list: Vec<(RowKey, Change)>,
    /// The first mistake; the fold reports it.
    problem: Option<String>,
}

/// A row as it stands in a table: its own columns and the hidden ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The values of the other columns, in the order of [`ReadModel::columns`].
    pub values: Vec<Value>,
    /// The partition it belongs to.
    pub partition: Partition,
    /// The position of the last event that changed it.
    pub position: Position,
    /// That event's recorded-at.
    pub updated_at: Option<DateTime<Utc>>,
}

/// Where and when the event that causes changes was recorded; it sets the hidden columns of the rows it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPlace {
    /// The partition of its stream.
    pub partition: Partition,
    /// Its place in the log.
    pub position: Position,
    /// Its metadata's recorded-at, if that can be read.
    pub recorded_at: Option<DateTime<Utc>>,
}

/// The projection did what its definition does not allow; deterministic, so it parks the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read model {model}: {problem}")]
pub struct FoldError {
    /// The read model.
    pub model: String,
    /// What is wrong.
    pub problem: String,
}

impl<'m> Changes<'m> {
    /// Nothing yet.
    pub fn new(model: &'m ReadModel) -> Self {
        Self {
            model,
            list: Vec::new(),
            problem: None,
        }
    }

    /// Makes the row if it is not there, and does this to the named columns.
    pub fn upsert<const N: usize>(&mut self, key: impl Into<RowKey>, ops: [(&str, Op); N]) {
        let ops = self.resolve(ops);
        self.push(key, Change::Upsert(ops));
    }

    /// Does this to the named columns of a row that is there; nothing otherwise.
    pub fn update<const N: usize>(&mut self, key: impl Into<RowKey>, ops: [(&str, Op); N]) {
        self.update_all(key, ops);
    }

    /// The same, with as many operations as there happen to be.
    pub fn update_all<'a>(
        &mut self,
        key: impl Into<RowKey>,
        ops: impl IntoIterator<Item = (&'a str, Op)>,
    ) {
        let ops = self.resolve(ops);
        self.push(key, Change::Update(ops));
    }

    /// Removes the row.
    pub fn delete(&mut self, key: impl Into<RowKey>) {
        self.push(key, Change::Delete);
    }

    /// The keys of the rows that [`fold`] will need, in the order of the changes; one may come twice.
    pub fn keys(&self) -> impl Iterator<Item = &RowKey> {
        self.list.iter().map(|(key, _)| key)
    }

    /// The same keys, and whether the row comes out the same whatever is stored: it is removed, or every column is set.
    /// Then its first change in a batch needs no look at the table.
    pub fn touched(&self) -> impl Iterator<Item = (&RowKey, bool)> {
        self.list.iter().map(|(key, change)| {
            let replaced = match change {
                Change::Delete => true,
                Change::Update(_) => false,
                Change::Upsert(ops) => (0..self.model.columns.len()).all(|column| {
                    ops.iter()
                        .any(|(index, op)| *index == column && matches!(op, Op::Set(_)))
                }),
            };
            (key, replaced)
        })
    }

    /// The event changes nothing (and made no mistake).
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.problem.is_none()
    }

    fn push(&mut self, key: impl Into<RowKey>, change: Change) {
        let mut key = key.into();
        for (value, column) in key.iter_mut().zip(&self.model.key) {
            value.normalise(column.column_type);
        }
        self.list.push((key, change));
    }

    fn resolve<'a>(&mut self, ops: impl IntoIterator<Item = (&'a str, Op)>) -> Vec<(usize, Op)> {
        let ops = ops.into_iter();
        let mut resolved = Vec::with_capacity(ops.size_hint().0);
        for (name, op) in ops {
            match self.model.columns.iter().position(|c| c.name == name) {
                Some(index) => resolved.push((index, op)),
                None if self.problem.is_none() => {
                    self.problem = Some(undeclared(self.model, name));
                }
                None => {}
            }
        }
        resolved
    }
}

fn undeclared(model: &ReadModel, name: &str) -> String {
    if model.key.iter().any(|c| c.name == name) {
        format!(
            "the projection writes the key column {name:?}; a key is given with the change and never changes"
        )
    } else {
        format!("the projection writes the column {name:?}, which is not declared")
    }
}

/// The rows touched by a batch: `None` says the row is not there.
pub type Rows = HashMap<RowKey, Option<Row>>;

/// Takes the changes of one event into rows: all of them, or on an error none.
///
/// `rows` must hold every key that the changes name ([`Changes::keys`]), with `None` where no row is stored.
pub fn fold(rows: &mut Rows, changes: Changes<'_>, at: EventPlace) -> Result<(), FoldError> {
    let Changes {
        model,
        list: mut changes,
        problem,
    } = changes;
    let mut fold = Fold {
        model,
        at,
        undo: Vec::new(),
    };
    let outcome = match problem {
        Some(problem) => Err(problem),
        None => changes
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, (key, change))| fold.change(rows, index, key, change)),
    };
    outcome.map_err(|problem| {
        for (index, undo) in fold.undo.into_iter().rev() {
            if let Some(slot) = rows.get_mut(&changes[index].0) {
                undo.take_back(slot);
            }
        }
        FoldError {
            model: model.name.clone(),
            problem,
        }
    })
}

/// One step of a fold, as it was before.
enum Undo {
    Row(Option<Row>),
    Column(usize, Value),
    Touch(Position, Option<DateTime<Utc>>),
}

impl Undo {
    fn take_back(self, slot: &mut Option<Row>) {
        match (self, slot) {
            (Self::Row(before), slot) => *slot = before,
            (Self::Column(column, before), Some(row)) => row.values[column] = before,
            (Self::Touch(position, updated_at), Some(row)) => {
                (row.position, row.updated_at) = (position, updated_at);
            }
            (_, None) => {}
        }
    }
}

struct Fold<'m> {
    model: &'m ReadModel,
    at: EventPlace,
    /// With the index of the change that each step belongs to.
    undo: Vec<(usize, Undo)>,
}

impl Fold<'_> {
    fn change(
        &mut self,
        rows: &mut Rows,
        index: usize,
        key: &RowKey,
        change: &mut Change,
    ) -> Result<(), String> {
        let model = self.model;
        check_key(model, key)?;
        if model.shared && !matches!(change, Change::Upsert(_)) {
            return Err(
                "the projection updates or deletes a row that partitions share; it may only upsert"
                    .into(),
            );
        }
        let slot = rows.get_mut(key).ok_or_else(|| {
            format!("the row {key:?} was not loaded before folding: a defect of the caller")
        })?;
        if let Some(row) = slot
            .as_ref()
            .filter(|row| row.partition != self.at.partition)
        {
            return Err(format!(
                "streams of the partitions {} and {} both change the row {key:?}; make the stream's id part of the key, \
                 or let partitions share rows (.summed())",
                row.partition, self.at.partition
            ));
        }
        let (ops, made) = match change {
            Change::Delete => {
                if let Some(row) = slot.take() {
                    self.undo.push((index, Undo::Row(Some(row))));
                }
                return Ok(());
            }
            Change::Update(ops) => (mem::take(ops), false),
            Change::Upsert(ops) => (mem::take(ops), slot.is_none()),
        };
        if made {
            self.undo.push((index, Undo::Row(None)));
            *slot = Some(new_row(model, self.at));
        }
        let Some(row) = slot else {
            // Nothing is there to update; what is wrong in the operations is told all the same, so that the outcome
            // does not hang on what came before.
            return ops
                .iter()
                .try_for_each(|(column, op)| check_op(model, *column, op));
        };
        if !ops.is_empty() && !made {
            self.undo
                .push((index, Undo::Touch(row.position, row.updated_at)));
            (row.position, row.updated_at) = (
                self.at.position,
                self.at.recorded_at.map(crate::value::to_micros),
            );
        }
        for (column, op) in ops {
            check_op(model, column, &op)?;
            if let Some(value) = result(&row.values[column], op, &model.columns[column])? {
                let before = mem::replace(&mut row.values[column], value);
                self.undo.push((index, Undo::Column(column, before)));
            }
        }
        Ok(())
    }
}

fn new_row(model: &ReadModel, at: EventPlace) -> Row {
    let empty = |column: &Column| match (model.shared, column.merge(), column.column_type) {
        (true, Merge::Sum, ColumnType::Decimal { scale }) => Decimal::at(0, scale).into(),
        (true, Merge::Sum, _) => Value::Integer(0),
        _ => Value::Null,
    };
    Row {
        values: model.columns.iter().map(empty).collect(),
        partition: at.partition,
        position: at.position,
        updated_at: at.recorded_at.map(crate::value::to_micros),
    }
}

fn check_key(model: &ReadModel, key: &RowKey) -> Result<(), String> {
    if key.len() != model.key.len() {
        return Err(format!(
            "a key has {} values, the projection gave {}",
            model.key.len(),
            key.len()
        ));
    }
    let mut text = 0;
    for (column, value) in model.key.iter().zip(key) {
        if *value == Value::Null {
            return Err(format!("the key column {:?} is never null", column.name));
        }
        column.check(value)?;
        if let Value::Text(part) = value {
            text += part.len();
        }
    }
    if text > KEY_TEXT_BYTES {
        return Err(format!(
            "a key has at most {KEY_TEXT_BYTES} bytes of text, this one {text}"
        ));
    }
    Ok(())
}

fn check_op(model: &ReadModel, column: usize, op: &Op) -> Result<(), String> {
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
            column.check(value)
        }
        (Op::Max(value), _) => {
            check_merge(model, column, Merge::Max)?;
            column.check(value)
        }
        _ if model.shared => Err(format!(
            "the column {name:?} stands in rows that partitions share; it may only be changed by {:?}",
            column.merge()
        )),
        (Op::Set(value), _) => column.check(value),
        (Op::Append(_) | Op::Remove(_), _) => Ok(()),
    }
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
fn result(before: &Value, op: Op, column: &Column) -> Result<Option<Value>, String> {
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

#[cfg(test)]
mod tests;
