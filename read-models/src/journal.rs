//! The journal of changed rows: for each commit, which keys it wrote and removed, stored in the very transaction of the
//! commit. Readers who know a place learn from it what changed since, however they missed it.
//!
//! Each entry says where its commit began. So a reader sees for itself whether entries lead without a gap from its place
//! to the checkpoint, and nobody has to keep account of what was pruned, left out, or committed by an older version that
//! writes no entries. It refuses to give part of the changes: all, or none.

use std::collections::HashMap;

use events::{LogIdentity, Position};
use uuid::Uuid;

use crate::sql::Dialect;
use crate::{Access, Commit, Error, Generation, ReadModel, RowKey, Status};

mod form;

/// A commit of more rows leaves no entry: so much changes at once while a read model is built, when nobody can follow.
const ROWS_AN_ENTRY: usize = 1_000;
/// Most changed rows that are told at once; a reader further behind begins anew.
const ROWS_TOLD: usize = 10_000;
/// Most entries read for that.
pub(crate) const ENTRIES_READ: usize = 100_000;
/// How long entries are kept, in seconds.
pub(crate) const KEPT_S: i64 = 24 * 60 * 60;
/// Most entries kept of one partition: more than one a second for as long as they are kept.
pub(crate) const ENTRIES_KEPT: i64 = 100_000;
/// Most bytes of keys kept of one partition.
pub(crate) const BYTES_KEPT: i64 = 64 << 20;

/// A state of a live table: which table, over which log, and how far it had come in each partition. Every snapshot of a
/// table has one, and later snapshots have later ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The table.
    pub generation: Generation,
    /// The log that the positions speak of.
    pub log: LogIdentity,
    /// The last event taken in of each partition.
    pub positions: Vec<Position>,
    /// How often rows behind these positions were amended.
    pub amended: u64,
}

impl Place {
    /// Whether it is of the same table and at the other's place or past it, in every partition.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_of(other)
            && self.positions.len() == other.positions.len()
            && self
                .positions
                .iter()
                .zip(&other.positions)
                .all(|(a, b)| a >= b)
    }

    /// Whether it is of the same table, as often amended.
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.generation.table, self.log, self.amended)
            == (&other.generation.table, other.log, other.amended)
    }
}

impl Status {
    /// The place that the read model had come to.
    pub fn place(&self) -> Place {
        Place {
            generation: self.generation.clone(),
            log: self.log,
            positions: self.checkpoints.iter().map(|c| c.position).collect(),
            amended: self.checkpoints.iter().map(|c| c.amended).sum(),
        }
    }
}

/// Which rows changed between two places.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The later place.
    pub place: Place,
    /// The keys of the rows that were written or removed, each once, in no order. With each the accounts that the row
    /// belonged to when it was removed, where the owner's column is not part of the key; what is there now, the table tells.
    pub rows: HashMap<RowKey, Vec<Uuid>>,
}

/// The keys that a commit leaves in the journal; nothing for a commit of too many rows, or of one that amends rows behind
/// its checkpoint: readers begin anew after that.
pub(crate) fn entry(commit: &Commit<'_>) -> Option<Vec<u8>> {
    let Commit {
        from, to, writes, ..
    } = *commit;
    if to.amended != from.amended {
        return None;
    }
    let rows = writes.upserts.len() + writes.deletes.len();
    let upserts = writes.upserts.iter().map(|(key, _)| key);
    (rows <= ROWS_AN_ENTRY).then(|| form::write(upserts, &writes.deletes))
}

/// The owner's column, where it is not part of the key: then a removed row's key does not tell whose it was.
pub(crate) fn owner_beside_key(model: &ReadModel) -> Option<&str> {
    match &model.access {
        Access::Owner { column } if model.key.iter().all(|key| key.name != *column) => Some(column),
        _ => None,
    }
}

