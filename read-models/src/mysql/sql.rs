//! The SQL of MySQL and MariaDB. Every identifier in it comes from a validated definition or from the table of generations,
//! and is quoted all the same; every value is a parameter. It runs nothing itself.

use std::fmt::Write as _;

use sqlx::AssertSqlSafe;

use super::key;
use super::schema::{BINARY, TABLE};
use crate::decimal::DIGITS;
use crate::sql::{HIDDEN, KEY, Layout, PARTITION, Shape, built, literal, quote};
use crate::{Column, ColumnType, Merge, ReadModel};

/// The characters of a text that an index holds, and of all its texts: it ends at 3,072 bytes.
const INDEXED_CHARACTERS: usize = 150;
const INDEXED_IN_ALL: usize = 600;
/// The columns that an index holds.
const INDEXED_COLUMNS: usize = 16;
/// More than any partition: what the column does not hold.
const NO_PARTITION: u32 = 70_000;

/// A statement of the bookkeeping, which numbers its parameters in their order.
pub(super) fn statement(text: &str) -> AssertSqlSafe<String> {
    let mut parts = text.split('$');
    let mut sql = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        sql.push('?');
        sql.push_str(part.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    }
    built(sql)
}

/// Parks a stream, unless it is parked.
pub(super) const PARK: &str = "INSERT INTO parked (generation, stream, \"partition\", position, error) \
     VALUES ($1, $2, $3, $4, $5) ON DUPLICATE KEY UPDATE stream = parked.stream";

/// Moves a checkpoint: position and digest to move to, table, partition, position and digest to move from.
pub(super) const MOVE: &str = "UPDATE checkpoints SET position = ?, digest = ? \
     WHERE generation = ? AND \"partition\" = ? AND position = ? AND digest = ?";

/// A column's type. A UUID is text, as people write it: what identifies rows is `_key`.
fn sql_type(column_type: ColumnType, in_key: bool) -> String {
    match column_type {
        ColumnType::Text if in_key => format!("varchar(1024) {BINARY}"),
        ColumnType::Text | ColumnType::Personal => format!("longtext {BINARY}"),
        ColumnType::Integer => "bigint".into(),
        ColumnType::Boolean => "boolean".into(),
        ColumnType::Timestamp => "datetime(6)".into(),
        ColumnType::Date => "date".into(),
        ColumnType::Uuid => "char(36) CHARACTER SET ascii COLLATE ascii_bin".into(),
        ColumnType::Decimal { scale } => format!("decimal({DIGITS}, {scale})"),
        ColumnType::List => "json".into(),
    }
}

/// Makes a generation's table anew: what a crash left of it, before it was written down, goes first.
pub(super) fn create_table(model: &ReadModel, table: &str) -> Vec<String> {
    let [partition, position, updated_at] = HIDDEN;
    let quoted = quote(table);
    let mut sql = format!(
        "CREATE TABLE {quoted} ({KEY} varbinary({}) NOT NULL",
        key::longest(&model.key)
    );
    for (index, column) in Shape::from(model).all().enumerate() {
        let in_key = index < model.key.len();
        let null = if in_key { " NOT NULL" } else { "" };
        let comment = match column.column_type {
            ColumnType::Personal => {
                " COMMENT 'Personal: ciphertext, opened by the query API alone.'"
            }
            _ => "",
        };
        let of = sql_type(column.column_type, in_key);
        _ = write!(sql, ", {} {of}{null}{comment}", quote(&column.name));
    }
    let identity = if model.shared {
        format!("{KEY}, {PARTITION}")
    } else {
        KEY.into()
    };
    let comment = format!(
        "Read model {}, revision {}. Rebuilt from the log: never write here.",
        model.name, model.revision
    );
    _ = write!(
        sql,
        ", {partition} smallint NOT NULL COMMENT 'The partition of the log that the row belongs to.'\
         , {position} bigint NOT NULL COMMENT 'The position in the log of the last event that changed the row.'\
         , {updated_at} datetime(6) COMMENT 'When that event was recorded (UTC).'\
         , PRIMARY KEY ({identity}), KEY \"key\" ({})) {TABLE} COMMENT = {}",
        indexed(model.key.iter()),
        literal(&comment)
    );
    vec![format!("DROP TABLE IF EXISTS {quoted}"), sql]
}

/// Columns in an index, texts with as much of them as it holds.
fn indexed<'m>(columns: impl Iterator<Item = &'m Column> + Clone) -> String {
    let columns = columns.take(INDEXED_COLUMNS);
    let is_text =
        |column: &Column| matches!(column.column_type, ColumnType::Text | ColumnType::Personal);
    let texts = columns.clone().filter(|column| is_text(column)).count();
    let characters = INDEXED_CHARACTERS.min(INDEXED_IN_ALL / texts.max(1));
    let columns: Vec<String> = columns
        .map(|column| {
            if is_text(column) {
                format!("{}({characters})", quote(&column.name))
            } else {
                quote(&column.name)
            }
        })
        .collect();
    columns.join(", ")
}

/// How many indexes of this name the table of this name has.
pub(super) const HAS_INDEX: &str = "SELECT COUNT(*) FROM information_schema.statistics \
     WHERE table_schema = DATABASE() AND table_name = ? AND index_name = ?";

pub(super) fn create_index(table: &str, name: &str, columns: &[&Column]) -> String {
    format!(
        "CREATE INDEX {} ON {} ({})",
        quote(name),
        quote(table),
        indexed(columns.iter().copied())
    )
}

