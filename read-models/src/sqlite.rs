//! Read models in one SQLite file. One connection writes; others read. It refuses databases in memory, since every
//! connection would see another one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use events::{LogIdentity, Partition, Position, StreamId};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::watch;

use crate::bookkeeping::{self, bookkeeping};
use crate::journal::{self, journal};
use crate::live::{self, Choice, LiveTables};
use crate::operations::operations;
use crate::rows;
use crate::sql::{self, Dialect, Layout, PARK, built, statement};
use crate::{
    ChangeFeed, Changed, Checkpoint, Commit, CommitError, Due, Error, Generation, Options, Page,
    Parked, Place, ProjectionStore, Query, ReadModel, ReadStore, Rebuild, Row, RowKey, Search,
    Status, Value, Waiting, checks,
};

mod codec;
mod operated;
#[cfg(test)]
mod plan;
mod pool;

bookkeeping!(
    books,
    sqlx::sqlite::SqliteConnection,
    sqlx::sqlite::SqliteRow,
    sqlite
);

journal!(entries, sqlx::sqlite::SqliteConnection, Sqlite);

operations!(ops, books, sqlx::sqlite::SqliteConnection, sqlite);

/// The database's time in seconds, as the journal has it.
const NOW: &str = "unixepoch()";
/// How soon commits of other processes are noticed.
const POLL: Duration = Duration::from_millis(10);
/// A SQLite file of read models.
#[derive(Debug)]
pub(crate) struct Sqlite {
    /// One connection; `None` when read-only.
    writer: Option<SqlitePool>,
    readers: SqlitePool,
    /// For what readers ask, with a time-out.
    queries: SqlitePool,
    query_timeout: Duration,
    commits: Arc<watch::Sender<u64>>,
    live: LiveTables,
}

impl Sqlite {
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
        rows::stored(model, &query.fetch_all(&self.readers).await?)
    }

    pub(crate) async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let (file, connect) = pool::options(url)?;
        let writer = if options.read_only {
            None
        } else {
            Some(pool::writer(&file, connect.clone()).await?)
        };
        let store = Self {
            writer,
            readers: pool::readers(connect.clone()),
            queries: pool::readers(connect),
            query_timeout: options.query_timeout,
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

    /// What readers of the definition see, from memory where it is known.
    async fn find_seen(&self, model: &ReadModel) -> Result<Option<Choice>, Error> {
        match self.live.find(&live::key(model)) {
            Some(choice) => Ok(Some(choice)),
            None => self.look(model).await,
        }
    }

    /// The same, whatever is known.
    async fn look(&self, model: &ReadModel) -> Result<Option<Choice>, Error> {
        let mut connection = match self.readers.acquire().await {
            Err(error) if crate::errors::is_absent(&error) => return Ok(None),
            connection => connection?,
        };
        let key = live::key(model);
        let found = ops::candidates(&mut connection, model, &key.1).await?;
        if found.live.is_some() {
            drop(connection);
            // A reader that started before the first migration checks what it could not check then.
            self.check_format().await?;
        }
        Ok(self.live.choose(model, key, found))
    }

    /// Reads from whichever table readers see when the statement runs.
    async fn page(&self, model: &ReadModel, query: &Query) -> Result<Page, Error> {
        query.check(model)?;
        for _ in 0..live::ATTEMPTS {
            let Choice { stored, seen } = self
                .find_seen(model)
                .await?
                .ok_or_else(|| live::not_built(&model.name))?;
            live::readable(&stored, model)?;
            let table = (stored.generation.table.as_str(), seen);
            let statement = sql::page(Dialect::Sqlite, model, table, query);
            let bound = sqlx::query(built(statement.sql));
            let bound = statement.values.iter().fold(bound, codec::bind);
            let mut connection = self.queries.acquire().await?;
            pool::interrupt_after(&mut connection, self.query_timeout).await?;
            let rows = bound.fetch_all(&mut *connection).await;
            match live::answer(rows, self.query_timeout)? {
                Some(rows) => return rows::page(&stored, query, &statement.fetched, &rows),
                None => self.live.forget(&live::key(model)),
            }
        }
        Err(live::keeps_switching(&model.name))
    }
}

/// A page of stored rows with the checkpoint, in the connection's snapshot.
async fn scan_in(
    connection: &mut SqliteConnection,
    model: &ReadModel,
    generation: &Generation,
    partition: Partition,
    after: Option<&RowKey>,
    limit: u32,
) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
    if let Some(key) = after {
        checks::key(model, key)?;
    }
    let checkpoint = books::one_checkpoint(connection, &generation.table, partition).await?;
    let sql = sql::scan(model.into(), &generation.table, after.is_some());
    let mut query = sqlx::query(built(sql))
        .bind(i64::from(partition.0))
        .bind(i64::from(limit));
    for value in after.into_iter().flatten() {
        query = codec::bind(query, value);
    }
    let rows = query.fetch_all(connection).await?;
    Ok((checkpoint, rows::stored(model, &rows)?))
}