/// Whose the removed rows were, as an entry holds it: `{number of the deleted key, from 1}={account}`, with commas between.
pub(crate) fn owners_text(deletes: &[RowKey], owners: &[(RowKey, Uuid)]) -> Option<String> {
    let owners: HashMap<&RowKey, Uuid> = owners.iter().map(|(key, owner)| (key, *owner)).collect();
    let pairs = deletes.iter().zip(1..).filter_map(|(key, number)| {
        let owner = owners.get(key)?;
        Some(format!("{number}={owner}"))
    });
    let pairs: Vec<String> = pairs.collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// One row of the statement that reads the journal: a partition's checkpoint, and an entry if there is one.
pub(crate) struct Line {
    pub(crate) partition: i64,
    pub(crate) reached: i64,
    pub(crate) amended: i64,
    pub(crate) entry: Option<Stored>,
}

/// An entry as stored.
pub(crate) struct Stored {
    pub(crate) position: i64,
    pub(crate) since: i64,
    pub(crate) keys: Vec<u8>,
    pub(crate) owners: Option<String>,
}

/// Follows the entries from a place on, line by line.
pub(crate) struct Reading<'p> {
    from: &'p Place,
    to: Vec<Position>,
    /// How often rows were amended, in all partitions.
    amended: u64,
    /// How far the entries of each partition lead.
    led: Vec<i64>,
    rows: HashMap<RowKey, Vec<Uuid>>,
}

impl<'p> Reading<'p> {
    pub(crate) fn new(from: &'p Place) -> Self {
        Self {
            from,
            to: Vec::with_capacity(from.positions.len()),
            amended: 0,
            led: from.positions.iter().map(|p| p.as_i64()).collect(),
            rows: HashMap::new(),
        }
    }

    /// Takes the next line, in the order of partitions and positions; nothing if the journal does not lead on.
    pub(crate) fn take(&mut self, line: Line) -> Option<()> {
        let partition = usize::try_from(line.partition).ok()?;
        if partition >= self.to.len() {
            self.to.push(Position::from_i64(line.reached));
            self.amended += line.amended.cast_unsigned();
        }
        let led = self.led.get_mut(partition)?;
        let Some(entry) = line.entry else {
            return Some(());
        };
        if entry.since > *led {
            return None;
        }
        *led = entry.position;
        let keys = form::read(&entry.keys)?;
        let owners = owners(entry.owners.as_deref().unwrap_or_default());
        for key in keys.upserts {
            self.rows.entry(key).or_default();
        }
        for (index, key) in keys.deletes.into_iter().enumerate() {
            let former = self.rows.entry(key).or_default();
            if let Some(owner) = owners.get(&(index + 1))
                && !former.contains(owner)
            {
                former.push(*owner);
            }
        }
        (self.rows.len() <= ROWS_TOLD).then_some(())
    }

    /// What changed, if every partition's entries lead to its checkpoint. A place beyond a checkpoint (which a crash of the
    /// database may undo) is none of this table's.
    pub(crate) fn end(self) -> Option<Changed> {
        let whole = self.to.len() == self.from.positions.len()
            && self.amended == self.from.amended
            && self
                .led
                .iter()
                .zip(&self.to)
                .all(|(led, reached)| *led == reached.as_i64());
        whole.then(|| Changed {
            place: Place {
                positions: self.to,
                ..self.from.clone()
            },
            rows: self.rows,
        })
    }
}

fn owners(text: &str) -> HashMap<usize, Uuid> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(number, owner)| Some((number.parse().ok()?, owner.parse().ok()?)))
        .collect()
}

/// Reads the checkpoints of the table `$1`, if readers see it, and beside each the entries after `$2, …`, one for each
/// partition; at most `$n` lines. One statement, so one snapshot.
pub(crate) fn since(dialect: Dialect, partitions: usize) -> String {
    let places: Vec<String> = (0..partitions)
        .map(|partition| format!("({partition}, CAST(${} AS bigint))", partition + 2))
        .collect();
    let limit = partitions + 2;
    let entries = match dialect {
        // Bound to be a range of the primary key. Left to itself, PostgreSQL may go through all that the journal holds of a
        // partition, for while it has not counted what is new there, either seems to cost the same.
        Dialect::Postgres => format!(
            "LEFT JOIN LATERAL (SELECT position, since, keys, owners FROM changes WHERE generation = $1 \
             AND partition = a.partition AND position > a.position ORDER BY position LIMIT ${limit}) j ON true"
        ),
        Dialect::Sqlite => {
            "LEFT JOIN changes j ON j.generation = c.generation AND j.partition = c.partition \
             AND j.position > a.position"
                .to_owned()
        }
    };
    format!(
        "WITH a (partition, position) AS (VALUES {}) \
         SELECT c.partition, c.position, c.amended, j.position, j.since, j.keys, j.owners \
         FROM generations g JOIN checkpoints c ON c.generation = g.table_name JOIN a ON a.partition = c.partition {entries} \
         WHERE g.table_name = $1 AND (g.live OR g.serves) ORDER BY c.partition, j.position LIMIT ${limit}",
        places.join(", "),
    )
}