/// Makes the view of a read model show this table: partial rows merged, without personal columns.
pub(super) fn create_view(model: &str, layout: &Layout, table: &str) -> String {
    let key: Vec<String> = layout.key.iter().map(|c| quote(&c.name)).collect();
    let key = key.join(", ");
    let own = layout
        .columns
        .iter()
        .filter(|column| column.column_type != ColumnType::Personal)
        .map(|column| (quote(&column.name), merged(column)));
    let hidden = HIDDEN[1..]
        .iter()
        .map(|name| ((*name).to_owned(), format!("MAX({name})")));
    let columns: Vec<String> = own
        .chain(hidden)
        .map(|(name, merged)| {
            if layout.shared {
                format!("{merged} AS {name}")
            } else {
                name
            }
        })
        .collect();
    let grouped = if layout.shared {
        format!(" GROUP BY {key}")
    } else {
        String::new()
    };
    format!(
        "CREATE OR REPLACE VIEW {} AS SELECT {key}, {} FROM {}{grouped}",
        quote(&model.replace('-', "_")),
        columns.join(", "),
        quote(table)
    )
}

/// The value that partial rows make together.
fn merged(column: &Column) -> String {
    let name = quote(&column.name);
    match (column.merge(), column.column_type) {
        (Merge::Sum, ColumnType::Decimal { .. }) => format!("SUM({name})"),
        (Merge::Sum, _) => format!("CAST(SUM({name}) AS signed)"),
        (Merge::Min, _) => format!("MIN({name})"),
        (Merge::Max, _) => format!("MAX({name})"),
    }
}

/// The stored form of a row: key, columns, hidden columns. Restricted by what the caller appends.
fn select_stored(shape: Shape<'_>, table: &str) -> String {
    let columns: Vec<String> = shape
        .all()
        .map(|c| quote(&c.name))
        .chain(HIDDEN.map(String::from))
        .collect();
    format!("SELECT {} FROM {}", columns.join(", "), quote(table))
}

fn list(count: usize, one: &str) -> String {
    vec![one; count].join(", ")
}

/// The rows of so many keys and, if `one_partition`, of one partition.
pub(super) fn load(shape: Shape<'_>, table: &str, count: usize, one_partition: bool) -> String {
    let mut sql = format!(
        "{} WHERE {KEY} IN ({})",
        select_stored(shape, table),
        list(count, "?")
    );
    if one_partition {
        _ = write!(sql, " AND {PARTITION} = ?");
    }
    sql
}

/// Inserts or replaces so many rows: key's bytes, columns, partition, position and moment of each. Where one of them stands
/// for another partition, or stands in another one's way, no partition is written, which the database refuses.
///
/// `VALUES(…)` is the only way of naming a row's own values that both servers know.
pub(super) fn upsert(shape: Shape<'_>, table: &str, count: usize) -> String {
    let columns: Vec<String> = std::iter::once(KEY.to_owned())
        .chain(shape.all().map(|c| quote(&c.name)))
        .chain(HIDDEN.map(String::from))
        .collect();
    let row = format!("({})", list(columns.len(), "?"));
    let set: Vec<String> = columns
        .iter()
        .filter(|c| *c != KEY && *c != PARTITION)
        .map(|c| format!("{c} = VALUES({c})"))
        .collect();
    format!(
        "INSERT INTO {} ({}) VALUES {} ON DUPLICATE KEY UPDATE {PARTITION} = IF({KEY} = VALUES({KEY}) \
         AND {PARTITION} = VALUES({PARTITION}), {PARTITION}, {NO_PARTITION}), {}",
        quote(table),
        columns.join(", "),
        list(count, &row),
        set.join(", ")
    )
}

/// The rows of so many keys in one partition.
pub(super) fn delete(table: &str, count: usize) -> String {
    format!(
        "DELETE FROM {} WHERE {KEY} IN ({}) AND {PARTITION} = ?",
        quote(table),
        list(count, "?")
    )
}

/// Stored rows whose column has a value, in a partition, at most so many.
pub(super) fn find(shape: Shape<'_>, table: &str, column: &Column) -> String {
    let value = match column.column_type {
        // A text beside a number would make floating point of both.
        ColumnType::Decimal { scale } => format!("CAST(? AS decimal({DIGITS}, {scale}))"),
        _ => "?".into(),
    };
    format!(
        "{} WHERE {} = {value} AND {PARTITION} = ? LIMIT ?",
        select_stored(shape, table),
        quote(&column.name)
    )
}

/// Stored rows whose column is smaller than a value, in a partition, the smallest first, at most so many.
pub(super) fn due(shape: Shape<'_>, table: &str, column: &str) -> String {
    let column = quote(column);
    format!(
        "{} WHERE {column} < ? AND {PARTITION} = ? ORDER BY {column} LIMIT ?",
        select_stored(shape, table)
    )
}

/// Stored rows of a partition after a key's bytes, in the order of the key, at most so many.
pub(super) fn scan(shape: Shape<'_>, table: &str) -> String {
    format!(
        "{} WHERE {PARTITION} = ? AND {KEY} > ? ORDER BY {KEY} LIMIT ?",
        select_stored(shape, table)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_parameters_become_marks_in_their_order() {
        assert_eq!(
            statement("a = $1 AND b > $2, $10)").0,
            "a = ? AND b > ?, ?)"
        );
    }
}
