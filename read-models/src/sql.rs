//! The SQL that both adapters share. Every identifier in it comes from a validated definition or from the table of
//! generations, and is quoted all the same; every value is a parameter. It runs nothing itself.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use crate::{Access, Column, ColumnType, ReadModel};

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
        Self { key: model.key.clone(), columns: model.columns.clone(), summed: model.summed }
    }

    fn shape(&self) -> Shape<'_> {
        Shape { key: &self.key, columns: &self.columns, summed: self.summed }
    }

    /// Says why a table of this layout cannot be read as this read model; columns too many do no harm.
    pub(crate) fn mismatch(&self, model: &ReadModel) -> Option<String> {
        if self.key != model.key || self.summed != model.summed {
            return Some("has another key".into());
        }
        let missing = model.columns.iter().find(|c| !self.columns.contains(c))?;
        Some(format!("has no column {:?} of type {:?}", missing.name, missing.column_type))
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
        Self { key: &model.key, columns: &model.columns, summed: model.summed }
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
    format!("{}_{}_g{number}", model.name.replace('-', "_"), &definition_hash[..8])
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
        _ = write!(sql, "{} {}{null}, ", quote(&column.name), sql_type(dialect, column.column_type, key));
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
    let table_text = format!("Read model {}, revision {}. Rebuilt from the log: never write here.", model.name, model.revision);
    let mut statements = vec![format!("COMMENT ON TABLE {} IS {}", quote(table), literal(&table_text))];
    let mut column = |name: &str, text: &str| {
        statements.push(format!("COMMENT ON COLUMN {}.{} IS {}", quote(table), quote(name), literal(text)));
    };
    for personal in model.columns.iter().filter(|c| c.column_type == ColumnType::Personal) {
        column(&personal.name, "Personal: ciphertext, opened by the query API alone.");
    }
    column("_partition", "The partition of the log that the row belongs to.");
    column("_position", "The position in the log of the last event that changed the row.");
    column("_updated_at", "When that event was recorded.");
    statements
}

