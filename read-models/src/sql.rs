//! The SQL that both adapters share. Every identifier in it comes from a validated definition or from the table of
//! generations, and is quoted all the same; every value is a parameter. It runs nothing itself. Here: names, tables and
//! views; beside it: rows.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use crate::{Access, Column, ColumnType, ReadModel};

mod rows;

pub(crate) use rows::*;

/// The PostgreSQL schema of tables and bookkeeping.
pub(crate) const SCHEMA: &str = "showcaller_read_models";
/// The PostgreSQL schema of views for people and their tools.
pub(crate) const VIEWS: &str = "dashboards";

/// Hands built SQL to sqlx. The one door, and why it is safe: identifiers went through [`quote`], literals through
/// [`literal`], values are bound; nothing else that comes from outside is ever part of a statement.
pub(crate) fn built(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}

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
    pub(crate) summed: bool,
}

impl Layout {
    pub(crate) fn of(model: &ReadModel) -> Self {
        Self {
            key: model.key.clone(),
            columns: model.columns.clone(),
            summed: model.summed,
        }
    }

    fn shape(&self) -> Shape<'_> {
        Shape {
            key: &self.key,
            columns: &self.columns,
            summed: self.summed,
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
        if !same_key || self.summed != model.summed {
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
    summed: bool,
}

impl<'a> From<&'a ReadModel> for Shape<'a> {
    fn from(model: &'a ReadModel) -> Self {
        Self {
            key: &model.key,
            columns: &model.columns,
            summed: model.summed,
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
        if self.summed {
            names.push(PARTITION.into());
        }
        names
    }
}

const PARTITION: &str = "\"_partition\"";
const HIDDEN: [&str; 3] = [PARTITION, "\"_position\"", "\"_updated_at\""];

/// A quoted identifier.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A quoted text, for the statements that take no parameters (comments).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn names<'a>(columns: impl Iterator<Item = &'a Column>) -> Vec<String> {
    columns.map(|c| quote(&c.name)).collect()
}

/// A column's type; `key` columns of PostgreSQL compare text byte by byte, as SQLite does.
fn sql_type(dialect: Dialect, column_type: ColumnType, key: bool) -> &'static str {
    match (dialect, column_type) {
        (Dialect::Sqlite, ColumnType::Integer | ColumnType::Boolean) => "INTEGER",
        (Dialect::Sqlite, _) => "TEXT",
        (Dialect::Postgres, ColumnType::Text) if key => "text COLLATE \"C\"",
        (Dialect::Postgres, column_type) => element_type(column_type),
    }
}

/// PostgreSQL's name of a type.
fn element_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text | ColumnType::Personal => "text",
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

/// The name of a read model's view.
fn view_name(dialect: Dialect, model: &str) -> String {
    let view = quote(&model.replace('-', "_"));
    match dialect {
        Dialect::Postgres => format!("{VIEWS}.{view}"),
        Dialect::Sqlite => view,
    }
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
            sql_type(dialect, column.column_type, key)
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

/// An index on the owner's column, where the primary key does not begin with it.
pub(crate) fn owner_index(model: &ReadModel, table: &str) -> Option<String> {
    let Access::Owner { column } = &model.access else {
        return None;
    };
    let index = Shape::from(model).all().position(|c| c.name == *column)?;
    (index > 0).then(|| {
        format!(
            "CREATE INDEX IF NOT EXISTS {} ON {} ({})",
            quote(&format!("{table}_i{index}")),
            quote(table),
            quote(column)
        )
    })
}

/// What readers see of a table: sums summed. `condition` restricts the stored rows.
fn visible(shape: Shape<'_>, table: &str, condition: &str, personal: bool) -> String {
    let columns = shape
        .columns
        .iter()
        .filter(|c| personal || c.column_type != ColumnType::Personal);
    let (key, table) = (names(shape.key.iter()).join(", "), quote(table));
    let mut sql = format!("SELECT {key}");
    for name in names(columns)
        .iter()
        .map(String::as_str)
        .chain(HIDDEN[1..].iter().copied())
    {
        _ = match (shape.summed, name.starts_with("\"_")) {
            (false, _) => write!(sql, ", {name}"),
            (true, false) => write!(sql, ", CAST(SUM({name}) AS bigint) AS {name}"),
            (true, true) => write!(sql, ", MAX({name}) AS {name}"),
        };
    }
    _ = write!(sql, " FROM {table}{condition}");
    if shape.summed {
        _ = write!(sql, " GROUP BY {key}");
    }
    sql
}

/// The statements that make the view of a read model show this table: first drop, then create.
pub(crate) fn create_view(
    dialect: Dialect,
    model: &str,
    layout: &Layout,
    table: &str,
) -> [String; 2] {
    let view = view_name(dialect, model);
    let replace = if dialect == Dialect::Postgres {
        "OR REPLACE "
    } else {
        ""
    };
    [
        format!("DROP VIEW IF EXISTS {view}"),
        format!(
            "CREATE {replace}VIEW {view} AS {}",
            visible(layout.shape(), table, "", false)
        ),
    ]
}

/// The comment of a view, PostgreSQL only.
pub(crate) fn view_comment(model: &str) -> String {
    let text =
        format!("The read model {model}, as the query API shows it, without personal columns.");
    format!(
        "COMMENT ON VIEW {} IS {}",
        view_name(Dialect::Postgres, model),
        literal(&text)
    )
}
