//! Generations, checkpoints and parked streams: the same tables and statements in every SQL database, written once and
//! compiled for each, since sqlx's types differ. It opens no transaction and takes no lock: adapters do, around it.

use events::LogIdentity;
use uuid::Uuid;

use crate::live::Stored;
use crate::sql::Layout;
use crate::{Error, Generation};

/// The stored format that this version reads and writes.
pub(crate) const FORMAT: i64 = 3;
/// The version of Showcaller that first wrote each format, by its number from 1.
const WRITTEN_BY: [&str; 3] = ["0.1.0", "0.1.0", "0.1.0"];

pub(crate) const GENERATION: &str = "SELECT model, number, definition_hash, definition, table_name, log, epoch, partitions, live, serves FROM generations WHERE ";

/// One statement, so one snapshot: `kind` 0 is a checkpoint, 1 a parked stream.
pub(crate) const STATUS: &str = "SELECT 0 AS kind, c.\"partition\", c.position, c.digest, NULL AS stream, NULL AS error, c.amended \
     FROM generations g JOIN checkpoints c ON c.generation = g.table_name WHERE g.table_name = $1 AND (g.live OR g.serves) \
     UNION ALL SELECT 1, p.\"partition\", p.position, NULL, p.stream, p.error, 0 \
     FROM generations g JOIN parked p ON p.generation = g.table_name WHERE g.table_name = $1 AND (g.live OR g.serves) \
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
    pub(crate) live: bool,
    pub(crate) serves: bool,
}

