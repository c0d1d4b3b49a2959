//! The writer's connection: a batch is one transaction under the file's write lock.

use std::collections::HashSet;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use events::{Hash, Position, StreamId, Version};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tokio::time::Instant;
use uuid::Uuid;

use super::connect::{fault, is_busy, primary_code};
use crate::Error;
use crate::backend::{Backend, Batch, Failure, Known, Landed, Outcome};
use crate::tails::Tail;

/// How long the lock is waited for before the writer looks at its deadlines.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How often the lock is tried. SQLite's own waiting grows to 100 ms, and a busy process would starve the others.
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// How many events go in by one statement: the most of these sizes that are left. Each statement is handed to the
/// connection's thread and back, which costs more than a row.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// How much of the file the writer keeps in memory, in KiB (negative, says SQLite): the indexes are written all over.
const CACHE: &str = "-32768";
/// After how many pages the write-ahead log is copied into the file; a page written often until then is copied once.
const CHECKPOINT: &str = "8000";

// CROSS JOIN keeps the order: each of the batch's values is looked up in the index.
const KNOWN: &str = "SELECT j.key, f.stream, f.version, f.append_size, l.position, l.hash FROM json_each(?1) j \
    CROSS JOIN events f ON f.command_id = unhex(j.value) \
    CROSS JOIN events l ON l.position = f.position + f.append_size - 1";

const TAILS: &str = "SELECT j.key, t.version, t.hash FROM json_each(?1) j CROSS JOIN events t ON t.stream = j.value \
    AND t.version = (SELECT max(version) FROM events WHERE stream = j.value)";

static INSERTS: LazyLock<[String; 4]> = LazyLock::new(|| CHUNKS.map(insert));

fn insert(rows: usize) -> String {
    let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    format!(
        "INSERT INTO events (position, stream, version, id, type, schema_version, data, metadata, hash, partition, \
         command_id, append_size) VALUES {}",
        vec![row; rows].join(", ")
    )
}

pub(super) struct SqliteBackend {
    options: SqliteConnectOptions,
    epoch: Uuid,
    connection: Option<SqliteConnection>,
}

impl SqliteBackend {
    pub(super) fn new(options: SqliteConnectOptions, epoch: Uuid) -> Self {
        let options = options
            .create_if_missing(false)
            .busy_timeout(LOCK_PAUSE)
            .pragma("cache_size", CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT);
        Self {
            options,
            epoch,
            connection: None,
        }
    }

    /// Takes the connection, or makes one. It is put back only after a success: dropping one that failed half-way rolls
    /// its transaction back.
    async fn take(&mut self) -> Result<SqliteConnection, Failure> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => SqliteConnection::connect_with(&self.options)
                .await
                .map_err(|error| failure(&error)),
        }
    }
}

#[async_trait]
impl Backend for SqliteBackend {
    async fn tails(&mut self, streams: &[StreamId]) -> Result<Vec<Tail>, Failure> {
        let mut connection = self.take().await?;
        let tails = tails(&mut connection, streams.iter())
            .await
            .map_err(|error| failure(&error))?;
        self.connection = Some(connection);
        Ok(tails)
    }

    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Outcome, Failure> {
        let mut connection = self.take().await?;
        lock(&mut connection).await?;
        let outcome = write(&mut connection, batch, self.epoch).await?;
        sqlx::query("COMMIT")
            .execute(&mut connection)
            .await
            .map_err(|error| failure(&error))?;
        self.connection = Some(connection);
        Ok(outcome)
    }
}

async fn lock(connection: &mut SqliteConnection) -> Result<(), Failure> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut *connection)
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(error) => return Err(failure(&error)),
        }
    }
}

