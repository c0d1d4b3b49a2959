//! The SQL that both adapters share. Every identifier in it comes from a validated definition or from the table of
//! generations, and is quoted all the same; every value is a parameter. It runs nothing itself. Here: names and tables;
//! beside it: rows, what readers see of them, and what they ask.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::AssertSqlSafe;

use crate::decimal::DIGITS;
use crate::{Access, Column, ColumnType, Generation, ReadModel};

mod conditions;
mod query;
mod rows;
mod views;

pub(crate) use query::{Seen, page};
pub(crate) use rows::*;
pub(crate) use views::*;

/// The PostgreSQL schema of tables and bookkeeping.
pub(crate) const SCHEMA: &str = "showcaller_read_models";

/// Hands built SQL to sqlx. The one door, and why it is safe: identifiers went through [`quote`], literals through
/// [`literal`], values are bound; nothing else that comes from outside is ever part of a statement.
pub(crate) fn built(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}

/// A statement of the bookkeeping, as PostgreSQL and SQLite take it.
pub(crate) fn statement(text: &str) -> AssertSqlSafe<String> {
    built(text.to_owned())
}

/// Parks a stream, unless it is parked, as PostgreSQL and SQLite say it.
pub(crate) const PARK: &str = "INSERT INTO parked (generation, stream, \"partition\", position, error) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (generation, stream) DO NOTHING";

/// Which SQL to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// What a table looks like, as stored beside its generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) key: Vec<Column>,
    pub(crate) columns: Vec<Column>,
    /// Rows are shared by partitions; called so since they could only be summed once.
    #[serde(rename = "summed")]
    pub(crate) shared: bool,
}

impl Layout {
    pub(crate) fn of(model: &ReadModel) -> Self {
        Self {
            key: model.key.clone(),
            columns: model.columns.clone(),
            shared: model.shared,
        }
    }

    fn shape(&self) -> Shape<'_> {
        Shape {
            key: &self.key,
            columns: &self.columns,
            shared: self.shared,
        }
    }

    /// Says why a table of this layout cannot be read as this read model; columns too many do no harm.
    pub(crate) fn mismatch(&self, model: &ReadModel) -> Option<String> {
        let same_key = self.key.len() == model.key.len()
            && self
                .key
                .iter()
                .zip(&model.key)
                .all(|(a, b)| a.holds_like(b));
        if !same_key || self.shared != model.shared {
            return Some("has another key".into());
        }
        let missing = model
            .columns
            .iter()
            .find(|wanted| !self.columns.iter().any(|c| c.holds_like(wanted)))?;
        Some(format!(
            "has no column {:?} of type {:?}",
            missing.name, missing.column_type
        ))
    }
}

/// The columns of a table, borrowed from wherever they are known.
#[derive(Clone, Copy)]
pub(crate) struct Shape<'a> {
    pub(crate) key: &'a [Column],
    pub(crate) columns: &'a [Column],
    shared: bool,
}

impl<'a> From<&'a ReadModel> for Shape<'a> {
    fn from(model: &'a ReadModel) -> Self {
        Self {
            key: &model.key,
            columns: &model.columns,
            shared: model.shared,
        }
    }
}

impl<'a> Shape<'a> {
    /// Key columns, then the others.
    pub(crate) fn all(self) -> impl Iterator<Item = &'a Column> + Clone {
        self.key.iter().chain(self.columns)
    }

    /// The primary key's columns, quoted.
    fn identity(self) -> Vec<String> {
        let mut names: Vec<String> = self.key.iter().map(|c| quote(&c.name)).collect();
        if self.shared {
            names.push(PARTITION.into());
        }
        names
    }
}

/// What identifies a row in a mirror that cannot index keys of every type.
pub(crate) const KEY: &str = "\"_key\"";
pub(crate) const PARTITION: &str = "\"_partition\"";
pub(crate) const HIDDEN: [&str; 3] = [PARTITION, "\"_position\"", "\"_updated_at\""];

/// A quoted identifier.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A quoted text, for the statements that take no parameters (comments).
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn names<'a>(columns: impl Iterator<Item = &'a Column>) -> Vec<String> {
    columns.map(|c| quote(&c.name)).collect()
}

/// A column's type. Text is compared byte by byte, in PostgreSQL as in SQLite, so that both order and index it the same.
fn sql_type(dialect: Dialect, column_type: ColumnType) -> String {
    match (dialect, column_type) {
        // A decimal is its units, which SQLite adds and orders exactly.
        (
            Dialect::Sqlite,
            ColumnType::Integer | ColumnType::Boolean | ColumnType::Decimal { .. },
        ) => "INTEGER".into(),
        (Dialect::Sqlite, _) => "TEXT".into(),
        (Dialect::Postgres, ColumnType::Text) => "text COLLATE \"C\"".into(),
        (Dialect::Postgres, ColumnType::Decimal { scale }) => format!("numeric({DIGITS}, {scale})"),
        (Dialect::Postgres, ColumnType::List) => "text[]".into(),
        (Dialect::Postgres, column_type) => element_type(column_type).into(),
    }
}

