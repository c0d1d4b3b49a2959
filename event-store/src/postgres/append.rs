//! The writer's connection: a batch is one call of `append_v1`, one round trip, one commit.

use std::time::Duration;

use async_trait::async_trait;
use events::{Hash, Position, StreamId, Version};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::connect;
use crate::Error;
use crate::backend::{Backend, Batch, Failure, Known, Landed, Outcome};
use crate::tails::Tail;

/// How long a batch's answer is waited for: longer than `lock_timeout`.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

const APPEND: &str = "SELECT * FROM showcaller_events.append_v1\
    ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";

const TAILS: &str = "SELECT t.version, t.hash FROM unnest($1::text[]) WITH ORDINALITY AS s(stream, n) \
    LEFT JOIN LATERAL (SELECT e.version, e.hash FROM showcaller_events.events e \
                        WHERE e.stream = s.stream ORDER BY e.version DESC LIMIT 1) t ON true \
    ORDER BY s.n";

pub(super) struct PostgresBackend {
    options: PgConnectOptions,
    epoch: Uuid,
    connection: Option<PgConnection>,
}

impl PostgresBackend {
    pub(super) fn new(options: PgConnectOptions, epoch: Uuid) -> Self {
        Self {
            options,
            epoch,
            connection: None,
        }
    }

    /// Takes the connection, or makes one. It is put back only after a success: what failed half-way is not used again.
    async fn take(&mut self) -> Result<PgConnection, Failure> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => connect::connection(&self.options)
                .await
                .map_err(|error| Failure::Unknown(error.to_string())),
        }
    }

    /// Runs a statement and gives all its rows.
    ///
    /// Always to the end, never only to the first row: the server sends rows before it commits, and only what follows
    /// them says that the commit happened.
    async fn run(
        &mut self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<PgRow>, Failure> {
        let mut connection = self.take().await?;
        let rows = match tokio::time::timeout(ANSWER_WAIT, query.fetch_all(&mut connection)).await {
            Ok(rows) => rows.map_err(|error| failure(&error))?,
            Err(_) => {
                return Err(Failure::Unknown(format!(
                    "PostgreSQL did not answer within {ANSWER_WAIT:?}"
                )));
            }
        };
        self.connection = Some(connection);
        Ok(rows)
    }
}

#[async_trait]
impl Backend for PostgresBackend {
    async fn tails(&mut self, streams: &[StreamId]) -> Result<Vec<Tail>, Failure> {
        let names: Vec<&str> = streams.iter().map(StreamId::as_str).collect();
        let rows = self.run(sqlx::query(TAILS).bind(names)).await?;
        let read = |row: &PgRow| {
            let (version, hash): (Option<i64>, Option<&[u8]>) = (row.try_get(0)?, row.try_get(1)?);
            version
                .zip(hash)
                .map_or(Ok(Tail::EMPTY), |(version, hash)| tail(version, hash))
        };
        rows.iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(|error| stored(&error))
    }

    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Outcome, Failure> {
        macro_rules! column {
            ($list:expr, $pattern:pat => $value:expr) => {
                $list.iter().map(|$pattern| $value).collect::<Vec<_>>()
            };
        }
        let query = sqlx::query(APPEND)
            .bind(self.epoch)
            .bind(batch.optimistic)
            .bind(column!(batch.commands, (id, _) => *id))
            .bind(column!(batch.commands, (_, claim) => *claim as i32 + 1))
            .bind(column!(batch.claims, c => c.stream.as_str()))
            .bind(column!(batch.claims, c => c.tail.as_ref().map_or(-1, |tail| tail.version.as_i64())))
            .bind(column!(batch.claims, c => c.tail.as_ref().map_or(Hash::ZERO.as_bytes(), |tail| tail.hash.as_bytes())))
            .bind(column!(batch.rows, r => r.claim as i32 + 1))
            .bind(column!(batch.rows, r => batch.claims[r.claim].stream.as_str()))
            .bind(column!(batch.rows, r => r.version.as_i64()))
            .bind(column!(batch.rows, r => r.event.id.0))
            .bind(column!(batch.rows, r => r.event.type_name.as_str()))
            .bind(column!(batch.rows, r => i32::from(r.event.schema_version)))
            .bind(column!(batch.rows, r => r.event.data.as_str()))
            .bind(column!(batch.rows, r => r.event.metadata.as_str()))
            .bind(column!(batch.rows, r => r.hash.as_bytes()))
            .bind(column!(batch.rows, r => i32::from(r.partition.0)))
            .bind(column!(batch.rows, r => r.command.map(|(id, _)| id)))
            .bind(column!(batch.rows, r => r.command.map(|(_, size)| size as i32)));
        let rows = self.run(query).await?;
        match rows.first() {
            Some(row) => outcome(row).map_err(|error| stored(&error)),
            None => Err(Failure::Unknown(
                "PostgreSQL gave no answer to an append".into(),
            )),
        }
    }
}

fn outcome(row: &PgRow) -> Result<Outcome, sqlx::Error> {
    let base: i64 = row.try_get(0)?;
    // Null after an optimistic append, which has nothing to tell.
    let items: Vec<i32> = row.try_get::<Option<_>, _>(1)?.unwrap_or_default();
    let moved: Vec<i32> = row.try_get::<Option<_>, _>(7)?.unwrap_or_default();
    let mut outcome = Outcome {
        landed: Landed::After(Position::from_i64(base)),
        known: vec![],
        moved: vec![],
        refused: vec![],
    };
    if !items.is_empty() {
        let streams: Vec<String> = row.try_get(2)?;
        let firsts: Vec<i64> = row.try_get(3)?;
        let sizes: Vec<i32> = row.try_get(4)?;
        let positions: Vec<i64> = row.try_get(5)?;
        let hashes: Vec<Vec<u8>> = row.try_get(6)?;
        for (index, item) in items.into_iter().enumerate() {
            outcome.known.push(Known {
                command: item as usize - 1,
                stream: StreamId::parse(&streams[index])
                    .map_err(|error| sqlx::Error::Decode(error.into()))?,
                first: Version::from_i64(firsts[index]),
                last: tail(firsts[index] + i64::from(sizes[index]) - 1, &hashes[index])?,
                position: Position::from_i64(positions[index]),
            });
        }
    }
    if !moved.is_empty() {
        let versions: Vec<i64> = row.try_get(8)?;
        let hashes: Vec<Vec<u8>> = row.try_get(9)?;
        for (index, claim) in moved.into_iter().enumerate() {
            outcome
                .moved
                .push((claim as usize - 1, tail(versions[index], &hashes[index])?));
        }
    }
    Ok(outcome)
}

fn tail(version: i64, hash: &[u8]) -> Result<Tail, sqlx::Error> {
    let hash = Hash::from_bytes(hash).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Tail {
        version: Version::from_i64(version),
        hash,
    })
}

fn stored(error: &sqlx::Error) -> Failure {
    Failure::Fatal(format!("what PostgreSQL holds cannot be read: {error}"))
}

/// What an error says of the batch. Whatever is not surely about its contents leaves its fate unknown: even an error
/// that the server reports may come after the commit, for example when it is shut down.
fn failure(error: &sqlx::Error) -> Failure {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some("SC001") => Failure::Fatal(
            "the event log was replaced by another while this process had it open: restart the process".into(),
        ),
        Some(code) if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => {
            Failure::Refused(format!("PostgreSQL refuses it: {error}"))
        }
        _ => match connect::fault(error) {
            Error::Invalid(why) | Error::Unavailable(why) => Failure::Unknown(why),
        },
    }
}
