//! The statements that load, write and scan stored rows. For each the parameters are said; it runs nothing itself.

use std::fmt::Write as _;

use super::{HIDDEN, PARTITION, Shape, element_type, names, quote};
use crate::{Column, ColumnType};

/// The stored form of a row: key, columns, hidden columns. Restricted by what the caller appends.
pub(crate) fn select_stored(shape: Shape<'_>, table: &str) -> String {
    let columns: Vec<String> = shape
        .all()
        .map(|c| format!("t.{}", quote(&c.name)))
        .collect();
    let [partition, position, updated_at] = HIDDEN;
    format!(
        "SELECT {}, t.{partition}, t.{position}, t.{updated_at} FROM {} t",
        columns.join(", "),
        quote(table)
    )
}

/// `$first::type[], …` for the columns.
fn arrays<'a>(columns: impl Iterator<Item = &'a Column>, first: usize) -> String {
    let arrays: Vec<String> = columns
        .enumerate()
        .map(|(i, c)| format!("${}::{}[]", i + first, element_type(c.column_type)))
        .collect();
    arrays.join(", ")
}

/// PostgreSQL: the rows of `$1, …` (arrays of the key columns), then, if shared, of partition `$n+1`.
pub(crate) fn load_by_arrays(shape: Shape<'_>, table: &str) -> String {
    let key = names(shape.key.iter());
    let on: Vec<String> = key
        .iter()
        .map(|name| format!("t.{name} = k.{name}"))
        .collect();
    let mut sql = select_stored(shape, table);
    _ = write!(
        sql,
        " JOIN UNNEST({}) AS k({}) ON {}",
        arrays(shape.key.iter(), 1),
        key.join(", "),
        on.join(" AND ")
    );
    if shape.shared {
        _ = write!(sql, " WHERE t.{PARTITION} = ${}", key.len() + 1);
    }
    sql
}

/// At most `$3` rows of partition `$2` whose column is `$1`.
pub(crate) fn find(shape: Shape<'_>, table: &str, column: &str) -> String {
    format!(
        "{} WHERE t.{} = $1 AND t.{PARTITION} = $2 LIMIT $3",
        select_stored(shape, table),
        quote(column)
    )
}

/// At most `$3` rows of partition `$2` whose column is smaller than `$1`, the smallest first.
pub(crate) fn due(shape: Shape<'_>, table: &str, column: &str) -> String {
    let column = quote(column);
    format!(
        "{} WHERE t.{column} < $1 AND t.{PARTITION} = $2 ORDER BY t.{column} LIMIT $3",
        select_stored(shape, table)
    )
}

/// SQLite: the rows of `count` keys, their values one after another, then, if shared, of a partition.
pub(crate) fn load_by_list(shape: Shape<'_>, table: &str, count: usize) -> String {
    format!(
        "{} WHERE {}",
        select_stored(shape, table),
        key_in_list(shape, count, shape.shared)
    )
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
    let columns: Vec<String> = names(shape.all())
        .into_iter()
        .chain(HIDDEN.map(String::from))
        .collect();
    let set: Vec<String> = columns
        .iter()
        .filter(|c| !identity.contains(c))
        .map(|c| format!("{c} = excluded.{c}"))
        .collect();
    let table = quote(table);
    format!(
        "INSERT INTO {table} ({}) {source} ON CONFLICT ({}) DO UPDATE SET {} WHERE {table}.{PARTITION} = excluded.{PARTITION}",
        columns.join(", "),
        identity.join(", "),
        set.join(", ")
    )
}

/// One read model's part of a commit.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) shape: Shape<'a>,
    pub(crate) table: &'a str,
    pub(crate) upserts: bool,
    pub(crate) deletes: bool,
    /// The keys are noted in the journal.
    pub(crate) journal: bool,
    /// The owner's column, where the journal is to say whose the removed rows were.
    pub(crate) owner: Option<&'a str>,
}

impl Part<'_> {
    /// How many parameters it takes.
    fn parameters(&self) -> usize {
        let upserts = usize::from(self.upserts) * (self.shape.all().count() + 2);
        let deletes = usize::from(self.deletes) * self.shape.key.len();
        Place::OWN + usize::from(self.journal) + upserts + deletes
    }
}

/// Where a part of a commit stands in its statement: its number and its first parameter.
#[derive(Clone, Copy)]
struct Place {
    number: usize,
    first: usize,
}

impl Place {
    /// Parameters that every part has: position and digest to move to, table, partition, position and digest to move from,
    /// number of rows to write, times amended to move to and from.
    const OWN: usize = 9;

    /// The parameter after so many others of this part.
    fn at(self, index: usize) -> usize {
        self.first + index
    }

    fn partition(self) -> usize {
        self.at(3)
    }
}

