//! What operators ask of the bookkeeping: other builds, going back, dropping, trying again. The same statements in both
//! databases, written once and compiled for each. It opens no transaction and takes no lock: adapters do, around it.

mod told;

pub(crate) use told::{BuildValues, REBUILDS, WAITING, WaitingValues, rebuild, version, waiting};

/// How many builds are told, the latest first.
pub(crate) const TOLD: i64 = 200;
/// How many builds of one read model are remembered.
pub(crate) const REMEMBERED: i64 = 20;

pub(crate) const BUILD: &str = "SELECT model, number, definition_hash, table_name, live, serves, asked, compared, refused, served \
     FROM generations WHERE ";

/// What no reader sees, nobody builds and nobody can go back to: `$1` is the read model, `$2` the definition.
pub(crate) const OF_DEFINITION: &str = "SELECT table_name FROM generations \
     WHERE model = $1 AND definition_hash = $2 AND log = $3 AND epoch = $4 AND NOT live AND NOT serves";

/// The statements on a connection, whatever the database: `$books` is its bookkeeping, in
/// the module `$adapter`.
macro_rules! operations {
    ($name:ident, $books:ident, $connection:ty, $adapter:ident) => {
        pub(crate) mod $name {
            use events::{LogIdentity, Position, StreamId, Version};
            use sqlx::Row as _;

            use super::$books as books;
            use crate::bookkeeping::{GENERATION, damaged};
            use crate::live::{Candidates, Own};
            use crate::operations::{self, BUILD, BuildValues, OF_DEFINITION, REBUILDS, REMEMBERED, WAITING, WaitingValues};
            use crate::sql::{Layout, built, quote};
            use crate::{
                Acted, Build, Error, Generation, Parked, Phase, Progress, ReadModel, Rebuild, Waiting, Wish,
            };

            type Connection = $connection;

            /// What readers of a definition may see.
            pub(crate) async fn candidates(
                connection: &mut Connection,
                model: &ReadModel,
                definition: &str,
            ) -> Result<Candidates, Error> {
                let sql = built(format!("{GENERATION} model = $1 AND (live OR (serves AND definition_hash = $2))"));
                let found = sqlx::query(sql).bind(&model.name).bind(definition).fetch_all(&mut *connection).await;
                let rows = match found {
                    Err(error) if crate::errors::is_absent(&error) || crate::errors::is_older(&error) => Vec::new(),
                    found => found?,
                };
                let (mut live, mut own) = (None, None);
                for row in &rows {
                    let stored = books::stored(row)?;
                    if stored.live {
                        live = Some(stored);
                    } else {
                        own = Some(stored);
                    }
                }
                let own = match (own, &live) {
                    (Some(stored), Some(live)) => Some(Own {
                        positions: positions(connection, &stored.generation.table).await?,
                        live: positions(connection, &live.generation.table).await?,
                        stored,
                    }),
                    _ => None,
                };
                Ok(Candidates { live, own })
            }

            async fn positions(connection: &mut Connection, table: &str) -> Result<Vec<Position>, Error> {
                let sql = "SELECT position FROM checkpoints WHERE generation = $1 ORDER BY partition";
                let found: Vec<i64> = sqlx::query_scalar(sql).bind(table).fetch_all(connection).await?;
                Ok(found.into_iter().map(Position::from_i64).collect())
            }

            pub(crate) async fn builds(
                connection: &mut Connection,
                model: &str,
                log: LogIdentity,
            ) -> Result<Vec<Build>, Error> {
                let sql = built(format!("{BUILD} model = $1 AND log = $2 AND epoch = $3 ORDER BY number"));
                let rows = sqlx::query(sql)
                    .bind(model)
                    .bind(log.log.to_string())
                    .bind(log.epoch.to_string())
                    .fetch_all(connection)
                    .await?;
                let build = |row| -> Result<Build, Error> {
                    let row: &<<Connection as sqlx::Connection>::Database as sqlx::Database>::Row = row;
                    let number: i64 = row.try_get(1)?;
                    let (serves, served): (bool, bool) = (row.try_get(5)?, row.try_get(9)?);
                    Ok(Build {
                        kept: served && !serves,
                        generation: Generation {
                            model: row.try_get(0)?,
                            number: u32::try_from(number).map_err(|_| damaged("a generation's number"))?,
                            definition_hash: row.try_get(2)?,
                            table: row.try_get(3)?,
                        },
                        live: row.try_get(4)?,
                        serves,
                        asked: operations::version(row.try_get(6)?),
                        compare: row.try_get(7)?,
                        refused: row.try_get(8)?,
                    })
                };
                rows.iter().map(build).collect()
            }

            /// See `OperatedStore::acted`; the caller holds the lock.
            pub(crate) async fn acted(
                connection: &mut Connection,
                model: &str,
                log: LogIdentity,
                first: Version,
            ) -> Result<Version, Error> {
                let sql = "SELECT version FROM operated WHERE model = $1 AND log = $2 AND epoch = $3";
                let found: Option<i64> = sqlx::query_scalar(sql)
                    .bind(model)
                    .bind(log.log.to_string())
                    .bind(log.epoch.to_string())
                    .fetch_optional(&mut *connection)
                    .await?;
                if let Some(version) = found {
                    return Ok(operations::version(version));
                }
                sqlx::query("INSERT INTO operated (model, log, epoch, version) VALUES ($1, $2, $3, $4)")
                    .bind(model)
                    .bind(log.log.to_string())
                    .bind(log.epoch.to_string())
                    .bind(first.as_i64())
                    .execute(connection)
                    .await?;
                Ok(first)
            }

            /// See `OperatedStore::act`; the caller holds the lock, and the checkpoints of what readers see stand still.
            pub(crate) async fn act(
                connection: &mut Connection,
                model: &ReadModel,
                log: LogIdentity,
                version: Version,
                wish: &Wish,
            ) -> Result<Acted, Error> {
                if acted(connection, &model.name, log, Version::ZERO).await? >= version {
                    return Ok(Acted::Done);
                }
                let definition = model.definition_hash();
                let builds = builds(connection, &model.name, log).await?;
                let live_is_mine =
                    builds.iter().any(|build| build.live && build.generation.definition_hash == definition);
                let done = match wish {
                    Wish::Build { .. } | Wish::DropKept if !live_is_mine => Acted::NotMine,
                    Wish::Build { compare } => {
                        begin(connection, model, log, version, *compare).await?;
                        Acted::Done
                    }
                    Wish::Cancel => cancel(connection, &builds, &definition, live_is_mine).await?,
                    Wish::RollBack => roll_back(connection, &builds, &definition).await?,
                    Wish::DropKept => {
                        drop_kept(connection, &model.name, &builds).await?;
                        Acted::Done
                    }
                    Wish::Retry { .. } => {
                        ask_to_retry(connection, &model.name, version, wish).await?;
                        Acted::Done
                    }
                };
                if done == Acted::Done {
                    sqlx::query("UPDATE operated SET version = $4 WHERE model = $1 AND log = $2 AND epoch = $3")
                        .bind(&model.name)
                        .bind(log.log.to_string())
                        .bind(log.epoch.to_string())
                        .bind(version.as_i64())
                        .execute(connection)
                        .await?;
                }
                Ok(done)
            }

            /// Another build of the live definition; what was kept or begun before goes.
            async fn begin(
                connection: &mut Connection,
                model: &ReadModel,
                log: LogIdentity,
                version: Version,
                compare: bool,
            ) -> Result<(), Error> {
                let old: Vec<String> = sqlx::query_scalar(OF_DEFINITION)
                    .bind(&model.name)
                    .bind(model.definition_hash())
                    .bind(log.log.to_string())
                    .bind(log.epoch.to_string())
                    .fetch_all(&mut *connection)
                    .await?;
                for table in old {
                    remove(connection, &table).await?;
                }
                let generation = books::create(connection, model, log, version.as_i64(), compare).await?;
                crate::$adapter::index(connection, model, &generation).await?;
                let progress = Progress::new(Phase::Waiting);
                note(connection, &generation, &progress).await
            }

            async fn cancel(
                connection: &mut Connection,
                builds: &[Build],
                definition: &str,
                live_is_mine: bool,
            ) -> Result<Acted, Error> {
                let serving = builds.iter().find(|build| build.serves && build.generation.definition_hash == definition);
                let number = serving.map_or(u32::MAX, |build| build.generation.number);
                let begun: Vec<&Build> = builds
                    .iter()
                    .filter(|build| build.generation.definition_hash == definition && build.generation.number > number)
                    .filter(|build| build.asked > Version::ZERO && !build.live && !build.serves && !build.kept)
                    .collect();
                for build in &begun {
                    remove(connection, &build.generation.table).await?;
                }
                Ok(if begun.is_empty() && !live_is_mine { Acted::NotMine } else { Acted::Done })
            }

            /// The newest of those that were live makes way for the newest other one that was.
            async fn roll_back(
                connection: &mut Connection,
                builds: &[Build],
                definition: &str,
            ) -> Result<Acted, Error> {
                // Of another definition, readers may see it still.
                let before = builds.iter().rfind(|build| !build.live && (build.kept || build.serves));
                let (Some(before), Some(live)) = (before, builds.iter().find(|build| build.live)) else {
                    return Ok(Acted::Done);
                };
                if before.generation.definition_hash != definition {
                    return Ok(Acted::NotMine);
                }
                if books::is_behind(connection, &before.generation, &live.generation).await? {
                    return Ok(Acted::NotYet);
                }
                let stored = books::find(connection, &before.generation.table).await?;
                books::serve(connection, &stored).await?;
                let layout: &Layout = &stored.layout;
                books::make_live(connection, &before.generation, layout).await?;
                Ok(Acted::Done)
            }

            /// Everything but the live one, and what is being built to take its place.
            async fn drop_kept(connection: &mut Connection, model: &str, builds: &[Build]) -> Result<(), Error> {
                let building = |build: &&Build| !build.refused && !build.kept && !build.serves;
                let spared: Vec<&String> = builds
                    .iter()
                    .filter(|build| build.live || building(build))
                    .map(|build| &build.generation.table)
                    .collect();
                let sql = "SELECT table_name FROM generations WHERE model = $1";
                let tables: Vec<String> = sqlx::query_scalar(sql).bind(model).fetch_all(&mut *connection).await?;
                for table in tables.iter().filter(|table| !spared.contains(table)) {
                    remove(connection, table).await?;
                }
                Ok(())
            }

            async fn remove(connection: &mut Connection, table: &str) -> Result<(), Error> {
                // First: whoever writes to it waits for it before anything else, and so holds nothing that is wanted here.
                let sql = built(format!("DROP TABLE IF EXISTS {}", quote(table)));
                sqlx::query(sql).execute(&mut *connection).await?;
                sqlx::query(
                    "UPDATE rebuilds SET phase = 'cancelled' \
                     WHERE generation = $1 AND phase IN ('waiting', 'building', 'comparing')",
                )
                .bind(table)
                .execute(&mut *connection)
                .await?;
                for of_it in ["checkpoints", "parked", "discarded"] {
                    let sql = built(format!("DELETE FROM {of_it} WHERE generation = $1"));
                    sqlx::query(sql).bind(table).execute(&mut *connection).await?;
                }
                sqlx::query("DELETE FROM generations WHERE table_name = $1")
                    .bind(table)
                    .execute(connection)
                    .await?;
                Ok(())
            }

            async fn ask_to_retry(
                connection: &mut Connection,
                model: &str,
                version: Version,
                wish: &Wish,
            ) -> Result<(), Error> {
                let Wish::Retry { stream, cause, by } = wish else {
                    return Ok(());
                };
                let now = crate::$adapter::NOW;
                let mut sql = format!(
                    "UPDATE parked SET retry = $2, retried_at = {now}, retried_by = $3 \
                     WHERE generation IN (SELECT table_name FROM generations WHERE model = $1)"
                );
                if stream.is_some() {
                    sql.push_str(" AND stream = $4");
                } else if cause.is_some() {
                    // No pattern: what stands in the text means itself.
                    sql.push_str(" AND REPLACE(error, $4, '') <> error");
                }
                let mut query = sqlx::query(built(sql)).bind(model).bind(version.as_i64()).bind(by);
                if let Some(stream) = stream {
                    query = query.bind(stream.as_str());
                } else if let Some(cause) = cause {
                    query = query.bind(cause);
                }
                query.execute(connection).await?;
                Ok(())
            }

            pub(crate) async fn to_retry(connection: &mut Connection, table: &str) -> Result<Vec<Parked>, Error> {
                let rows = sqlx::query(
                    "SELECT partition, position, stream, error FROM parked WHERE generation = $1 AND retry > 0 \
                     ORDER BY position",
                )
                .bind(table)
                .fetch_all(connection)
                .await?;
                rows.iter().map(|row| books::parked_row(row, 2)).collect()
            }

            /// The events of a generation that were left out for good.
            pub(crate) async fn discarded(
                connection: &mut Connection,
                table: &str,
            ) -> Result<Vec<(StreamId, Position)>, Error> {
                let sql = "SELECT stream, position FROM discarded WHERE generation = $1 ORDER BY position";
                let rows: Vec<(String, i64)> = sqlx::query_as(sql).bind(table).fetch_all(connection).await?;
                let event = |(stream, position): (String, i64)| {
                    let stream = StreamId::parse(&stream).map_err(|_| damaged("a discarded event's stream"))?;
                    Ok((stream, Position::from_i64(position)))
                };
                rows.into_iter().map(event).collect()
            }

            pub(crate) async fn note(
                connection: &mut Connection,
                generation: &Generation,
                progress: &Progress,
            ) -> Result<(), Error> {
                let now = crate::$adapter::NOW;
                let table = &generation.table;
                sqlx::query(built(format!(
                    "INSERT INTO rebuilds (generation, model, number, asked, compared, phase, events, position, head, rate, \
                     left_s, detail, began_at, updated_at) \
                     SELECT table_name, model, number, asked, compared, $2, $3, $4, $5, $6, $7, $8, {now}, {now} \
                     FROM generations WHERE table_name = $1 \
                     ON CONFLICT (generation) DO UPDATE SET phase = excluded.phase, events = excluded.events, \
                     position = excluded.position, head = excluded.head, rate = excluded.rate, left_s = excluded.left_s, \
                     detail = excluded.detail, updated_at = excluded.updated_at"
                )))
                .bind(table)
                .bind(progress.phase.name())
                .bind(progress.events.cast_signed())
                .bind(progress.position.as_i64())
                .bind(progress.head.as_i64())
                .bind(progress.rate.cast_signed())
                .bind(progress.left_s.map(u64::cast_signed))
                .bind(progress.detail.as_deref())
                .execute(&mut *connection)
                .await?;
                if progress.phase == Phase::Different {
                    sqlx::query("UPDATE generations SET refused = true WHERE table_name = $1")
                        .bind(table)
                        .execute(&mut *connection)
                        .await?;
                }
                if progress.phase == Phase::Waiting {
                    sqlx::query(
                        "DELETE FROM rebuilds WHERE model = $1 AND generation NOT IN \
                         (SELECT generation FROM rebuilds WHERE model = $1 ORDER BY number DESC LIMIT $2)",
                    )
                    .bind(&generation.model)
                    .bind(REMEMBERED)
                    .execute(connection)
                    .await?;
                }
                Ok(())
            }

            pub(crate) async fn rebuilds(connection: &mut Connection) -> Result<Vec<Rebuild>, Error> {
                let found = sqlx::query_as::<_, BuildValues>(REBUILDS).bind(operations::TOLD).fetch_all(connection).await;
                match found {
                    Err(error) if crate::errors::is_absent(&error) || crate::errors::is_older(&error) => Ok(Vec::new()),
                    found => found?.into_iter().map(operations::rebuild).collect(),
                }
            }

            pub(crate) async fn waiting(connection: &mut Connection, limit: u32) -> Result<Vec<Waiting>, Error> {
                let found =
                    sqlx::query_as::<_, WaitingValues>(WAITING).bind(i64::from(limit)).fetch_all(connection).await;
                match found {
                    Err(error) if crate::errors::is_absent(&error) || crate::errors::is_older(&error) => Ok(Vec::new()),
                    found => found?.into_iter().map(operations::waiting).collect(),
                }
            }
        }
    };
}
pub(crate) use operations;
