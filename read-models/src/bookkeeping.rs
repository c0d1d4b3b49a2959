//! Generations, checkpoints and parked streams: the same tables and statements in every SQL database, written once and
//! compiled for each, since sqlx's types differ. It opens no transaction and takes no lock: adapters do, around it.

use events::LogIdentity;
use uuid::Uuid;

use crate::live::Stored;
use crate::sql::Layout;
use crate::{Error, Generation};

/// The stored format that this version reads and writes.
pub(crate) const FORMAT: i64 = 2;
/// The version of Showcaller that first wrote each format, by its number from 1.
const WRITTEN_BY: [&str; 2] = ["0.1.0", "0.1.0"];

pub(crate) const GENERATION: &str = "SELECT model, number, definition_hash, definition, table_name, log, epoch, partitions FROM generations WHERE ";

/// One statement, so one snapshot: `kind` 0 is a checkpoint, 1 a parked stream.
pub(crate) const STATUS: &str = "SELECT 0 AS kind, c.\"partition\", c.position, c.digest, NULL AS stream, NULL AS error \
     FROM generations g JOIN checkpoints c ON c.generation = g.table_name WHERE g.table_name = $1 AND g.live \
     UNION ALL SELECT 1, p.\"partition\", p.position, NULL, p.stream, p.error \
     FROM generations g JOIN parked p ON p.generation = g.table_name WHERE g.table_name = $1 AND g.live \
     ORDER BY 1, 2, 3";

/// Says whether this version can use a stored format.
pub(crate) fn check_format(stored: i64) -> Result<(), Error> {
    if stored <= FORMAT {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the read models are stored in format {stored}, written by a newer Showcaller; this one, {}, knows format {FORMAT} \
         (since {}): run a version that knows format {stored}, or point --database at an empty database and rebuild",
        env!("CARGO_PKG_VERSION"),
        WRITTEN_BY[FORMAT as usize - 1]
    )))
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::Invalid(format!(
        "the read model database is damaged: {what}; drop it and rebuild from the log"
    ))
}

/// A row of the table of generations.
pub(crate) struct Raw {
    pub(crate) model: String,
    pub(crate) number: i64,
    pub(crate) definition_hash: String,
    pub(crate) definition: String,
    pub(crate) table: String,
    pub(crate) log: String,
    pub(crate) epoch: String,
    pub(crate) partitions: i64,
}

impl Raw {
    pub(crate) fn parse(self) -> Result<Stored, Error> {
        let layout: Layout =
            serde_json::from_str(&self.definition).map_err(|_| damaged("a stored definition"))?;
        Ok(Stored {
            log: identity(&self.log, &self.epoch, self.partitions)?,
            layout,
            generation: Generation {
                model: self.model,
                definition_hash: self.definition_hash,
                number: u32::try_from(self.number).map_err(|_| damaged("a generation's number"))?,
                table: self.table,
            },
        })
    }
}

pub(crate) fn identity(log: &str, epoch: &str, partitions: i64) -> Result<LogIdentity, Error> {
    let id = |text: &str| text.parse::<Uuid>().map_err(|_| damaged("a log's id"));
    let partitions = u16::try_from(partitions).map_err(|_| damaged("a number of partitions"))?;
    Ok(LogIdentity {
        log: id(log)?,
        epoch: id(epoch)?,
        partitions,
    })
}