async fn write(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    epoch: Uuid,
) -> Result<Outcome, Failure> {
    let fail = |error: sqlx::Error| failure(&error);
    let base = base(connection, epoch).await?;
    let mut outcome = Outcome {
        landed: Landed::After(Position::from_i64(base)),
        known: vec![],
        moved: vec![],
        refused: vec![],
    };
    if batch.optimistic {
        match insert_rows(connection, batch, base, &HashSet::new()).await {
            // A unique index objects: look up what it is, in the same transaction.
            Err(error) if primary_code(&error) == Some(19) => {
                let undo = "DELETE FROM events WHERE position > ?1";
                sqlx::query(undo)
                    .bind(base)
                    .execute(&mut *connection)
                    .await
                    .map_err(fail)?;
            }
            done => return done.map(|()| outcome).map_err(fail),
        }
    }
    outcome.known = known(connection, batch).await.map_err(fail)?;
    let again: HashSet<usize> = outcome
        .known
        .iter()
        .map(|found| batch.commands[found.command].1)
        .collect();
    let streams = batch.claims.iter().map(|claim| claim.stream);
    outcome.moved = tails(connection, streams)
        .await
        .map_err(fail)?
        .into_iter()
        .enumerate()
        .filter(|(index, tail)| batch.claims[*index].tail != Some(*tail) || again.contains(index))
        .collect();
    let refused = outcome.moved.iter().map(|(index, _)| *index).collect();
    insert_rows(connection, batch, base, &refused)
        .await
        .map_err(fail)?;
    Ok(outcome)
}

/// The head, if the log is still the one that was opened.
async fn base(connection: &mut SqliteConnection, epoch: Uuid) -> Result<i64, Failure> {
    let row = sqlx::query("SELECT position, epoch FROM events_head WHERE id = 1")
        .fetch_optional(connection)
        .await
        .map_err(|error| failure(&error))?;
    row.filter(|row| row.get::<Uuid, _>(1) == epoch)
        .map(|row| row.get(0))
        .ok_or_else(|| {
            Failure::Fatal(
                "the event log was replaced by another while this process had it open: restart it"
                    .into(),
            )
        })
}