/// PostgreSQL: commits of several read models as one statement, so as one round trip and one transaction. Its parameters:
/// the channel; then, for each part, what [`Place::OWN`] says; then, if it is noted, the journal's entry; then, if there are
/// any, of the upserts arrays of all columns, of positions and of moments; then of the deletes arrays of the key columns.
///
/// It gives for each part whether the checkpoint was moved. Only then is anything of it written: what writes asks `moved`
/// first, which waits for a rival's commit and then sees what it left. A row that stands for another partition is not
/// written: dividing by zero then undoes the whole statement.
pub(crate) fn commit(parts: &[Part<'_>]) -> String {
    let (mut first, mut steps, mut moved, mut foreign) = (2, vec![], vec![], vec![]);
    for (number, part) in parts.iter().enumerate() {
        let place = Place { number, first };
        commit_part(part, place, &mut steps);
        moved.push(format!("(SELECT count(*) FROM moved{number}) = 1"));
        if part.upserts {
            foreign.push(format!(
                "(EXISTS (SELECT FROM moved{number}) AND (SELECT count(*) FROM written{number}) <> ${})",
                place.at(6)
            ));
        }
        first += part.parameters();
    }
    if foreign.is_empty() {
        foreign.push("false".into());
    }
    format!(
        "WITH {} SELECT ARRAY[{}], 1 / CASE WHEN {} THEN 0 ELSE 1 END, (SELECT pg_notify($1, ''))",
        steps.join(", "),
        moved.join(", "),
        foreign.join(" OR ")
    )
}

/// The steps of one part.
fn commit_part(part: &Part<'_>, place: Place, steps: &mut Vec<String>) {
    let (number, at) = (place.number, |index| place.at(index));
    steps.push(format!(
        "moved{number} AS (UPDATE checkpoints SET position = ${}, digest = ${}, amended = ${} WHERE generation = ${} \
         AND partition = ${} AND position = ${} AND digest = ${} AND amended = ${} RETURNING 1)",
        at(0), at(1), at(7), at(2), place.partition(), at(4), at(5), at(8)
    ));
    let mut next = at(Place::OWN) + usize::from(part.journal);
    if part.upserts {
        steps.push(format!(
            "written{number} AS ({} RETURNING 1)",
            upsert_arrays(part, place, next)
        ));
        next += part.shape.all().count() + 2;
    }
    if part.deletes {
        let owner = part
            .owner
            .map_or("NULL".into(), |name| format!("t.{}", quote(name)));
        steps.push(format!(
            "deleted{number} AS ({} RETURNING k._number, {owner} AS _owner)",
            delete_arrays(part, place, next)
        ));
    }
    if part.journal {
        let owners = match part.owner {
            Some(_) if part.deletes => {
                format!("(SELECT string_agg(_number || '=' || _owner, ',') FROM deleted{number})")
            }
            _ => "NULL".into(),
        };
        steps.push(format!(
            "noted{number} AS (INSERT INTO changes (generation, partition, position, since, keys, owners) \
             SELECT ${}, ${}, ${}, ${}, ${}::bytea, {owners} FROM moved{number})",
            at(2), place.partition(), at(0), at(4), at(Place::OWN)
        ));
    }
}

/// Arrays of all columns, of positions and moments, from `$first` on.
fn upsert_arrays(part: &Part<'_>, place: Place, first: usize) -> String {
    let shape = part.shape;
    let columns = names(shape.all());
    let next = first + columns.len();
    let selected: Vec<String> = shape
        .all()
        .map(|c| match c.column_type {
            ColumnType::List => format!("{}::text[]", quote(&c.name)),
            _ => quote(&c.name),
        })
        .collect();
    let source = format!(
        "SELECT {}, ${}::smallint, {}, {} FROM UNNEST({}, ${next}::bigint[], ${}::timestamptz[]) AS u({}, {}, {}) \
         WHERE EXISTS (SELECT FROM moved{})",
        selected.join(", "),
        place.partition(),
        HIDDEN[1],
        HIDDEN[2],
        arrays(shape.all(), first),
        next + 1,
        columns.join(", "),
        HIDDEN[1],
        HIDDEN[2],
        place.number,
    );
    upsert(shape, part.table, &source)
}

/// SQLite: `count` rows, their values (columns, partition, position, moment) one after another.
pub(crate) fn upsert_list(shape: Shape<'_>, table: &str, count: usize) -> String {
    let row = format!(
        "({})",
        placeholders(shape.all().count() + HIDDEN.len(), "?")
    );
    upsert(
        shape,
        table,
        &format!("VALUES {}", placeholders(count, &row)),
    )
}

/// The rows whose keys are arrays from `$first` on, in the part's partition, numbered from 1.
fn delete_arrays(part: &Part<'_>, place: Place, first: usize) -> String {
    let shape = part.shape;
    let key = names(shape.key.iter());
    let on: Vec<String> = key
        .iter()
        .map(|name| format!("t.{name} = k.{name}"))
        .collect();
    format!(
        "DELETE FROM {} t USING UNNEST({}) WITH ORDINALITY AS k({}, _number) WHERE {} AND t.{PARTITION} = ${} \
         AND EXISTS (SELECT FROM moved{})",
        quote(part.table),
        arrays(shape.key.iter(), first),
        key.join(", "),
        on.join(" AND "),
        place.partition(),
        place.number,
    )
}

/// SQLite: the rows of `count` keys, their values one after another, then of a partition.
pub(crate) fn delete_list(shape: Shape<'_>, table: &str, count: usize) -> String {
    format!(
        "DELETE FROM {} WHERE {}",
        quote(table),
        key_in_list(shape, count, true)
    )
}

/// Stored rows of partition `$1`, at most `$2`, after the key `$3, …` if there is one, in the order of the key.
pub(crate) fn scan(shape: Shape<'_>, table: &str, after: bool) -> String {
    let key: Vec<String> = names(shape.key.iter())
        .iter()
        .map(|name| format!("t.{name}"))
        .collect();
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

/// SQLite: the keys and the owners of `count` rows about to be removed, their keys' values one after another, then of a
/// partition.
pub(crate) fn owners_of_list(shape: Shape<'_>, table: &str, owner: &str, count: usize) -> String {
    format!(
        "SELECT {}, {} FROM {} WHERE {}",
        names(shape.key.iter()).join(", "),
        quote(owner),
        quote(table),
        key_in_list(shape, count, true)
    )
}