impl Raw {
    pub(crate) fn parse(self) -> Result<Stored, Error> {
        let layout: Layout =
            serde_json::from_str(&self.definition).map_err(|_| damaged("a stored definition"))?;
        Ok(Stored {
            log: identity(&self.log, &self.epoch, self.partitions)?,
            layout,
            live: self.live,
            serves: self.serves,
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
            use crate::{Checkpoint, Error, Generation, Parked, ReadModel, RowWrites, Status, checks};

            type Connection = $connection;

            pub(crate) fn stored(row: &$row) -> Result<Stored, Error> {
                let raw = Raw {
                    model: row.try_get(0)?,
                    number: row.try_get(1)?,
                    definition_hash: row.try_get(2)?,
                    definition: row.try_get(3)?,
                    table: row.try_get(4)?,
                    log: row.try_get(5)?,
                    epoch: row.try_get(6)?,
                    partitions: row.try_get(7)?,
                    live: row.try_get(8)?,
                    serves: row.try_get(9)?,
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

            pub(crate) async fn find(connection: &mut Connection, table: &str) -> Result<Stored, Error> {
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
                     AND NOT refused ORDER BY number DESC LIMIT 1"
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
                    None => create(connection, model, log, 0, false).await?,
                };
                crate::$adapter::index(connection, model, &generation).await?;
                // Another log's rows say nothing of this one: they are not shown as if they did.
                if live(connection, &model.name).await?.is_none_or(|live| live.log != log) {
                    make_live(connection, &generation, &Layout::of(model)).await?;
                }
                Ok(generation)
            }

            /// Makes another generation of a definition, for the event at version `asked` of the operators' stream.
            pub(crate) async fn create(
                connection: &mut Connection,
                model: &ReadModel,
                log: LogIdentity,
                asked: i64,
                compare: bool,
            ) -> Result<Generation, Error> {
                let definition_hash = model.definition_hash();
                let number: i64 =
                    sqlx::query_scalar(statement("SELECT COALESCE(MAX(number), 0) + 1 FROM generations WHERE model = $1"))
                        .bind(&model.name)
                        .fetch_one(&mut *connection)
                        .await?;
                // Which of two definitions is the newer one is told by the first that was built of each.
                let defined: i64 = sqlx::query_scalar(statement(
                    "SELECT COALESCE(MIN(defined), $1) FROM generations \
                     WHERE model = $2 AND definition_hash = $3 AND log = $4 AND epoch = $5",
                ))
                .bind(number)
                .bind(&model.name)
                .bind(&definition_hash)
                .bind(log.log.to_string())
                .bind(log.epoch.to_string())
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
                     (table_name, model, number, definition_hash, definition, live, log, epoch, partitions, defined, asked, \
                     compared) VALUES ($1, $2, $3, $4, $5, false, $6, $7, $8, $9, $10, $11)",
                ))
                .bind(&table)
                .bind(&model.name)
                .bind(i64::from(number))
                .bind(&definition_hash)
                .bind(layout)
                .bind(log.log.to_string())
                .bind(log.epoch.to_string())
                .bind(i64::from(log.partitions))
                .bind(defined)
                .bind(asked)
                .bind(compare)
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

            pub(crate) async fn make_live(
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

            /// See `ProjectionStore::swap`; the caller holds the lock, and the checkpoints of what readers see stand still.
            pub(crate) async fn swap(connection: &mut Connection, generation: &Generation) -> Result<bool, Error> {
                let new = find(connection, &generation.table).await?;
                let live = live(connection, &generation.model).await?;
                // Positions of another log cannot be compared.
                if live.as_ref().is_some_and(|live| live.log != new.log) {
                    return Ok(false);
                }
                if new.serves {
                    return Ok(true);
                }
                let before = match serving(connection, &new).await? {
                    Some(serving) => Some(serving),
                    None => live.clone(),
                };
                if let Some(before) = before
                    && is_behind(connection, &new.generation, &before.generation).await?
                {
                    return Ok(false);
                }
                serve(connection, &new).await?;
                match live {
                    Some(live) if defined(connection, &live).await? > defined(connection, &new).await? => {}
                    _ => make_live(connection, &new.generation, &new.layout).await?,
                }
                Ok(true)
            }

            /// What readers of this one's definition see.
            async fn serving(connection: &mut Connection, new: &Stored) -> Result<Option<Stored>, Error> {
                let sql = statement(&format!(
                    "{GENERATION} model = $1 AND definition_hash = $2 AND log = $3 AND epoch = $4 AND serves"
                ));
                let found = sqlx::query(sql)
                    .bind(&new.generation.model)
                    .bind(&new.generation.definition_hash)
                    .bind(new.log.log.to_string())
                    .bind(new.log.epoch.to_string())
                    .fetch_optional(connection)
                    .await?;
                found.as_ref().map(stored).transpose()
            }

            /// Whether one generation is behind another in any partition.
            pub(crate) async fn is_behind(
                connection: &mut Connection,
                new: &Generation,
                old: &Generation,
            ) -> Result<bool, Error> {
                let behind: i64 = sqlx::query_scalar(statement(
                    "SELECT COUNT(*) FROM checkpoints old JOIN checkpoints new ON new.\"partition\" = old.\"partition\" \
                     WHERE old.generation = $1 AND new.generation = $2 AND new.position < old.position",
                ))
                .bind(&old.table)
                .bind(&new.table)
                .fetch_one(connection)
                .await?;
                Ok(behind > 0)
            }

            /// Readers of its definition see this generation from now on.
            pub(crate) async fn serve(connection: &mut Connection, new: &Stored) -> Result<(), Error> {
                sqlx::query(statement(
                    "UPDATE generations SET serves = false \
                     WHERE model = $1 AND definition_hash = $2 AND log = $3 AND epoch = $4 AND serves",
                ))
                .bind(&new.generation.model)
                .bind(&new.generation.definition_hash)
                .bind(new.log.log.to_string())
                .bind(new.log.epoch.to_string())
                .execute(&mut *connection)
                .await?;
                sqlx::query(statement("UPDATE generations SET serves = true, served = true WHERE table_name = $1"))
                    .bind(&new.generation.table)
                    .execute(connection)
                    .await?;
                Ok(())
            }

            async fn defined(connection: &mut Connection, of: &Stored) -> Result<i64, Error> {
                let sql = statement("SELECT defined FROM generations WHERE table_name = $1");
                Ok(sqlx::query_scalar(sql).bind(&of.generation.table).fetch_one(connection).await?)
            }

            pub(crate) async fn checkpoints(
                connection: &mut Connection,
                table: &str,
            ) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
                let rows = sqlx::query(statement(
                    "SELECT c.position, c.digest, c.amended, g.log, g.epoch, g.partitions \
                     FROM generations g JOIN checkpoints c ON c.generation = g.table_name \
                     WHERE g.table_name = $1 ORDER BY c.\"partition\"",
                ))
                .bind(table)
                .fetch_all(connection)
                .await?;
                let first = rows.first().ok_or_else(|| gone(table))?;
                let log = identity(first.try_get(3)?, first.try_get(4)?, first.try_get(5)?)?;
                let checkpoints = rows.iter().map(|row| checkpoint(row, 0, 2)).collect::<Result<Vec<_>, _>>()?;
                if checkpoints.len() != usize::from(log.partitions) {
                    return Err(damaged("a generation without all its checkpoints"));
                }
                Ok((log, checkpoints))
            }

            fn checkpoint(row: &$row, at: usize, amended: usize) -> Result<Checkpoint, Error> {
                let digest: Vec<u8> = row.try_get(at + 1)?;
                let amended: i64 = row.try_get(amended)?;
                Ok(Checkpoint {
                    position: Position::from_i64(row.try_get(at)?),
                    digest: Digest::from_bytes(&digest).map_err(|_| damaged("a digest"))?,
                    amended: amended.cast_unsigned(),
                })
            }

            pub(crate) async fn one_checkpoint(
                connection: &mut Connection,
                table: &str,
                partition: Partition,
            ) -> Result<Checkpoint, Error> {
                let sql = statement(
                    "SELECT position, digest, amended FROM checkpoints WHERE generation = $1 AND \"partition\" = $2",
                );
                let row = sqlx::query(sql)
                    .bind(table)
                    .bind(i64::from(partition.0))
                    .fetch_optional(connection)
                    .await?;
                checkpoint(&row.ok_or_else(|| gone(table))?, 0, 2)
            }

            pub(crate) fn parked_row(row: &$row, at: usize) -> Result<Parked, Error> {
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
                        None => checkpoints.push(checkpoint(row, 2, 6)?),
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

            /// Writes what a commit says of parked streams.
            pub(crate) async fn note_parking(
                connection: &mut Connection,
                table: &str,
                writes: &RowWrites,
            ) -> Result<(), sqlx::Error> {
                park(connection, table, &writes.park).await?;
                for (stream, parked) in &writes.retried {
                    let Some(parked) = parked else {
                        sqlx::query(statement("DELETE FROM parked WHERE generation = $1 AND stream = $2"))
                            .bind(table)
                            .bind(stream.as_str())
                            .execute(&mut *connection)
                            .await?;
                        continue;
                    };
                    sqlx::query(statement(
                        "UPDATE parked SET position = $1, error = $2, events = 0, retries = retries + 1, retry = 0 \
                         WHERE generation = $3 AND stream = $4",
                    ))
                    .bind(parked.position.as_i64())
                    .bind(checks::parked_error(&parked.error))
                    .bind(table)
                    .bind(stream.as_str())
                    .execute(&mut *connection)
                    .await?;
                }
                for (stream, events) in &writes.wait {
                    sqlx::query(statement("UPDATE parked SET events = events + $1 WHERE generation = $2 AND stream = $3"))
                        .bind(events.cast_signed())
                        .bind(table)
                        .bind(stream.as_str())
                        .execute(&mut *connection)
                        .await?;
                }
                for (stream, position) in &writes.discarded {
                    sqlx::query(statement("INSERT INTO discarded (generation, stream, position) VALUES ($1, $2, $3)"))
                        .bind(table)
                        .bind(stream.as_str())
                        .bind(position.as_i64())
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(())
            }

            /// Parks streams; one that is parked already keeps its first reason.
            async fn park(
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
