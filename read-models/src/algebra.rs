//! The algebra of changes: what a projection may do to rows, and how changes to one row fold into its net state.

use std::collections::HashMap;

use events::{Partition, Position};

use crate::{ReadModel, Value};

/// A row's key: the values of the key columns, in order.
pub type RowKey = Vec<Value>;

/// What is done to one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Takes this value.
    Set(Value),
    /// Adds to an integer; nothing counts as 0.
    Add(i64),
    /// Takes the value if it is smaller than what stands there, or if nothing does.
    Min(Value),
    /// Takes the value if it is greater than what stands there, or if nothing does.
    Max(Value),
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
    changes: Vec<(RowKey, Change)>,
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
    pub updated_at: Option<chrono::DateTime<chrono::Utc>>,
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
        Self { model, changes: Vec::new(), problem: None }
    }

    /// Makes the row if it is not there, and does this to the named columns.
    pub fn upsert<const N: usize>(&mut self, key: impl Into<RowKey>, ops: [(&str, Op); N]) {
        let ops = self.resolve(ops);
        self.changes.push((key.into(), Change::Upsert(ops)));
    }

    /// Does this to the named columns of a row that is there; nothing otherwise.
    pub fn update<const N: usize>(&mut self, key: impl Into<RowKey>, ops: [(&str, Op); N]) {
        let ops = self.resolve(ops);
        self.changes.push((key.into(), Change::Update(ops)));
    }

    /// The same, with as many operations as there happen to be.
    pub fn update_all<'a>(&mut self, key: impl Into<RowKey>, ops: impl IntoIterator<Item = (&'a str, Op)>) {
        let ops = self.resolve(ops);
        self.changes.push((key.into(), Change::Update(ops)));
    }

    /// Removes the row.
    pub fn delete(&mut self, key: impl Into<RowKey>) {
        self.changes.push((key.into(), Change::Delete));
    }

    fn resolve<'a>(&mut self, ops: impl IntoIterator<Item = (&'a str, Op)>) -> Vec<(usize, Op)> {
        let mut resolved = Vec::new();
        for (name, op) in ops {
            match self.model.columns.iter().position(|c| c.name == name) {
                Some(index) => resolved.push((index, op)),
                None => self.problem = Some(format!("the projection writes the column {name:?}, which is not declared")),
            }
        }
        resolved
    }
}

/// The rows touched by a batch: `None` says the row is not there.
pub type Rows = HashMap<RowKey, Option<Row>>;

/// Takes the changes of one event into rows. `rows` must hold every key that the changes name.
pub fn fold(_rows: &mut Rows, _changes: Changes<'_>) -> Result<(), FoldError> {
    unimplemented!("being written")
}