/// An index on the owner's column, where the primary key does not begin with it.
pub(crate) fn owner_index(model: &ReadModel, table: &str) -> Option<String> {
    let Access::Owner { column } = &model.access else { return None };
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
    let columns = shape.columns.iter().filter(|c| personal || c.column_type != ColumnType::Personal);
    let (key, table) = (names(shape.key.iter()).join(", "), quote(table));
    let mut sql = format!("SELECT {key}");
    for name in names(columns).iter().map(String::as_str).chain(HIDDEN[1..].iter().copied()) {
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
pub(crate) fn create_view(dialect: Dialect, model: &str, layout: &Layout, table: &str) -> [String; 2] {
    let view = view_name(dialect, model);
    let replace = if dialect == Dialect::Postgres { "OR REPLACE " } else { "" };
    [
        format!("DROP VIEW IF EXISTS {view}"),
        format!("CREATE {replace}VIEW {view} AS {}", visible(layout.shape(), table, "", false)),
    ]
}

/// The comment of a view, PostgreSQL only.
pub(crate) fn view_comment(model: &str) -> String {
    let text = format!("The read model {model}, as the query API shows it, without personal columns.");
    format!("COMMENT ON VIEW {} IS {}", view_name(Dialect::Postgres, model), literal(&text))
}

/// The stored form of a row: key, columns, hidden columns. Restricted by what the caller appends.
pub(crate) fn select_stored(shape: Shape<'_>, table: &str) -> String {
    let columns: Vec<String> = shape.all().map(|c| format!("t.{}", quote(&c.name))).collect();
    let [partition, position, updated_at] = HIDDEN;
    format!("SELECT {}, t.{partition}, t.{position}, t.{updated_at} FROM {} t", columns.join(", "), quote(table))
}

/// `$first::type[], …` for the columns.
fn arrays<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    let arrays: Vec<String> =
        columns.enumerate().map(|(i, c)| format!("${}::{}[]", i + 1, element_type(c.column_type))).collect();
    arrays.join(", ")
}

/// PostgreSQL: the rows of `$1, …` (arrays of the key columns), then, if summed, of partition `$n+1`.
pub(crate) fn load_by_arrays(shape: Shape<'_>, table: &str) -> String {
    let key = names(shape.key.iter());
    let on: Vec<String> = key.iter().map(|name| format!("t.{name} = k.{name}")).collect();
    let mut sql = select_stored(shape, table);
    _ = write!(
        sql,
        " JOIN UNNEST({}) AS k({}) ON {}",
        arrays(shape.key.iter()),
        key.join(", "),
        on.join(" AND ")
    );
    if shape.summed {
        _ = write!(sql, " WHERE t.{PARTITION} = ${}", key.len() + 1);
    }
    sql
}

/// SQLite: the rows of `count` keys, their values one after another, then, if summed, of a partition.
pub(crate) fn load_by_list(shape: Shape<'_>, table: &str, count: usize) -> String {
    format!("{} WHERE {}", select_stored(shape, table), key_in_list(shape, count, shape.summed))
}

fn key_in_list(shape: Shape<'_>, count: usize, partition: bool) -> String {
    let key = names(shape.key.iter()).join(", ");
    let mut sql = if shape.key.len() == 1 {
        format!("{key} IN ({})", placeholders(count, "?"))
    } else {
        let row = format!("({})", placeholders(shape.key.len(), "?"));
        format!("({key}) IN (VALUES {})", placeholders(count, &row))
    };
    if partition {
        _ = write!(sql, " AND {PARTITION} = ?");
    }
    sql
}

fn placeholders(count: usize, one: &str) -> String {
    vec![one; count].join(", ")
}

/// What to insert: all columns, and on a row that is there, everything but its key. A row of another partition is left
/// alone, so that the number of rows written tells.
fn upsert(shape: Shape<'_>, table: &str, source: &str) -> String {
    let identity = shape.identity();
    let columns: Vec<String> = names(shape.all()).into_iter().chain(HIDDEN.map(String::from)).collect();
    let set: Vec<String> =
        columns.iter().filter(|c| !identity.contains(c)).map(|c| format!("{c} = excluded.{c}")).collect();
    let table = quote(table);
    format!(
        "INSERT INTO {table} ({}) {source} ON CONFLICT ({}) DO UPDATE SET {} WHERE {table}.{PARTITION} = excluded.{PARTITION}",
        columns.join(", "),
        identity.join(", "),
        set.join(", ")
    )
}

/// PostgreSQL: `$1, …` arrays of all columns, of positions and moments, then the partition.
pub(crate) fn upsert_arrays(shape: Shape<'_>, table: &str) -> String {
    let columns = names(shape.all());
    let n = columns.len();
    let source = format!(
        "SELECT {}, ${}::smallint, {}, {} FROM UNNEST({}, ${}::bigint[], ${}::timestamptz[]) AS u({}, {}, {})",
        columns.join(", "),
        n + 3,
        HIDDEN[1],
        HIDDEN[2],
        arrays(shape.all()),
        n + 1,
        n + 2,
        columns.join(", "),
        HIDDEN[1],
        HIDDEN[2],
    );
    upsert(shape, table, &source)
}

/// SQLite: `count` rows, their values (columns, partition, position, moment) one after another.
pub(crate) fn upsert_list(shape: Shape<'_>, table: &str, count: usize) -> String {
    let row = format!("({})", placeholders(shape.all().count() + HIDDEN.len(), "?"));
    upsert(shape, table, &format!("VALUES {}", placeholders(count, &row)))
}

/// PostgreSQL: the rows of `$1, …` (arrays of the key columns) in partition `$n+1`.
pub(crate) fn delete_arrays(shape: Shape<'_>, table: &str) -> String {
    let key = names(shape.key.iter());
    let on: Vec<String> = key.iter().map(|name| format!("t.{name} = k.{name}")).collect();
    format!(
        "DELETE FROM {} t USING UNNEST({}) AS k({}) WHERE {} AND t.{PARTITION} = ${}",
        quote(table),
        arrays(shape.key.iter()),
        key.join(", "),
        on.join(" AND "),
        key.len() + 1
    )
}

/// SQLite: the rows of `count` keys, their values one after another, then of a partition.
pub(crate) fn delete_list(shape: Shape<'_>, table: &str, count: usize) -> String {
    format!("DELETE FROM {} WHERE {}", quote(table), key_in_list(shape, count, true))
}

/// Stored rows of partition `$1`, at most `$2`, after the key `$3, …` if there is one, in the order of the key.
pub(crate) fn scan(shape: Shape<'_>, table: &str, after: bool) -> String {
    let key: Vec<String> = names(shape.key.iter()).iter().map(|name| format!("t.{name}")).collect();
    let key = key.join(", ");
    let mut sql = select_stored(shape, table);
    _ = write!(sql, " WHERE t.{PARTITION} = $1");
    if after {
        let values: Vec<String> = (3..3 + shape.key.len()).map(|n| format!("${n}")).collect();
        _ = write!(sql, " AND ({key}) > ({})", values.join(", "));
    }
    _ = write!(sql, " ORDER BY {key} LIMIT $2");
    sql
}

/// What readers see of the live table `$1`, under conditions. No row at all says that the table is not live any more; a
/// row without a key says that nothing was found.
fn read(shape: Shape<'_>, inner: &str, order: bool) -> String {
    let columns: Vec<String> =
        names(shape.all()).iter().map(String::as_str).chain(HIDDEN[1..].iter().copied()).map(|c| format!("r.{c}")).collect();
    let mut sql = format!(
        "SELECT {} FROM generations g LEFT JOIN ({inner}) r ON true WHERE g.table_name = $1 AND g.live",
        columns.join(", ")
    );
    if order {
        _ = write!(sql, " ORDER BY {}", columns[..shape.key.len()].join(", "));
    }
    sql
}

/// The row with the key `$2, …` of the live table `$1`.
pub(crate) fn get(shape: Shape<'_>, table: &str) -> String {
    let conditions: Vec<String> =
        names(shape.key.iter()).iter().enumerate().map(|(i, name)| format!("{name} = ${}", i + 2)).collect();
    read(shape, &visible(shape, table, &format!(" WHERE {}", conditions.join(" AND ")), true), false)
}

/// Rows of the live table `$1`: at most `$2`, after `$3` others, whose `equals` columns have the values `$4, …`; `None`
/// for columns that must be null.
pub(crate) fn list(shape: Shape<'_>, table: &str, equals: &[(&Column, bool)]) -> String {
    let (mut stored, mut shown, mut next) = (String::new(), String::new(), 4);
    for (column, null) in equals {
        // A sum is known only after grouping; what the key says may be used before.
        let before = !shape.summed || shape.key.contains(column);
        let to = if before { &mut stored } else { &mut shown };
        to.push_str(if to.is_empty() { " WHERE " } else { " AND " });
        _ = if *null {
            write!(to, "{} IS NULL", quote(&column.name))
        } else {
            next += 1;
            write!(to, "{} = ${}", quote(&column.name), next - 1)
        };
    }
    let inner = format!(
        "SELECT * FROM ({}) v{shown} ORDER BY {} LIMIT $2 OFFSET $3",
        visible(shape, table, &stored, true),
        names(shape.key.iter()).join(", ")
    );
    read(shape, &inner, true)
}