/// What differs from database to database is in the module `$adapter`: how it writes a statement (`statement`) and parks a
/// stream that may be parked already (`PARK`), the statements that make a table (`create_table`), what makes
/// missing indexes (`index`), and what makes the view of a read model show a table (`show`).
macro_rules! bookkeeping {
    ($name:ident, $connection:ty, $row:ty, $adapter:ident) => {
        pub(crate) mod $name {
            use events::{Digest, LogIdentity, Partition, Position, StreamId};
            use sqlx::Row as _;

            use crate::$adapter::statement;
            use crate::bookkeeping::{GENERATION, Raw, STATUS, damaged, identity};
            use crate::live::Stored;
            use crate::sql::{self, Layout, built};
            use crate::{Checkpoint, Error, Generation, Parked, ReadModel, Status, checks};

            type Connection = $connection;

            fn stored(row: &$row) -> Result<Stored, Error> {
                let raw = Raw {
                    model: row.try_get(0)?,
                    number: row.try_get(1)?,
                    definition_hash: row.try_get(2)?,
                    definition: row.try_get(3)?,
                    table: row.try_get(4)?,
                    log: row.try_get(5)?,
                    epoch: row.try_get(6)?,
                    partitions: row.try_get(7)?,
                };
                raw.parse()
            }

            pub(crate) async fn live(connection: &mut Connection, model: &str) -> Result<Option<Stored>, Error> {
                let sql = statement(&format!("{GENERATION} model = $1 AND live"));
                let found = sqlx::query(sql).bind(model).fetch_optional(connection).await;
                match found {
                    Err(error) if crate::errors::is_absent(&error) => Ok(None),
                    found => found?.as_ref().map(stored).transpose(),
                }
            }

            async fn find(connection: &mut Connection, table: &str) -> Result<Stored, Error> {
                let sql = statement(&format!("{GENERATION} table_name = $1"));
                let found = sqlx::query(sql).bind(table).fetch_optional(connection).await?;
                stored(&found.ok_or_else(|| gone(table))?)
            }

            fn gone(table: &str) -> Error {
                Error::Invalid(format!("the generation {table} is not there any more; prepare it again"))
            }

            /// The newest generation of this definition over this log.
            async fn newest(
                connection: &mut Connection,
                model: &ReadModel,
                hash: &str,
                log: LogIdentity,
            ) -> Result<Option<Stored>, Error> {
                let sql = statement(&format!(
                    "{GENERATION} model = $1 AND definition_hash = $2 AND log = $3 AND epoch = $4 AND partitions = $5 \
                     ORDER BY number DESC LIMIT 1"
                ));
                let found = sqlx::query(sql)
                    .bind(&model.name)
                    .bind(hash)
                    .bind(log.log.to_string())
                    .bind(log.epoch.to_string())
                    .bind(i64::from(log.partitions))
                    .fetch_optional(connection)
                    .await?;
                found.as_ref().map(stored).transpose()
            }

            /// See `ReadStore::prepare`; the caller holds the lock.
            pub(crate) async fn prepare(
                connection: &mut Connection,
                model: &ReadModel,
                log: LogIdentity,
            ) -> Result<Generation, Error> {
                let hash = model.definition_hash();
                let generation = match newest(connection, model, &hash, log).await? {
                    Some(stored) => stored.generation,
                    None => create(connection, model, hash, log).await?,
                };
                crate::$adapter::index(connection, model, &generation).await?;
                // Another log's rows say nothing of this one: they are not shown as if they did.
                if live(connection, &model.name).await?.is_none_or(|live| live.log != log) {
                    make_live(connection, &generation, &Layout::of(model)).await?;
                }
                Ok(generation)
            }

            async fn create(
                connection: &mut Connection,
                model: &ReadModel,
                definition_hash: String,
                log: LogIdentity,
            ) -> Result<Generation, Error> {
                let number: i64 =
                    sqlx::query_scalar(statement("SELECT COALESCE(MAX(number), 0) + 1 FROM generations WHERE model = $1"))
                        .bind(&model.name)
                        .fetch_one(&mut *connection)
                        .await?;
                let number = u32::try_from(number).map_err(|_| damaged("a generation's number"))?;
                let table = sql::table_name(model, &definition_hash, number);
                for sql in crate::$adapter::create_table(model, &table) {
                    sqlx::query(built(sql)).execute(&mut *connection).await?;
                }
                let layout = serde_json::to_string(&Layout::of(model)).map_err(|e| Error::Invalid(e.to_string()))?;
                sqlx::query(statement(
                    "INSERT INTO generations \
                     (table_name, model, number, definition_hash, definition, live, log, epoch, partitions) \
                     VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8)",
                ))
                .bind(&table)
                .bind(&model.name)
                .bind(i64::from(number))
                .bind(&definition_hash)
                .bind(layout)
                .bind(log.log.to_string())
                .bind(log.epoch.to_string())
                .bind(i64::from(log.partitions))
                .execute(&mut *connection)
                .await?;
                for partition in 0..log.partitions {
                    sqlx::query(statement(
                        "INSERT INTO checkpoints (generation, \"partition\", position, digest) VALUES ($1, $2, 0, $3)",
                    ))
                        .bind(&table)
                        .bind(i64::from(partition))
                        .bind(Digest::ZERO.as_bytes())
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(Generation { model: model.name.clone(), definition_hash, number, table })
            }

            async fn make_live(
                connection: &mut Connection,
                generation: &Generation,
                layout: &Layout,
            ) -> Result<(), Error> {
                sqlx::query(statement("UPDATE generations SET live = false WHERE model = $1 AND live"))
                    .bind(&generation.model)
                    .execute(&mut *connection)
                    .await?;
                sqlx::query(statement("UPDATE generations SET live = true WHERE table_name = $1"))
                    .bind(&generation.table)
                    .execute(&mut *connection)
                    .await?;
                crate::$adapter::show(connection, generation, layout).await
            }

            /// See `ReadStore::swap`; the caller holds the lock, and the live generation's checkpoints stand still.
            pub(crate) async fn swap(connection: &mut Connection, generation: &Generation) -> Result<bool, Error> {
                let new = find(connection, &generation.table).await?;
                let old = live(connection, &generation.model).await?;
                if let Some(old) = old {
                    if old.generation.table == new.generation.table {
                        return Ok(true);
                    }
                    let behind: i64 = sqlx::query_scalar(statement(
                        "SELECT COUNT(*) FROM checkpoints old JOIN checkpoints new ON new.\"partition\" = old.\"partition\" \
                         WHERE old.generation = $1 AND new.generation = $2 AND new.position < old.position",
                    ))
                    .bind(&old.generation.table)
                    .bind(&new.generation.table)
                    .fetch_one(&mut *connection)
                    .await?;
                    // Positions of another log cannot be compared.
                    if old.log != new.log || behind > 0 {
                        return Ok(false);
                    }
                }
                make_live(connection, &new.generation, &new.layout).await?;
                Ok(true)
            }

            pub(crate) async fn checkpoints(
                connection: &mut Connection,
                table: &str,
            ) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
                let rows = sqlx::query(statement(
                    "SELECT c.position, c.digest, g.log, g.epoch, g.partitions \
                     FROM generations g JOIN checkpoints c ON c.generation = g.table_name \
                     WHERE g.table_name = $1 ORDER BY c.\"partition\"",
                ))
                .bind(table)
                .fetch_all(connection)
                .await?;
                let first = rows.first().ok_or_else(|| gone(table))?;
                let log = identity(first.try_get(2)?, first.try_get(3)?, first.try_get(4)?)?;
                let checkpoints = rows.iter().map(|row| checkpoint(row, 0)).collect::<Result<Vec<_>, _>>()?;
                if checkpoints.len() != usize::from(log.partitions) {
                    return Err(damaged("a generation without all its checkpoints"));
                }
                Ok((log, checkpoints))
            }

            fn checkpoint(row: &$row, at: usize) -> Result<Checkpoint, Error> {
                let digest: Vec<u8> = row.try_get(at + 1)?;
                Ok(Checkpoint {
                    position: Position::from_i64(row.try_get(at)?),
                    digest: Digest::from_bytes(&digest).map_err(|_| damaged("a digest"))?,
                })
            }

            pub(crate) async fn one_checkpoint(
                connection: &mut Connection,
                table: &str,
                partition: Partition,
            ) -> Result<Checkpoint, Error> {
                let sql = statement("SELECT position, digest FROM checkpoints WHERE generation = $1 AND \"partition\" = $2");
                let row = sqlx::query(sql)
                    .bind(table)
                    .bind(i64::from(partition.0))
                    .fetch_optional(connection)
                    .await?;
                checkpoint(&row.ok_or_else(|| gone(table))?, 0)
            }

            fn parked_row(row: &$row, at: usize) -> Result<Parked, Error> {
                let partition: i64 = row.try_get("partition")?;
                let stream: String = row.try_get(at)?;
                Ok(Parked {
                    stream: StreamId::parse(&stream).map_err(|_| damaged("a parked stream's name"))?,
                    partition: Partition(u16::try_from(partition).map_err(|_| damaged("a partition"))?),
                    position: Position::from_i64(row.try_get("position")?),
                    error: row.try_get(at + 1)?,
                })
            }

            pub(crate) async fn parked(connection: &mut Connection, table: &str) -> Result<Vec<Parked>, Error> {
                let rows = sqlx::query(statement(
                    "SELECT \"partition\", position, stream, error FROM parked WHERE generation = $1 \
                     ORDER BY \"partition\", position",
                ))
                .bind(table)
                .fetch_all(connection)
                .await?;
                rows.iter().map(|row| parked_row(row, 2)).collect()
            }

            /// The status of a generation, or nothing if it is not live any more.
            #[allow(dead_code, reason = "only databases that serve queries are asked")]
            pub(crate) async fn status(connection: &mut Connection, live: &Stored) -> Result<Option<Status>, Error> {
                let rows = sqlx::query(statement(STATUS)).bind(&live.generation.table).fetch_all(connection).await?;
                let (mut checkpoints, mut parked) = (Vec::new(), Vec::new());
                for row in &rows {
                    match row.try_get::<Option<String>, _>(4)? {
                        None => checkpoints.push(checkpoint(row, 2)?),
                        Some(_) => parked.push(parked_row(row, 4)?),
                    }
                }
                Ok((!checkpoints.is_empty()).then(|| Status {
                    generation: live.generation.clone(),
                    log: live.log,
                    checkpoints,
                    parked,
                }))
            }

            /// Parks streams; one that is parked already keeps its first reason.
            pub(crate) async fn park(
                connection: &mut Connection,
                table: &str,
                streams: &[Parked],
            ) -> Result<(), sqlx::Error> {
                for parked in streams {
                    sqlx::query(statement(crate::$adapter::PARK))
                    .bind(table)
                    .bind(parked.stream.as_str())
                    .bind(i64::from(parked.partition.0))
                    .bind(parked.position.as_i64())
                    .bind(checks::parked_error(&parked.error))
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(())
            }
        }
    };
}
pub(crate) use bookkeeping;
