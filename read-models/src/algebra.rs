//! The algebra of changes: what a projection may do to rows, written down for [`fold`]. It does nothing itself, and keeps
//! the first mistake for the fold to report.

use chrono::{DateTime, Utc};
use events::{Partition, Position, RecordedEvent};
use serde::Deserialize;

use crate::{Column, Decimal, ReadModel, Value};

mod fold;
mod held;
mod ops;

pub use fold::{FoldError, ROWS_A_CHANGE, fold};
pub use held::Rows;

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

/// Rows that a change looks for: those of the event's partition whose column has this value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Search {
    /// One that an index begins with.
    pub column: String,
    /// Not null, in the form in which the column stores it.
    pub value: Value,
}

/// A change and what it is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// One row.
    Row(RowKey, Change),
    /// Every row that is found, by then.
    Found(Box<Search>, Change),
}

/// Where a projection writes the changes that one event causes.
#[derive(Debug)]
pub struct Changes<'m> {
    model: &'m ReadModel,
    list: Vec<Step>,
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

impl EventPlace {
    /// Where an event of a partition stands.
    pub fn of(partition: Partition, event: &RecordedEvent) -> Self {
        #[derive(Deserialize)]
        struct Time {
            recorded_at: DateTime<Utc>,
        }
        // Only this field: parsing all metadata of every event would cost more than the projection.
        let time = serde_json::from_str(&event.metadata).ok();
        Self {
            partition,
            position: event.position,
            recorded_at: time.map(|Time { recorded_at }| recorded_at),
        }
    }
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

    /// Does this to the named columns of every row of the event's partition whose column has this value by then. An index
    /// must begin with the column; an event that finds more than [`ROWS_A_CHANGE`] rows parks its stream.
    pub fn update_where<const N: usize>(
        &mut self,
        column: &str,
        value: impl Into<Value>,
        ops: [(&str, Op); N],
    ) {
        let change = Change::Update(self.resolve(ops));
        self.search(column, value.into(), change);
    }

    /// Removes every row of the event's partition whose column has this value by then: see [`Changes::update_where`].
    pub fn delete_where(&mut self, column: &str, value: impl Into<Value>) {
        self.search(column, value.into(), Change::Delete);
    }

    /// What rows are looked for, in the order of the changes: [`fold`] needs every stored row of the partition that is found,
    /// beside the ones named by key.
    pub fn searches(&self) -> impl Iterator<Item = &Search> {
        self.list.iter().filter_map(|step| match step {
            Step::Found(search, _) => Some(&**search),
            Step::Row(..) => None,
        })
    }

    /// The keys of the rows that [`fold`] will need, in the order of the changes; one may come twice.
    pub fn keys(&self) -> impl Iterator<Item = &RowKey> {
        self.named().map(|(key, _)| key)
    }

    /// The same keys, and whether the row comes out the same whatever is stored: it is removed, or every column is set.
    /// Then its first change in a batch needs no look at the table.
    pub fn touched(&self) -> impl Iterator<Item = (&RowKey, bool)> {
        self.named().map(|(key, change)| {
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
        self.list.push(Step::Row(key, change));
    }

    fn named(&self) -> impl Iterator<Item = (&RowKey, &Change)> {
        self.list.iter().filter_map(|step| match step {
            Step::Row(key, change) => Some((key, change)),
            Step::Found(..) => None,
        })
    }

    fn search(&mut self, column: &str, value: Value, change: Change) {
        match searchable(self.model, column).and_then(|column| column.fitted(value)) {
            Ok(Value::Null) => self.complain(format!(
                "the projection looks for rows whose column {column:?} is null; only values are found"
            )),
            Ok(value) => {
                let column = column.to_owned();
                self.list.push(Step::Found(Box::new(Search { column, value }), change));
            }
            Err(problem) => self.complain(problem),
        }
    }

    fn complain(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    fn resolve<'a>(&mut self, ops: impl IntoIterator<Item = (&'a str, Op)>) -> Vec<(usize, Op)> {
        let ops = ops.into_iter();
        let mut resolved = Vec::with_capacity(ops.size_hint().0);
        for (name, op) in ops {
            match self.model.columns.iter().position(|c| c.name == name) {
                Some(index) => resolved.push((index, op)),
                None => self.complain(undeclared(self.model, name)),
            }
        }
        resolved
    }
}

/// The column, if rows can be found by it without a look at all of them.
fn searchable<'m>(model: &'m ReadModel, name: &str) -> Result<&'m Column, String> {
    let column = model
        .key
        .iter()
        .chain(&model.columns)
        .find(|c| c.name == name);
    let Some(column) = column else {
        return Err(format!(
            "the projection looks for rows by the column {name:?}, which is not declared"
        ));
    };
    if model.shared {
        return Err(format!(
            "the projection looks for rows by the column {name:?}, but partitions share the rows: name them by their key"
        ));
    }
    if !model.is_indexed(name) {
        return Err(format!(
            "the projection looks for rows by the column {name:?}, with which no index begins; declare .index(&[{name:?}])"
        ));
    }
    Ok(column)
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

#[cfg(test)]
mod tests;