/// Removes the entries of a generation `$1` that are older than `$2` seconds, beyond the newest `$3` of a partition, or
/// beyond `$4` bytes of keys; and what is left of generations that are gone. `now` is the database's time in seconds.
pub(crate) fn prune(now: &str) -> [String; 2] {
    [
        format!(
            "WITH cut AS MATERIALIZED (SELECT k.partition, MAX(k.position) AS position FROM (SELECT partition, position, \
             {now} - at > $2 AS old, ROW_NUMBER() OVER newest > $3 AS many, SUM(LENGTH(keys)) OVER newest > $4 AS large \
             FROM changes WHERE generation = $1 WINDOW newest AS (PARTITION BY partition ORDER BY position DESC)) k \
             WHERE k.old OR k.many OR k.large GROUP BY k.partition) \
             DELETE FROM changes WHERE generation = $1 \
             AND position <= (SELECT cut.position FROM cut WHERE cut.partition = changes.partition)"
        ),
        "DELETE FROM changes WHERE generation NOT IN (SELECT table_name FROM generations)".into(),
    ]
}

/// A line's values, in the order of [`since`]'s columns.
pub(crate) type LineValues = (
    i64,
    i64,
    i64,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<String>,
);

impl From<LineValues> for Line {
    fn from((partition, reached, amended, position, since, keys, owners): LineValues) -> Self {
        let entry = position.zip(since).zip(keys);
        Self {
            partition,
            reached,
            amended,
            entry: entry.map(|((position, since), keys)| Stored {
                position,
                since,
                keys,
                owners,
            }),
        }
    }
}

/// Says whether a place can be one of this read model's tables.
pub(crate) fn check(model: &ReadModel, place: &Place) -> Result<(), Error> {
    let partitions = usize::from(place.log.partitions);
    if place.generation.model == model.name && place.positions.len() == partitions {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "the place is none of the read model {}",
            model.name
        )))
    }
}

/// Reads the journal on a connection, whatever the database: sqlx's types differ.
macro_rules! journal {
    ($name:ident, $connection:ty, $dialect:ident) => {
        pub(crate) mod $name {
            use futures::TryStreamExt;

            use crate::Error;
            use crate::journal::{self, Changed, LineValues, Place, Reading};
            use crate::sql::{Dialect, built};

            /// See `ReadStore::changes_since`.
            pub(crate) async fn since(
                connection: &mut $connection,
                place: &Place,
            ) -> Result<Option<Changed>, Error> {
                let sql = journal::since(Dialect::$dialect, place.positions.len());
                let mut query =
                    sqlx::query_as::<_, LineValues>(built(sql)).bind(&place.generation.table);
                for position in &place.positions {
                    query = query.bind(position.as_i64());
                }
                let mut lines = query
                    .bind(journal::ENTRIES_READ as i64 + 1)
                    .fetch(connection);
                let mut reading = Reading::new(place);
                let mut read = 0;
                loop {
                    let line = match lines.try_next().await {
                        // Written by a version without a journal.
                        Err(error) if crate::errors::is_absent(&error) => return Ok(None),
                        line => line?,
                    };
                    let Some(line) = line else {
                        return Ok(reading.end());
                    };
                    read += 1;
                    if read > journal::ENTRIES_READ || reading.take(line.into()).is_none() {
                        return Ok(None);
                    }
                }
            }

            /// See `ProjectionStore::prune_changes`.
            pub(crate) async fn prune(
                connection: &mut $connection,
                table: &str,
                now: &str,
            ) -> Result<(), Error> {
                let [old, gone] = journal::prune(now);
                sqlx::query(built(old))
                    .bind(table)
                    .bind(journal::KEPT_S)
                    .bind(journal::ENTRIES_KEPT)
                    .bind(journal::BYTES_KEPT)
                    .execute(&mut *connection)
                    .await?;
                sqlx::query(built(gone)).execute(&mut *connection).await?;
                Ok(())
            }
        }
    };
}
pub(crate) use journal;