/// Inserts the rows whose streams are not refused, and raises the head by their number.
async fn insert_rows(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
    base: i64,
    refused: &HashSet<usize>,
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = batch
        .rows
        .iter()
        .filter(|row| !refused.contains(&row.claim))
        .collect();
    let mut position = base;
    let mut left = rows.as_slice();
    while !left.is_empty() {
        let size = CHUNKS
            .iter()
            .position(|size| *size <= left.len())
            .unwrap_or(CHUNKS.len() - 1);
        let (chunk, rest) = left.split_at(CHUNKS[size]);
        left = rest;
        // The text is made of constants alone; every value is bound.
        let sql = AssertSqlSafe(INSERTS[size].as_str());
        let mut query = sqlx::query_with(sql, SqliteArguments::default());
        for row in chunk {
            position += 1;
            query = query
                .bind(position)
                .bind(batch.claims[row.claim].stream.as_str())
                .bind(row.version.as_i64())
                .bind(row.event.id.0)
                .bind(row.event.type_name.as_str())
                .bind(row.event.schema_version)
                .bind(row.event.data.as_str())
                .bind(row.event.metadata.as_str())
                .bind(row.hash.as_bytes())
                .bind(row.partition.0)
                .bind(row.command.map(|(id, _)| id))
                .bind(row.command.map(|(_, size)| size as i64));
        }
        query.execute(&mut *connection).await?;
    }
    if position > base {
        let raise = "UPDATE events_head SET position = ?1 WHERE id = 1";
        sqlx::query(raise)
            .bind(position)
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn known(
    connection: &mut SqliteConnection,
    batch: &Batch<'_>,
) -> Result<Vec<Known>, sqlx::Error> {
    let ids: Vec<String> = batch
        .commands
        .iter()
        .map(|(id, _)| id.simple().to_string())
        .collect();
    let rows = sqlx::query(KNOWN)
        .bind(json(&ids)?)
        .fetch_all(connection)
        .await?;
    let read = |row: &SqliteRow| -> Result<Known, sqlx::Error> {
        let (first, size): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
        Ok(Known {
            command: row.try_get::<i64, _>(0)? as usize,
            stream: StreamId::parse(row.try_get(1)?)
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
            first: Version::from_i64(first),
            last: tail(first + size - 1, row.try_get(5)?)?,
            position: Position::from_i64(row.try_get(4)?),
        })
    };
    rows.iter().map(read).collect()
}

async fn tails(
    connection: &mut SqliteConnection,
    streams: impl Iterator<Item = &StreamId>,
) -> Result<Vec<Tail>, sqlx::Error> {
    let names: Vec<&str> = streams.map(StreamId::as_str).collect();
    let mut tails = vec![Tail::EMPTY; names.len()];
    for row in sqlx::query(TAILS)
        .bind(json(&names)?)
        .fetch_all(connection)
        .await?
    {
        tails[row.try_get::<i64, _>(0)? as usize] = tail(row.try_get(1)?, row.try_get(2)?)?;
    }
    Ok(tails)
}

fn json<T: serde::Serialize>(list: &[T]) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn tail(version: i64, hash: &[u8]) -> Result<Tail, sqlx::Error> {
    let hash = Hash::from_bytes(hash).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Tail {
        version: Version::from_i64(version),
        hash,
    })
}

/// What an error says of the batch: surely about its contents, or its fate is unknown.
fn failure(error: &sqlx::Error) -> Failure {
    match primary_code(error) {
        // TOOBIG, CONSTRAINT, MISMATCH.
        Some(18..=20) => Failure::Refused(format!("SQLite refuses it: {error}")),
        _ => match fault(error) {
            Error::Invalid(why) | Error::Unavailable(why) => Failure::Unknown(why),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use events::{CommandId, NewEvent};
    use futures::future::join_all;

    use super::*;
    use crate::heads::Heads;
    use crate::writer::Writer;
    use crate::{Append, EventStore, Expected, Options, SqliteEventStore};

    /// The real backend, some of whose commits never begin, and some of whose answers never arrive.
    struct Lossy {
        inner: SqliteBackend,
        commits: usize,
    }

    #[async_trait]
    impl Backend for Lossy {
        async fn tails(&mut self, streams: &[StreamId]) -> Result<Vec<Tail>, Failure> {
            self.inner.tails(streams).await
        }

        async fn commit(&mut self, batch: &Batch<'_>) -> Result<Outcome, Failure> {
            self.commits += 1;
            if self.commits % 5 == 1 {
                return Err(Failure::Unknown("it never began".into()));
            }
            let outcome = self.inner.commit(batch).await;
            if self.commits % 5 < 4 {
                Err(Failure::Unknown("its answer was lost".into()))
            } else {
                outcome
            }
        }
    }

    #[tokio::test]
    async fn a_commit_whose_answer_is_lost_is_found_and_not_repeated() {
        let folder = test_support::temp_dir();
        let url = format!("sqlite:{}/events.db", folder.path().display());
        let options = Options {
            max_batch: 8,
            ..Options::default()
        };
        let store = SqliteEventStore::open(&url, options.clone()).await.unwrap();
        let opened = super::super::connect::open(&url, &options).await.unwrap();
        let inner = SqliteBackend::new(opened.connect, opened.identity.epoch);
        let heads = Arc::new(Heads::new(opened.head));
        let writer = Writer::start(Lossy { inner, commits: 0 }, 8, &options, heads);
        let appends = (0..40).map(|n| {
            let command_id = CommandId(Uuid::from_u128(n));
            let event = NewEvent {
                id: command_id.event_id(0),
                type_name: "ThingDone".into(),
                schema_version: 1,
                data: "{}".into(),
                metadata: "{}".into(),
            };
            let stream = StreamId::parse(&format!("thing-{}", n % 3)).unwrap();
            writer.append(Append {
                stream,
                expected: Expected::Any,
                command_id,
                events: vec![event],
            })
        });
        for answer in join_all(appends).await {
            assert!(
                !answer.unwrap().repeated,
                "to its caller it is the first answer"
            );
        }
        writer.close().await;
        assert_eq!(store.head().await.unwrap(), Position::new(40));
    }
}
