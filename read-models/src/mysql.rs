//! Read models in MySQL or MariaDB: a mirror, which others read with SQL. Tables, bookkeeping and views stand in the one
//! database that the URL names. It refuses to be what queries are served from.

use async_trait::async_trait;
use events::{LogIdentity, Partition};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPool};

use crate::bookkeeping::bookkeeping;
use crate::patience::within;
use crate::rows;
use crate::sql::{Layout, built, wanted_indexes};
use crate::{
    Checkpoint, Commit, CommitError, Due, Error, Generation, Options, Parked, ProjectionStore,
    ReadModel, Row, RowKey, Search, Value, checks,
};

mod codec;
mod key;
mod pool;
mod schema;
mod sql;

use sql::{PARK, create_table, statement};

bookkeeping!(
    books,
    sqlx::mysql::MySqlConnection,
    sqlx::mysql::MySqlRow,
    mysql
);

/// Begins a transaction. The rollback is for what a caller who was cut off left behind: where that was the beginning itself,
/// the driver does not know of it.
const BEGIN: &str = "ROLLBACK; START TRANSACTION";
/// Begins a transaction whose reads all see the same moment.
const SNAPSHOT: &str = "ROLLBACK; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
/// The error's number for a value out of its column's range.
const OUT_OF_RANGE: u16 = 1264;
/// The columns of a row that no definition names.
const HIDDEN_COLUMNS: usize = 4;

/// A MySQL or MariaDB database of read models.
#[derive(Debug)]
pub(crate) struct MySql {
    pool: MySqlPool,
    connect: MySqlConnectOptions,
    read_only: bool,
}

impl MySql {
    pub(crate) async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let connect = pool::connect_options(url)?;
        if !options.read_only {
            within("the mirror", schema::migrate(&connect)).await?;
        }
        let store = Self {
            pool: pool::lazy(connect.clone(), options),
            connect,
            read_only: options.read_only,
        };
        if options.read_only {
            within("the mirror", async {
                schema::check(&mut *store.pool.acquire().await?).await
            })
            .await?;
        }
        Ok(store)
    }

    /// A connection that makes or switches tables, alone.
    async fn locked(&self) -> Result<MySqlConnection, Error> {
        if self.read_only {
            return Err(Error::Invalid("this store was opened read-only".into()));
        }
        schema::locked(&self.connect).await
    }

    async fn prepare_alone(
        &self,
        model: &ReadModel,
        log: LogIdentity,
    ) -> Result<Generation, Error> {
        let mut connection = self.locked().await?;
        let generation = books::prepare(&mut connection, model, log).await?;
        // A crash may have come between a switch and its view, which do not commit together here.
        if let Some(live) = books::live(&mut connection, &model.name).await? {
            show(&mut connection, &live.generation, &live.layout).await?;
        }
        schema::commit(connection).await?;
        Ok(generation)
    }

    async fn swap_alone(&self, generation: &Generation) -> Result<bool, Error> {
        let mut connection = self.locked().await?;
        // The live generation's commits wait until this one is compared and live, so readers never go back.
        sqlx::query(
            "SELECT c.position FROM checkpoints c JOIN generations g ON g.table_name = c.generation \
             WHERE g.model = ? AND g.live ORDER BY c.\"partition\" FOR UPDATE",
        )
        .bind(&generation.model)
        .fetch_all(&mut connection)
        .await?;
        let swapped = books::swap(&mut connection, generation).await?;
        schema::commit(connection).await?;
        Ok(swapped)
    }

    async fn load(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let mut loaded = Vec::with_capacity(keys.len());
        let mut connection = self.pool.acquire().await?;
        for (keys, size) in codec::padded_chunks(keys) {
            let sql = sql::load(model.into(), &generation.table, size, model.shared);
            let mut query = codec::bind_keys(sqlx::query(built(sql)), keys, size);
            if model.shared {
                query = query.bind(i64::from(partition.0));
            }
            let rows = query.fetch_all(&mut *connection).await?;
            loaded.extend(rows::stored(model, &rows)?);
        }
        Ok(loaded)
    }

    async fn find(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        search: &Search,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let column = checks::search(model, search)?;
        let sql = sql::find(model.into(), &generation.table, column);
        self.stored(model, sql, &search.value, partition, limit)
            .await
    }

    /// Rows of a partition that a statement finds by a value.
    async fn stored(
        &self,
        model: &ReadModel,
        sql: String,
        value: &Value,
        partition: Partition,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let query = codec::bind(sqlx::query(built(sql)), value)
            .bind(i64::from(partition.0))
            .bind(i64::from(limit));
        rows::stored(model, &query.fetch_all(&self.pool).await?)
    }

    async fn write(&self, commit: Commit<'_>) -> Result<(), CommitError> {
        let Commit {
            model,
            generation,
            partition,
            from,
            to,
            writes,
        } = commit;
        checks::writes(model, writes)?;
        let upserts = codec::encode(&writes.upserts)?;
        let mut transaction = self.pool.begin_with(BEGIN).await?;
        let moved = sqlx::query(sql::MOVE)
            .bind(to.position.as_i64())
            .bind(to.digest.as_bytes())
            .bind(&generation.table)
            .bind(i64::from(partition.0))
            .bind(from.position.as_i64())
            .bind(from.digest.as_bytes())
            .execute(&mut *transaction)
            .await?;
        if moved.rows_affected() == 0 {
            return Err(CommitError::Fenced);
        }
        let columns = model.key.len() + model.columns.len() + HIDDEN_COLUMNS;
        for rows in codec::chunks(&upserts, columns) {
            let sql = sql::upsert(model.into(), &generation.table, rows.len());
            codec::bind_rows(sqlx::query(built(sql)), rows, partition)
                .execute(&mut *transaction)
                .await
                .map_err(upsert_refused)?;
        }
        for (keys, size) in codec::padded_chunks(&writes.deletes) {
            let sql = sql::delete(&generation.table, size);
            codec::bind_keys(sqlx::query(built(sql)), keys, size)
                .bind(i64::from(partition.0))
                .execute(&mut *transaction)
                .await?;
        }
        books::note_parking(&mut transaction, &generation.table, writes).await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn scan_page(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
        if let Some(key) = after {
            checks::key(model, key)?;
        }
        let mut transaction = self.pool.begin_with(SNAPSHOT).await?;
        let checkpoint =
            books::one_checkpoint(&mut transaction, &generation.table, partition).await?;
        let sql = sql::scan(model.into(), &generation.table);
        let rows = sqlx::query(built(sql))
            .bind(i64::from(partition.0))
            // No key has no bytes.
            .bind(after.map(key::bytes).unwrap_or_default())
            .bind(i64::from(limit))
            .fetch_all(&mut *transaction)
            .await?;
        Ok((checkpoint, rows::stored(model, &rows)?))
    }
}

