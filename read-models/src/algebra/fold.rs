//! Folding: how the changes of one event go into rows, all or none. It is pure and deterministic: the same events give the
//! same rows, or the same error, in whatever batches they come. It refuses what a definition does not allow, and what one
//! of the databases could not store.

use std::mem;

use chrono::{DateTime, Utc};
use events::Position;

use super::ops::{check_op, result};
use super::{Change, Changes, EventPlace, Op, Row, RowKey, Rows, Search, Step};
use crate::{Column, ColumnType, Decimal, Due, Merge, ReadModel, Value};

/// The most bytes of text in one key: PostgreSQL's index entries end at about 2,700.
pub(super) const KEY_TEXT_BYTES: usize = 1_024;
/// The most rows that one change may find ([`Changes::update_where`]): all of them are in memory and in one commit.
pub const ROWS_A_CHANGE: usize = 10_000;

/// The projection did what its definition does not allow; deterministic, so it parks the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read model {model}: {problem}")]
pub struct FoldError {
    /// The read model.
    pub model: String,
    /// What is wrong.
    pub problem: String,
}

/// Takes the changes of one event into rows: all of them, or on an error none.
///
/// `rows` must know every key that the changes name ([`Changes::keys`]), and hold every stored row of the partition that
/// they look for ([`Changes::searches`]).
pub fn fold(rows: &mut Rows, changes: Changes<'_>, at: EventPlace) -> Result<(), FoldError> {
    let Changes {
        model,
        mut list,
        problem,
    } = changes;
    let mut fold = Fold {
        model,
        at,
        due: at.recorded_at.and_then(|moment| model.due_at(moment)),
        undo: Vec::new(),
    };
    let problem = problem.or_else(|| timeless(model, at).filter(|_| !list.is_empty()));
    let outcome = match problem {
        Some(problem) => Err(problem),
        None => list
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, step)| fold.step(rows, index, step)),
    };
    outcome.map_err(|problem| {
        for (target, undo) in fold.undo.into_iter().rev() {
            let key = match (&target, &list) {
                (Target::Found(key), _) => key,
                (Target::Step(index), list) => match &list[*index] {
                    Step::Row(key, _) => key,
                    Step::Found(..) => continue,
                },
            };
            rows.forget_place(key);
            if let Some(slot) = rows.slot(key) {
                undo.take_back(slot);
            }
            rows.note_place(key);
        }
        FoldError {
            model: model.name.clone(),
            problem,
        }
    })
}

/// Which rows an event finds hangs on when it was recorded.
fn timeless(model: &ReadModel, at: EventPlace) -> Option<String> {
    (model.retention.is_some() && at.recorded_at.is_none()).then(|| {
        "the event does not say when it was recorded, and rows go by that (.retention(…))".into()
    })
}

/// Whose row a step of a fold changed.
enum Target {
    /// The one that the step at this index names.
    Step(usize),
    /// One that was found.
    Found(RowKey),
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
    /// The rows that the event does not find, as their time was over when it was recorded.
    due: Option<Due>,
    undo: Vec<(Target, Undo)>,
}

impl Fold<'_> {
    fn step(&mut self, rows: &mut Rows, index: usize, step: &mut Step) -> Result<(), String> {
        match step {
            Step::Row(key, change) => {
                check_key(self.model, key)?;
                self.change(rows, key, change, || Target::Step(index))
            }
            Step::Found(search, change) => self.change_found(rows, search, change),
        }
    }

    fn change_found(
        &mut self,
        rows: &mut Rows,
        search: &Search,
        change: &Change,
    ) -> Result<(), String> {
        let model = self.model;
        let mut columns = model.key.iter().chain(&model.columns);
        let place = columns.position(|column| column.name == search.column);
        let place = place.ok_or("a column that is not declared was looked for")?;
        if let Change::Update(ops) | Change::Upsert(ops) = change {
            // Also where nothing is found, so that the outcome does not hang on what came before.
            check_ops(model, ops)?;
        }
        let mut found = rows.find(place, &search.value, self.at.partition);
        if let Some(due) = &self.due {
            let is_due = |key: &RowKey| {
                let row = rows.get(key);
                row.is_some_and(|row| due.holds(key, &row.values))
            };
            found.retain(|key| !is_due(key));
        }
        if found.len() > ROWS_A_CHANGE {
            return Err(format!(
                "one change finds {} rows by the column {:?}; at most {ROWS_A_CHANGE} may change at once: look for them by \
                 a column that tells more apart, or change fewer with each event",
                found.len(),
                search.column
            ));
        }
        for key in found {
            self.change(rows, &key, &mut change.clone(), || {
                Target::Found(key.clone())
            })?;
        }
        Ok(())
    }

    /// One change to one row. `target` says whose, for each step that may have to be taken back.
    fn change(
        &mut self,
        rows: &mut Rows,
        key: &RowKey,
        change: &mut Change,
        target: impl Fn() -> Target,
    ) -> Result<(), String> {
        let model = self.model;
        if model.shared && !matches!(change, Change::Upsert(_)) {
            return Err(
                "the projection updates or deletes a row that partitions share; it may only upsert"
                    .into(),
            );
        }
        rows.forget_place(key);
        let slot = rows.slot(key).ok_or_else(|| {
            format!("the row {key:?} was not loaded before folding: a defect of the caller")
        })?;
        let outcome = self.change_slot(slot, key, change, target);
        rows.note_place(key);
        outcome
    }

    fn change_slot(
        &mut self,
        slot: &mut Option<Row>,
        key: &RowKey,
        change: &mut Change,
        target: impl Fn() -> Target,
    ) -> Result<(), String> {
        let model = self.model;
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
        let due = self.due.as_ref();
        if let Some(row) = slot.take_if(|row| due.is_some_and(|due| due.holds(key, &row.values))) {
            self.undo.push((target(), Undo::Row(Some(row))));
        }
        let (ops, made) = match change {
            Change::Delete => {
                if let Some(row) = slot.take() {
                    self.undo.push((target(), Undo::Row(Some(row))));
                }
                return Ok(());
            }
            Change::Update(ops) => (mem::take(ops), false),
            Change::Upsert(ops) => (mem::take(ops), slot.is_none()),
        };
        if made {
            self.undo.push((target(), Undo::Row(None)));
            *slot = Some(new_row(model, self.at));
        }
        let Some(row) = slot else {
            // Nothing is there to update; what is wrong in the operations is told all the same, so that the outcome
            // does not hang on what came before.
            return check_ops(model, &ops);
        };
        if !ops.is_empty() && !made {
            self.undo
                .push((target(), Undo::Touch(row.position, row.updated_at)));
            // Only a stream that was parked and is tried again comes later than events after it.
            if self.at.position >= row.position {
                (row.position, row.updated_at) = (
                    self.at.position,
                    self.at.recorded_at.map(crate::value::to_micros),
                );
            }
        }
        for (column, op) in ops {
            check_op(model, column, &op)?;
            if let Some(value) = result(&row.values[column], op, &model.columns[column])? {
                let before = mem::replace(&mut row.values[column], value);
                self.undo.push((target(), Undo::Column(column, before)));
            }
        }
        Ok(())
    }
}

fn check_ops(model: &ReadModel, ops: &[(usize, Op)]) -> Result<(), String> {
    ops.iter()
        .try_for_each(|(column, op)| check_op(model, *column, op))
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
