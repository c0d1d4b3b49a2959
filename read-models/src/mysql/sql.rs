//! The SQL of MySQL and MariaDB. Every identifier in it comes from a validated definition or from the table of generations,
//! and is quoted all the same; every value is a parameter. It runs nothing itself.

use std::fmt::Write as _;

use sqlx::AssertSqlSafe;

use super::key;
use super::schema::{BINARY, TABLE};
use crate::sql::{HIDDEN, KEY, Layout, PARTITION, Shape, built, literal, quote};
use crate::{Column, ColumnType, ReadModel};

/// The characters of a text of the key that its index holds.
const INDEXED_CHARACTERS: usize = 150;
/// The columns of the key that its index holds.
const INDEXED_COLUMNS: usize = 4;
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
    let identity = if model.summed {
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
        indexed(&model.key),
        literal(&comment)
    );
    vec![format!("DROP TABLE IF EXISTS {quoted}"), sql]
}

/// The key's columns in an index: people look rows up by them.
fn indexed(key: &[Column]) -> String {
    let columns: Vec<String> = key
        .iter()
        .take(INDEXED_COLUMNS)
        .map(|column| match column.column_type {
            ColumnType::Text => format!("{}({INDEXED_CHARACTERS})", quote(&column.name)),
            _ => quote(&column.name),
        })
        .collect();
    columns.join(", ")
}

/// Makes the view of a read model show this table: sums summed, without personal columns.
pub(super) fn create_view(model: &str, layout: &Layout, table: &str) -> String {
    let shown = |columns: &[Column]| -> Vec<String> {
        let seen = columns
            .iter()
            .filter(|c| c.column_type != ColumnType::Personal);
        seen.map(|c| quote(&c.name)).collect()
    };
    let key = shown(&layout.key).join(", ");
    let mut columns = shown(&layout.columns);
    columns.extend(HIDDEN[1..].iter().map(|name| (*name).to_owned()));
    let own = columns.len() - 2;
    let columns: Vec<String> = columns
        .into_iter()
        .enumerate()
        .map(|(index, name)| match (layout.summed, index < own) {
            (false, _) => name,
            (true, true) => format!("CAST(SUM({name}) AS signed) AS {name}"),
            (true, false) => format!("MAX({name}) AS {name}"),
        })
        .collect();
    let grouped = if layout.summed {
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