/// What an upsert says of a row that stands for another partition is that its `_partition` is out of range.
fn upsert_refused(error: sqlx::Error) -> CommitError {
    let foreign = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| {
            error.number() == OUT_OF_RANGE && error.message().contains("_partition")
        });
    if foreign {
        checks::foreign_rows()
    } else {
        error.into()
    }
}

/// Makes whatever index is missing. Making one commits: what stands in the generation's way is done.
async fn index(
    connection: &mut MySqlConnection,
    model: &ReadModel,
    generation: &Generation,
) -> Result<(), Error> {
    for (name, columns) in wanted_indexes(model, generation) {
        let there: i64 = sqlx::query_scalar(sql::HAS_INDEX)
            .bind(&generation.table)
            .bind(&name)
            .fetch_one(&mut *connection)
            .await?;
        if there == 0 {
            let create = sql::create_index(&generation.table, &name, &columns);
            sqlx::query(built(create)).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Makes the view of a read model show this table.
async fn show(
    connection: &mut MySqlConnection,
    generation: &Generation,
    layout: &Layout,
) -> Result<(), Error> {
    let view = sql::create_view(&generation.model, layout, &generation.table);
    sqlx::query(built(view)).execute(connection).await?;
    Ok(())
}

#[async_trait]
impl ProjectionStore for MySql {
    async fn prepare(&self, model: &ReadModel, log: LogIdentity) -> Result<Generation, Error> {
        checks::definition(model, log)?;
        within("the mirror", self.prepare_alone(model, log)).await
    }

    async fn live(&self, model: &str) -> Result<Option<Generation>, Error> {
        let live = within("the mirror", async {
            books::live(&mut *self.pool.acquire().await?, model).await
        });
        Ok(live.await?.map(|stored| stored.generation))
    }

    async fn checkpoints(
        &self,
        generation: &Generation,
    ) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
        within("the mirror", async {
            books::checkpoints(&mut *self.pool.acquire().await?, &generation.table).await
        })
        .await
    }

    async fn swap(&self, generation: &Generation) -> Result<bool, Error> {
        within("the mirror", self.swap_alone(generation)).await
    }

    async fn load_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        within("the mirror", self.load(model, generation, partition, keys)).await
    }

    async fn find_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        search: &Search,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let found = self.find(model, generation, partition, search, limit);
        within("the mirror", found).await
    }

    async fn due_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        due: &Due,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let sql = sql::due(model.into(), &generation.table, &due.column);
        let found = self.stored(model, sql, &due.before, partition, limit);
        within("the mirror", found).await
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), CommitError> {
        within("the mirror", self.write(commit)).await
    }

    async fn parked(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        within("the mirror", async {
            books::parked(&mut *self.pool.acquire().await?, &generation.table).await
        })
        .await
    }

    async fn scan(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
        within(
            "the mirror",
            self.scan_page(model, generation, partition, after, limit),
        )
        .await
    }

    async fn check(&self) -> Result<(), Error> {
        within("the mirror", async {
            sqlx::query("SELECT 1").execute(&self.pool).await?;
            Ok(())
        })
        .await
    }
}
