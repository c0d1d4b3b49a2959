//! Read models in one SQLite file. One connection writes; others read. It refuses databases in memory, since every
//! connection would see another one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use events::{LogIdentity, Partition};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use tokio::sync::watch;

use crate::bookkeeping::{self, bookkeeping};
use crate::live::{self, LiveTables, Stored};
use crate::sql::{self, Dialect, Layout, built};
use crate::{
    ChangeFeed, Checkpoint, CommitError, Error, Generation, ListQuery, Options, Parked, ReadModel, ReadStore, Row, RowKey,
    RowWrites, Status, Value, checks,
};

mod codec;

bookkeeping!(books, sqlx::sqlite::SqliteConnection, sqlx::sqlite::SqliteRow, crate::sql::Dialect::Sqlite, crate::sqlite::show);

/// Connections that read at once.
const READERS: u32 = 8;
/// How long a statement waits for another process's lock, and a caller for a connection.
const BUSY: Duration = Duration::from_secs(5);
/// How soon commits of other processes are noticed.
const POLL: Duration = Duration::from_millis(10);
/// Statements kept prepared on each connection: a dozen for each read model.
const STATEMENTS: usize = 256;

const SCHEMA: [&str; 5] = [
    "CREATE TABLE format (version INTEGER NOT NULL)",
    "CREATE TABLE generations (table_name TEXT PRIMARY KEY, model TEXT NOT NULL, number INTEGER NOT NULL, \
     definition_hash TEXT NOT NULL, definition TEXT NOT NULL, live INTEGER NOT NULL, log TEXT NOT NULL, \
     epoch TEXT NOT NULL, partitions INTEGER NOT NULL, \
     created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), UNIQUE (model, number))",
    "CREATE UNIQUE INDEX one_live_generation ON generations (model) WHERE live",
    "CREATE TABLE checkpoints (generation TEXT NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     partition INTEGER NOT NULL, position INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (generation, partition))",
    "CREATE TABLE parked (generation TEXT NOT NULL REFERENCES generations (table_name) ON DELETE CASCADE, \
     stream TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, error TEXT NOT NULL, \
     PRIMARY KEY (generation, stream))",
];

/// What the stores of one file in this process share, so that a reader hears of a writer's commit at once.
static COMMITS: LazyLock<Mutex<HashMap<PathBuf, Weak<watch::Sender<u64>>>>> = LazyLock::new(Mutex::default);

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
        let wrong = |e: String| Error::Invalid(format!("the read model database's URL is wrong ({e}); write sqlite:FILE"));
        let connect = SqliteConnectOptions::from_str(url).map_err(|e| wrong(e.to_string()))?;
        let file = connect.get_filename().to_owned();
        if url.contains(":memory:") || url.contains("mode=memory") || file.as_os_str().is_empty() {
            return Err(wrong("a database in memory cannot be shared".into()));
        }
        let connect = connect.busy_timeout(BUSY).statement_cache_capacity(STATEMENTS);
        let writer = if options.read_only { None } else { Some(writer(&file, connect.clone()).await?) };
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY)
            .test_before_acquire(false)
            .connect_lazy_with(connect.create_if_missing(false).read_only(true));
        let store = Self { writer, readers, commits: commits_of(&file), live: LiveTables::default() };
        if options.read_only {
            store.check_format().await?;
        }
        Ok(store)
    }

    /// A file that is not there, or empty, is no fault of a reader.
    async fn check_format(&self) -> Result<(), Error> {
        let found = sqlx::query_scalar::<_, i64>("SELECT version FROM format").fetch_one(&self.readers).await;
        match found {
            Err(error) if crate::errors::is_absent(&error) => Ok(()),
            found => bookkeeping::check_format(found?),
        }
    }

    /// Begins a transaction that holds SQLite's only write lock.
    async fn write(&self) -> Result<sqlx::Transaction<'static, sqlx::Sqlite>, Error> {
        let writer = self.writer.as_ref().ok_or_else(|| Error::Invalid("this store was opened read-only".into()))?;
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
            let stored = self.find_live(&model.name).await?.ok_or_else(|| live::not_built(&model.name))?;
            live::readable(&stored, model)?;
            let table = &stored.generation.table;
            let mut query = sqlx::query(built(statement(table))).bind(table);
            if let Some((limit, offset)) = page {
                query = query.bind(i64::from(limit)).bind(i64::from(offset));
            }
            for value in values {
                query = codec::bind(query, value);
            }
            match query.fetch_all(&self.readers).await {
                Ok(rows) if !rows.is_empty() => return codec::shown_rows(model, &rows),
                Err(error) if !crate::errors::is_absent(&error) => return Err(error.into()),
                // Switched or dropped since it was remembered.
                _ => self.live.forget(&model.name),
            }
        }
        Err(live::keeps_switching(&model.name))
    }
}

