//! What a read model is: a name, typed columns, a key, who may read it, and its projection. It refuses to judge itself:
//! `validate` does.

use std::fmt;
use std::sync::Arc;

use events::{DecodeError, RecordedEvent, StreamId};
use serde::{Deserialize, Serialize};

use crate::{Changes, Retention};

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
    /// An exact number of up to 18 digits, so many of them after the point.
    Decimal {
        /// 0 to 9.
        scale: u8,
    },
    /// Texts in an order: at most 1,000, with at most 65,536 bytes in all. Never part of a key.
    List,
}

impl ColumnType {
    /// Whether its values have an order: ciphertext and lists have none.
    pub fn is_ordered(self) -> bool {
        !matches!(self, Self::Personal | Self::List)
    }
}

/// How readers see one value of several partial rows: see [`ReadModel::shared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// The sum, of an `Integer` or a `Decimal` that the projection adds to.
    Sum,
    /// The smallest, of any ordered type, which the projection changes by `Min`.
    Min,
    /// The greatest, of any ordered type, which the projection changes by `Max`.
    Max,
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
    /// How partial rows merge, in a shared read model. Nothing said: the sum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Merge>,
}

impl Column {
    /// A column for whoever may read the row.
    pub fn new(name: &str, column_type: ColumnType) -> Self {
        Self {
            name: name.to_owned(),
            column_type,
            scope: None,
            merge: None,
        }
    }

    /// How partial rows merge, in a shared read model.
    pub(crate) fn merge(&self) -> Merge {
        self.merge.unwrap_or(Merge::Sum)
    }

    /// Holds the same data, whoever may read it.
    pub(crate) fn holds_like(&self, other: &Self) -> bool {
        self.name == other.name
            && self.column_type == other.column_type
            && self.merge() == other.merge()
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
    /// Rows are shared by partitions: each partition keeps a partial row, and readers see them merged, each column outside
    /// the key as it declares (`merged`). A column then takes the operation of its merge and no other, and rows
    /// are only upserted.
    pub shared: bool,
    /// Rows are not made of events: the projector writes them about itself. Checkpoints then count writes and say nothing of the
    /// log, so position tokens are not waited for, and there is nothing to rebuild or to verify.
    pub observed: bool,
    /// Indexes beside the key's and the owner's, each on these columns in order. They can be added at any time; one that
    /// is taken away stays until the read model is built anew.
    pub indexes: Vec<Vec<String>>,
    /// How long rows stay; nothing said: for ever.
    pub retention: Option<Retention>,
    /// Who may read.
    pub access: Access,
    /// The projection.
    pub project: Projector,
}

impl ReadModel {
    /// Whether it takes the events of a stream: those of its categories, or of all where it names none.
    pub fn takes(&self, stream: &StreamId) -> bool {
        self.categories.is_empty()
            || self
                .categories
                .iter()
                .any(|category| category == stream.category())
    }

    /// A read model without columns, readable by scope only, that does nothing yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            revision: 1,
            key: Vec::new(),
            columns: Vec::new(),
            categories: Vec::new(),
            shared: false,
            observed: false,
            indexes: Vec::new(),
            retention: None,
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

    /// Adds an index: queries that filter or order by these columns are quick, and changes can look for rows by the first
    /// of them ([`Changes::update_where`]).
    #[must_use]
    pub fn index(mut self, columns: &[&str]) -> Self {
        self.indexes
            .push(columns.iter().map(|&name| name.to_owned()).collect());
        self
    }

    /// Rows are found by this column without a look at all of them: the key or an index begins with it.
    pub(crate) fn is_indexed(&self, column: &str) -> bool {
        let key = self.key.first().map(|first| first.name.as_str());
        let mut indexes = self.indexes.iter().filter_map(|columns| columns.first());
        key == Some(column) || indexes.any(|first| first == column)
    }

    /// Takes the events of this category (call again for more).
    #[must_use]
    pub fn category(mut self, category: &str) -> Self {
        self.categories.push(category.to_owned());
        self
    }

    /// Adds a column of a shared read model: see [`ReadModel::shared`].
    #[must_use]
    pub fn merged(mut self, name: &str, column_type: ColumnType, merge: Merge) -> Self {
        self.columns.push(Column {
            merge: Some(merge),
            ..Column::new(name, column_type)
        });
        self
    }

    /// Says that rows are shared by partitions, and columns that do not say how they merge are summed: see
    /// [`ReadModel::shared`].
    #[must_use]
    pub fn summed(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Says that no event makes these rows: see [`ReadModel::observed`].
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.observed = true;
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
