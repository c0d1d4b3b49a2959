//! What a read model is: a name, typed columns, a key, who may read it, and its projection. It refuses to judge itself:
//! `validate` does.

use std::fmt;
use std::sync::Arc;

use events::{DecodeError, RecordedEvent};
use serde::{Deserialize, Serialize};

use crate::Changes;

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Unicode text.
    Text,
    /// 64-bit integer.
    Integer,
    /// True or false.
    Boolean,
    /// A moment in UTC, to the microsecond.
    Timestamp,
    /// A day.
    Date,
    /// A UUID.
    Uuid,
    /// A personal value: ciphertext at rest, opened by query-api for callers who may see it.
    Personal,
}

/// A typed column.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Lower-case letters, digits and `_`, beginning with a letter; unique in its read model.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// The scope that a caller needs to read it: for everybody without it the column does not exist. `None`: whoever
    /// may read the row. Not part of what is stored, so it changes without building anew.
    #[serde(skip)]
    pub scope: Option<String>,
}

impl Column {
    /// A column for whoever may read the row.
    pub fn new(name: &str, column_type: ColumnType) -> Self {
        Self {
            name: name.to_owned(),
            column_type,
            scope: None,
        }
    }

    /// Holds the same data: name and type, whoever may read it.
    pub(crate) fn holds_like(&self, other: &Self) -> bool {
        self.name == other.name && self.column_type == other.column_type
    }
}

/// Who may read a read model's rows. Denied to everyone until said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nobody but holders of the scope `read:{read model}` or `read:*`.
    Scope,
    /// The account whose id stands in the named column sees its own rows; holders of the scope see all.
    Owner {
        /// A `Uuid` column.
        column: String,
    },
    /// Everybody with a valid access token.
    Authenticated,
}

/// The projection: a pure function from one event to changes of rows. An error is deterministic, and parks the stream.
pub type Projector =
    Arc<dyn Fn(&RecordedEvent, &mut Changes<'_>) -> Result<(), DecodeError> + Send + Sync>;

/// Why a definition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read model {name}: {problem}")]
pub struct InvalidDefinition {
    /// The read model.
    pub name: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

/// A read model: one page of code that says everything of one table.
#[derive(Clone)]
pub struct ReadModel {
    /// The name in the URL: lower-case letters, digits and `-`. Its SQL view has `_` for `-`.
    pub name: String,
    /// Raised when the projection's code changes in what it does, so that rows are built anew.
    pub revision: u32,
    /// The columns that identify a row, in order; they are never null.
    pub key: Vec<Column>,
    /// The other columns.
    pub columns: Vec<Column>,
    /// The categories of the events it takes; empty: all.
    pub categories: Vec<String>,
    /// Rows are shared by partitions: each partition keeps a partial row and readers see the sum. Then every column
    /// outside the key is an integer, changed by `add` alone.
    pub summed: bool,
    /// Who may read.
    pub access: Access,
    /// The projection.
    pub project: Projector,
}

impl ReadModel {
    /// A read model without columns, readable by scope only, that does nothing yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            revision: 1,
            key: Vec::new(),
            columns: Vec::new(),
            categories: Vec::new(),
            summed: false,
            access: Access::Scope,
            project: Arc::new(|_, _| Ok(())),
        }
    }

    /// Adds a column to the key.
    #[must_use]
    pub fn key(mut self, name: &str, column_type: ColumnType) -> Self {
        self.key.push(Column::new(name, column_type));
        self
    }

    /// Adds a column.
    #[must_use]
    pub fn column(mut self, name: &str, column_type: ColumnType) -> Self {
        self.columns.push(Column::new(name, column_type));
        self
    }

    /// Adds a column that only holders of the scope can read: see [`Column::scope`].
    #[must_use]
    pub fn column_with_scope(mut self, name: &str, column_type: ColumnType, scope: &str) -> Self {
        self.columns.push(Column {
            scope: Some(scope.to_owned()),
            ..Column::new(name, column_type)
        });
        self
    }

    /// Takes the events of this category (call again for more).
    #[must_use]
    pub fn category(mut self, category: &str) -> Self {
        self.categories.push(category.to_owned());
        self
    }

    /// Says that rows are partial sums: see [`ReadModel::summed`].
    #[must_use]
    pub fn summed(mut self) -> Self {
        self.summed = true;
        self
    }

    /// Sets the revision of the projection's code.
    #[must_use]
    pub fn revision(mut self, revision: u32) -> Self {
        self.revision = revision;
        self
    }

    /// Sets who may read.
    #[must_use]
    pub fn readable_by(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Sets the projection.
    #[must_use]
    pub fn project<F>(mut self, project: F) -> Self
    where
        F: Fn(&RecordedEvent, &mut Changes<'_>) -> Result<(), DecodeError> + Send + Sync + 'static,
    {
        self.project = Arc::new(project);
        self
    }
}

impl fmt::Debug for ReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadModel")
            .field("name", &self.name)
            .field("revision", &self.revision)
            .field("key", &self.key)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}