async fn writer(file: &Path, connect: SqliteConnectOptions) -> Result<SqlitePool, Error> {
    if let Some(folder) = file.parent() {
        let failed = |e| Error::Invalid(format!("the folder {} cannot be made: {e}", folder.display()));
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    let connect = connect
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A power cut may undo the last commits, and that is enough here: rows and checkpoint go back together, and the
        // log holds what followed. FULL would wait for the disk at every commit to protect what can be rebuilt.
        .synchronous(SqliteSynchronous::Normal);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY)
        // Readers of a WAL file want somebody to keep it open.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(connect)
        .await?;
    migrate(&pool).await?;
    Ok(pool)
}

async fn migrate(writer: &SqlitePool) -> Result<(), Error> {
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'format')")
            .fetch_one(&mut *transaction)
            .await?;
    if exists {
        let version: i64 = sqlx::query_scalar("SELECT version FROM format").fetch_one(&mut *transaction).await?;
        return bookkeeping::check_format(version);
    }
    for statement in SCHEMA {
        sqlx::query(statement).execute(&mut *transaction).await?;
    }
    sqlx::query("INSERT INTO format (version) VALUES ($1)").bind(bookkeeping::FORMAT).execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

fn commits_of(file: &Path) -> Arc<watch::Sender<u64>> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut stores = COMMITS.lock().unwrap_or_else(PoisonError::into_inner);
    stores.retain(|_, commits| commits.strong_count() > 0);
    if let Some(commits) = stores.get(&file).and_then(Weak::upgrade) {
        return commits;
    }
    let commits = Arc::new(watch::Sender::new(0));
    stores.insert(file, Arc::downgrade(&commits));
    commits
}

/// Makes the view of a read model show this table.
async fn show(connection: &mut SqliteConnection, generation: &Generation, layout: &Layout) -> Result<(), Error> {
    for statement in sql::create_view(Dialect::Sqlite, &generation.model, layout, &generation.table) {
        sqlx::query(built(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

fn stored_rows(model: &ReadModel, rows: &[SqliteRow]) -> Result<Vec<(RowKey, Row)>, Error> {
    rows.iter().map(|row| codec::stored_row(model, row)).collect()
}

#[async_trait]
impl ReadStore for Sqlite {
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
        Ok(self.find_live(model).await?.map(|stored| stored.generation.clone()))
    }

    async fn checkpoints(&self, generation: &Generation) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
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
            loaded.extend(stored_rows(model, &query.fetch_all(&mut *transaction).await?)?);
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
            codec::bind_keys(sqlx::query(built(sql)), keys, size, Some(partition)).execute(&mut *transaction).await?;
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
        let checkpoint = books::one_checkpoint(&mut transaction, &generation.table, partition).await?;
        let sql = sql::scan(model.into(), &generation.table, after.is_some());
        let mut query = sqlx::query(built(sql)).bind(i64::from(partition.0)).bind(i64::from(limit));
        for value in after.into_iter().flatten() {
            query = codec::bind(query, value);
        }
        let rows = query.fetch_all(&mut *transaction).await?;
        Ok((checkpoint, stored_rows(model, &rows)?))
    }

    async fn get(&self, model: &ReadModel, key: &RowKey) -> Result<Option<Vec<Value>>, Error> {
        checks::key(model, key)?;
        let values: Vec<&Value> = key.iter().collect();
        let mut rows = self.read_live(model, |table| sql::get(model.into(), table), None, &values).await?;
        Ok(rows.pop())
    }

    async fn list(&self, model: &ReadModel, query: &ListQuery) -> Result<Vec<Vec<Value>>, Error> {
        let equals = checks::equals(model, query)?;
        let columns: Vec<_> = equals.iter().map(|(column, value)| (*column, **value == Value::Null)).collect();
        let values: Vec<&Value> = equals.iter().map(|(_, value)| *value).filter(|v| **v != Value::Null).collect();
        let page = Some((query.limit, query.offset));
        self.read_live(model, |table| sql::list(model.into(), table, &columns), page, &values).await
    }

    async fn status(&self, model: &str) -> Result<Option<Status>, Error> {
        for _ in 0..live::ATTEMPTS {
            let Some(stored) = self.find_live(model).await? else { return Ok(None) };
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

    async fn check(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }
}