/// Notes in the journal which rows change, before those that are removed are gone.
async fn note(connection: &mut SqliteConnection, commit: Commit<'_>) -> Result<(), CommitError> {
    let Commit {
        model,
        generation,
        partition,
        writes,
        ..
    } = commit;
    let Some(entry) = journal::entry(&commit) else {
        return Ok(());
    };
    let mut owners = Vec::new();
    if let Some(owner) = journal::owner_beside_key(model) {
        let table = &generation.table;
        for (keys, size) in codec::padded_chunks(&writes.deletes, model.key.len()) {
            let sql = sql::owners_of_list(model.into(), table, owner, size);
            let query = codec::bind_keys(sqlx::query(built(sql)), keys, size, Some(partition));
            let rows = query.fetch_all(&mut *connection).await?;
            owners.extend(rows::owners(model, &rows)?);
        }
    }
    let owners = journal::owners_text(&writes.deletes, &owners);
    sqlx::query(
        "INSERT INTO changes (generation, partition, position, since, keys, owners) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&generation.table)
    .bind(i64::from(partition.0))
    .bind(commit.to.position.as_i64())
    .bind(commit.from.position.as_i64())
    .bind(entry)
    .bind(owners)
    .execute(connection)
    .await?;
    Ok(())
}

fn create_table(model: &ReadModel, table: &str) -> Vec<String> {
    sql::create_table(Dialect::Sqlite, model, table)
}

/// Makes whatever index is missing.
async fn index(
    connection: &mut SqliteConnection,
    model: &ReadModel,
    generation: &Generation,
) -> Result<(), Error> {
    for statement in sql::indexes(model, generation) {
        sqlx::query(built(statement))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
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
        let mut connection = match self.readers.acquire().await {
            Err(error) if crate::errors::is_absent(&error) => return Ok(None),
            connection => connection?,
        };
        let found = books::live(&mut connection, model).await?;
        Ok(found.map(|stored| stored.generation))
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
        let partition = model.shared.then_some(partition);
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

    async fn find_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        search: &Search,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        checks::search(model, search)?;
        let sql = sql::find(model.into(), &generation.table, &search.column);
        self.stored(model, sql, &search.value, partition, limit)
            .await
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
        self.stored(model, sql, &due.before, partition, limit).await
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), CommitError> {
        let Commit {
            model,
            generation,
            partition,
            from,
            to,
            writes,
        } = commit;
        checks::writes(model, writes)?;
        let mut transaction = self.write().await?;
        let moved = sqlx::query(
            "UPDATE checkpoints SET position = $1, digest = $2, amended = $7 \
             WHERE generation = $3 AND partition = $4 AND position = $5 AND digest = $6 AND amended = $8",
        )
        .bind(to.position.as_i64())
        .bind(to.digest.as_bytes())
        .bind(&generation.table)
        .bind(i64::from(partition.0))
        .bind(from.position.as_i64())
        .bind(from.digest.as_bytes())
        .bind(to.amended.cast_signed())
        .bind(from.amended.cast_signed())
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
        note(&mut transaction, commit).await?;
        for (keys, size) in codec::padded_chunks(&writes.deletes, model.key.len()) {
            let sql = sql::delete_list(model.into(), &generation.table, size);
            codec::bind_keys(sqlx::query(built(sql)), keys, size, Some(partition))
                .execute(&mut *transaction)
                .await?;
        }
        books::note_parking(&mut transaction, &generation.table, writes).await?;
        transaction.commit().await?;
        self.committed();
        Ok(())
    }

    async fn parked(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        books::parked(&mut *self.reader().await?, &generation.table).await
    }

    async fn discarded(&self, generation: &Generation) -> Result<Vec<(StreamId, Position)>, Error> {
        ops::discarded(&mut *self.reader().await?, &generation.table).await
    }

    async fn scan(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
        let mut transaction = self.readers.begin().await?;
        scan_in(&mut transaction, model, generation, partition, after, limit).await
    }

    async fn prune_changes(&self, generation: &Generation) -> Result<(), Error> {
        let mut transaction = self.write().await?;
        entries::prune(&mut transaction, &generation.table, NOW).await?;
        Ok(transaction.commit().await?)
    }

    async fn check(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }
}

#[async_trait]
impl ReadStore for Sqlite {
    async fn list(&self, model: &ReadModel, query: &Query) -> Result<Page, Error> {
        self.page(model, query).await
    }

    async fn changes_since(
        &self,
        model: &ReadModel,
        place: &Place,
    ) -> Result<Option<Changed>, Error> {
        journal::check(model, place)?;
        let seen = self.find_seen(model).await?;
        if seen.is_none_or(|seen| seen.stored.generation.table != place.generation.table) {
            return Ok(None);
        }
        let mut connection = self.queries.acquire().await?;
        pool::interrupt_after(&mut connection, self.query_timeout).await?;
        entries::since(&mut connection, place).await
    }

    async fn status(&self, model: &ReadModel) -> Result<Option<Status>, Error> {
        for _ in 0..live::ATTEMPTS {
            let Some(Choice { stored, .. }) = self.find_seen(model).await? else {
                return Ok(None);
            };
            if let Some(status) = books::status(&mut *self.reader().await?, &stored).await? {
                return Ok(Some(status));
            }
            self.live.forget(&live::key(model));
        }
        Err(live::keeps_switching(&model.name))
    }

    async fn is_built(&self, model: &ReadModel) -> Result<(), Error> {
        self.look(model).await?;
        self.live.is_built(model, &live::key(model))
    }

    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Error> {
        match self.readers.acquire().await {
            Err(error) if crate::errors::is_absent(&error) => Ok(Vec::new()),
            connection => ops::rebuilds(&mut *connection?).await,
        }
    }

    async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>, Error> {
        match self.readers.acquire().await {
            Err(error) if crate::errors::is_absent(&error) => Ok(Vec::new()),
            connection => ops::waiting(&mut *connection?, limit).await,
        }
    }

    async fn wait_for_change(&self, patience: Duration) {
        self.changes().changed(patience).await;
    }

    fn changes(&self) -> ChangeFeed {
        ChangeFeed::new(&self.commits, POLL)
    }
}