/// PostgreSQL's name of a type, of which a parameter can be an array. A list goes as the text that makes one.
fn element_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text | ColumnType::Personal | ColumnType::List => "text",
        ColumnType::Decimal { .. } => "numeric",
        ColumnType::Integer => "bigint",
        ColumnType::Boolean => "boolean",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Date => "date",
        ColumnType::Uuid => "uuid",
    }
}

/// The name of a table: `{name}_{8 digits of the definition's hash}_g{number}`.
pub(crate) fn table_name(model: &ReadModel, definition_hash: &str, number: u32) -> String {
    format!(
        "{}_{}_g{number}",
        model.name.replace('-', "_"),
        &definition_hash[..8]
    )
}

/// Makes a generation's table; on PostgreSQL with its comments.
pub(crate) fn create_table(dialect: Dialect, model: &ReadModel, table: &str) -> Vec<String> {
    let mut sql = format!("CREATE TABLE {} (", quote(table));
    for (index, column) in Shape::from(model).all().enumerate() {
        let key = index < model.key.len();
        let null = if key { " NOT NULL" } else { "" };
        _ = write!(
            sql,
            "{} {}{null}, ",
            quote(&column.name),
            sql_type(dialect, column.column_type)
        );
    }
    let (small, big, moment) = match dialect {
        Dialect::Postgres => ("smallint", "bigint", "timestamptz"),
        Dialect::Sqlite => ("INTEGER", "INTEGER", "TEXT"),
    };
    let [partition, position, updated_at] = HIDDEN;
    _ = write!(
        sql,
        "{partition} {small} NOT NULL, {position} {big} NOT NULL, {updated_at} {moment}, PRIMARY KEY ({}))",
        Shape::from(model).identity().join(", ")
    );
    let mut statements = vec![sql];
    if dialect == Dialect::Postgres {
        statements.extend(comments(model, table));
    }
    statements
}

fn comments(model: &ReadModel, table: &str) -> Vec<String> {
    let table_text = format!(
        "Read model {}, revision {}. Rebuilt from the log: never write here.",
        model.name, model.revision
    );
    let mut statements = vec![format!(
        "COMMENT ON TABLE {} IS {}",
        quote(table),
        literal(&table_text)
    )];
    let mut column = |name: &str, text: &str| {
        statements.push(format!(
            "COMMENT ON COLUMN {}.{} IS {}",
            quote(table),
            quote(name),
            literal(text)
        ));
    };
    for personal in model
        .columns
        .iter()
        .filter(|c| c.column_type == ColumnType::Personal)
    {
        column(
            &personal.name,
            "Personal: ciphertext, opened by the query API alone.",
        );
    }
    column(
        "_partition",
        "The partition of the log that the row belongs to.",
    );
    column(
        "_position",
        "The position in the log of the last event that changed the row.",
    );
    column("_updated_at", "When that event was recorded.");
    statements
}

/// The statements that make whatever index is missing.
pub(crate) fn indexes(model: &ReadModel, generation: &Generation) -> Vec<String> {
    wanted_indexes(model, generation)
        .into_iter()
        .map(|(name, columns)| {
            format!(
                "CREATE INDEX IF NOT EXISTS {} ON {} ({})",
                quote(&name),
                quote(&generation.table),
                names(columns.into_iter()).join(", ")
            )
        })
        .collect()
}

/// The indexes that a table has, by their names: on the owner's column and on the one that rows go by, where nothing else
/// begins with it, and those that the definition declares.
pub(crate) fn wanted_indexes<'m>(
    model: &'m ReadModel,
    generation: &Generation,
) -> Vec<(String, Vec<&'m Column>)> {
    let table = &generation.table;
    let owner = match &model.access {
        Access::Owner { column } => Shape::from(model).all().position(|c| c.name == *column),
        Access::Scope | Access::Authenticated => None,
    };
    let owner = owner.filter(|place| *place > 0).and_then(|place| {
        let column = Shape::from(model).all().nth(place)?;
        Some((format!("{table}_i{place}"), vec![column]))
    });
    let declared = model.indexes.iter().map(|index| {
        let named = |name: &String| Shape::from(model).all().find(|c| c.name == *name);
        let columns = index.iter().filter_map(named).collect();
        (index_name(model, generation, index), columns)
    });
    let of_retention = model.retention.iter().filter_map(|retention| {
        let name = &retention.column;
        let column = Shape::from(model).all().find(|c| c.name == *name)?;
        let index = std::slice::from_ref(name);
        (!model.is_indexed(name)).then(|| (index_name(model, generation, index), vec![column]))
    });
    owner
        .into_iter()
        .chain(declared)
        .chain(of_retention)
        .collect()
}

/// `{name}_g{number}_x{12 digits of a hash over table and columns}`: at most 62 of the 63 bytes that PostgreSQL takes.
fn index_name(model: &ReadModel, generation: &Generation, columns: &[String]) -> String {
    let text = format!("{} {}", generation.table, columns.join(" "));
    let hash = Sha256::digest(text)
        .iter()
        .take(6)
        .fold(String::new(), |mut hex, byte| {
            _ = write!(hex, "{byte:02x}");
            hex
        });
    format!(
        "{}_g{}_x{hash}",
        model.name.replace('-', "_"),
        generation.number
    )
}
