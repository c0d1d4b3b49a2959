//! Read models in one SQLite file. One connection writes; others read. It refuses databases in memory, since every
//! connection would see another one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use events::{LogIdentity, Partition};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::watch;

use crate::bookkeeping::{self, bookkeeping};
use crate::live::{self, LiveTables, Stored};
use crate::rows;
use crate::sql::{self, Dialect, Layout, built};
use crate::{
    ChangeFeed, Checkpoint, CommitError, Error, Generation, ListQuery, Options, Parked,
    ProjectionStore, ReadModel, ReadStore, Row, RowKey, RowWrites, Status, Value, checks,
};

mod codec;
mod pool;

bookkeeping!(
    books,
    sqlx::sqlite::SqliteConnection,
    sqlx::sqlite::SqliteRow,
    crate::sql::Dialect::Sqlite,
    crate::sqlite::show
);

/// How soon commits of other processes are noticed.
const POLL: Duration = Duration::from_millis(10);
/// A SQLite file of read models.
#[derive(Debug)]
pub(crate) struct Sqlite {
    /// One connection; `None` when read-only.
    writer: Option<SqlitePool>,
    readers: SqlitePool,
    commits: Arc<watch::Sender<u64>>,
    live: LiveTables,
}

impl Sqlite {
    pub(crate) async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let (file, connect) = pool::options(url)?;
        let writer = if options.read_only {
            None
        } else {
            Some(pool::writer(&file, connect.clone()).await?)
        };
        let store = Self {
            writer,
            readers: pool::readers(connect),
            commits: pool::commits_of(&file),
            live: LiveTables::default(),
        };
        if options.read_only {
            store.check_format().await?;
        }
        Ok(store)
    }

    /// A file that is not there, or empty, is no fault of a reader.
    async fn check_format(&self) -> Result<(), Error> {
        let found = sqlx::query_scalar::<_, i64>("SELECT version FROM format")
            .fetch_one(&self.readers)
            .await;
        match found {
            Err(error) if crate::errors::is_absent(&error) => Ok(()),
            found => bookkeeping::check_format(found?),
        }
    }

    /// Begins a transaction that holds SQLite's only write lock.
    async fn write(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, Error> {
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| Error::Invalid("this store was opened read-only".into()))?;
        Ok(writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    fn committed(&self) {
        self.commits.send_modify(|count| *count += 1);
    }

    async fn reader(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Sqlite>, Error> {
        Ok(self.readers.acquire().await?)
    }

    /// The live table, from memory where it is known.
    async fn find_live(&self, model: &str) -> Result<Option<Arc<Stored>>, Error> {
        if let Some(live) = self.live.find(model) {
            return Ok(Some(live));
        }
        let mut connection = match self.readers.acquire().await {
            Err(error) if crate::errors::is_absent(&error) => return Ok(None),
            connection => connection?,
        };
        let found = books::live(&mut connection, model).await?;
        if found.is_some() {
            drop(connection);
            // A reader that started before the first migration checks what it could not check then.
            self.check_format().await?;
        }
        Ok(found.map(|stored| self.live.remember(stored)))
    }

    /// Reads from whichever table is live when the statement runs.
    async fn read_live(
        &self,
        model: &ReadModel,
        statement: impl Fn(&str) -> String + Send,
        page: Option<(u32, u32)>,
        values: &[&Value],
    ) -> Result<Vec<Vec<Value>>, Error> {
        for _ in 0..live::ATTEMPTS {
            let stored = self
                .find_live(&model.name)
                .await?
                .ok_or_else(|| live::not_built(&model.name))?;
            live::readable(&stored, model)?;
            let table = &stored.generation.table;
            let mut query = sqlx::query(built(statement(table))).bind(table);
            if let Some((limit, offset)) = page {
                query = query.bind(i64::from(limit)).bind(i64::from(offset));
            }
            for value in values {
                query = codec::bind(query, value);
            }
            match live::answer(query.fetch_all(&self.readers).await)? {
                Some(rows) => return rows::shown(model, &rows),
                None => self.live.forget(&model.name),
            }
        }
        Err(live::keeps_switching(&model.name))
    }
}

/// Makes the view of a read model show this table.
async fn show(
    connection: &mut SqliteConnection,
    generation: &Generation,
    layout: &Layout,
) -> Result<(), Error> {
    for statement in sql::create_view(
        Dialect::Sqlite,
        &generation.model,
        layout,
        &generation.table,
    ) {
        sqlx::query(built(statement))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[async_trait]
impl ProjectionStore for Sqlite {
    async fn prepare(&self, model: &ReadModel, log: LogIdentity) -> Result<Generation, Error> {
        checks::definition(model, log)?;
        let mut transaction = self.write().await?;
        let generation = books::prepare(&mut transaction, model, log).await?;
        transaction.commit().await?;
        self.committed();
        Ok(generation)
    }

    async fn live(&self, model: &str) -> Result<Option<Generation>, Error> {
        self.live.forget(model);
        Ok(self
            .find_live(model)
            .await?
            .map(|stored| stored.generation.clone()))
    }

    async fn checkpoints(
        &self,
        generation: &Generation,
    ) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
        books::checkpoints(&mut *self.reader().await?, &generation.table).await
    }

    async fn swap(&self, generation: &Generation) -> Result<bool, Error> {
        let mut transaction = self.write().await?;
        let swapped = books::swap(&mut transaction, generation).await?;
        transaction.commit().await?;
        self.committed();
        Ok(swapped)
    }

    async fn load_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        let mut transaction = self.readers.begin().await?;
        let mut loaded = Vec::with_capacity(keys.len());
        let partition = model.summed.then_some(partition);
        for (keys, size) in codec::padded_chunks(keys, model.key.len()) {
            let sql = sql::load_by_list(model.into(), &generation.table, size);
            let query = codec::bind_keys(sqlx::query(built(sql)), keys, size, partition);
            loaded.extend(rows::stored(
                model,
                &query.fetch_all(&mut *transaction).await?,
            )?);
        }
        Ok(loaded)
    }

    async fn commit(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        from: Checkpoint,
        to: Checkpoint,
        writes: &RowWrites,
    ) -> Result<(), CommitError> {
        checks::writes(model, writes)?;
        let mut transaction = self.write().await?;
        let moved = sqlx::query(
            "UPDATE checkpoints SET position = $1, digest = $2 \
             WHERE generation = $3 AND partition = $4 AND position = $5 AND digest = $6",
        )
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
        let mut written = 0;
        for rows in codec::chunks(&writes.upserts, model.key.len() + model.columns.len()) {
            let sql = sql::upsert_list(model.into(), &generation.table, rows.len());
            let query = codec::bind_rows(sqlx::query(built(sql)), rows, partition);
            written += query.execute(&mut *transaction).await?.rows_affected();
        }
        checks::all_written(written, writes.upserts.len())?;
        for (keys, size) in codec::padded_chunks(&writes.deletes, model.key.len()) {
            let sql = sql::delete_list(model.into(), &generation.table, size);
            codec::bind_keys(sqlx::query(built(sql)), keys, size, Some(partition))
                .execute(&mut *transaction)
                .await?;
        }
        books::park(&mut transaction, &generation.table, &writes.park).await?;
        transaction.commit().await?;
        self.committed();
        Ok(())
    }

    async fn parked(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        books::parked(&mut *self.reader().await?, &generation.table).await
    }

    async fn scan(
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
        let mut transaction = self.readers.begin().await?;
        let checkpoint =
            books::one_checkpoint(&mut transaction, &generation.table, partition).await?;
        let sql = sql::scan(model.into(), &generation.table, after.is_some());
        let mut query = sqlx::query(built(sql))
            .bind(i64::from(partition.0))
            .bind(i64::from(limit));
        for value in after.into_iter().flatten() {
            query = codec::bind(query, value);
        }
        let rows = query.fetch_all(&mut *transaction).await?;
        Ok((checkpoint, rows::stored(model, &rows)?))
    }

    async fn check(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }
}

#[async_trait]
impl ReadStore for Sqlite {
    async fn get(&self, model: &ReadModel, key: &RowKey) -> Result<Option<Vec<Value>>, Error> {
        checks::key(model, key)?;
        let values: Vec<&Value> = key.iter().collect();
        let mut rows = self
            .read_live(model, |table| sql::get(model.into(), table), None, &values)
            .await?;
        Ok(rows.pop())
    }

    async fn list(&self, model: &ReadModel, query: &ListQuery) -> Result<Vec<Vec<Value>>, Error> {
        let (columns, values) = checks::equals(model, query)?;
        let page = Some((query.limit, query.offset));
        self.read_live(
            model,
            |table| sql::list(model.into(), table, &columns),
            page,
            &values,
        )
        .await
    }

    async fn status(&self, model: &str) -> Result<Option<Status>, Error> {
        for _ in 0..live::ATTEMPTS {
            let Some(stored) = self.find_live(model).await? else {
                return Ok(None);
            };
            if let Some(status) = books::status(&mut *self.reader().await?, &stored).await? {
                return Ok(Some(status));
            }
            self.live.forget(model);
        }
        Err(live::keeps_switching(model))
    }

    async fn wait_for_change(&self, patience: Duration) {
        self.changes().changed(patience).await;
    }

    fn changes(&self) -> ChangeFeed {
        ChangeFeed::new(&self.commits, POLL)
    }
}
