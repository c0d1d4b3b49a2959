//! Read models in PostgreSQL: tables and bookkeeping in one schema, views for people and their tools in another. It
//! refuses to run without checking the stored format, and writes nothing when opened read-only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use events::{LogIdentity, Partition, Position, StreamId};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnection, PgPool};
use tokio::sync::watch;

use crate::bookkeeping::bookkeeping;
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
mod commit;
mod listen;
mod numeric;
mod operated;
#[cfg(test)]
pub(crate) mod plan;
mod pool;
mod schema;

use listen::{CHANNEL, Listener};
use pool::within;

bookkeeping!(
    books,
    sqlx::postgres::PgConnection,
    sqlx::postgres::PgRow,
    postgres
);

journal!(entries, sqlx::postgres::PgConnection, Postgres);

operations!(ops, books, sqlx::postgres::PgConnection, postgres);

/// The database's time in seconds, as the journal has it.
const NOW: &str = "extract(epoch FROM now())::bigint";
/// How soon a commit is noticed whose notification was lost.
const FALLBACK: Duration = Duration::from_secs(1);
/// `wait_for_change` may miss a notification that comes just before it, so it never waits for longer.
const BLIND_WAIT: Duration = Duration::from_millis(25);

/// A PostgreSQL database of read models.
#[derive(Debug)]
pub(crate) struct Postgres {
    pool: PgPool,
    /// For what readers ask.
    queries: PgPool,
    query_timeout: Duration,
    commits: Arc<watch::Sender<u64>>,
    /// Started by the first who wants to hear of changes.
    listener: Mutex<Option<Listener>>,
    live: LiveTables,
}

impl Postgres {
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
            .bind(codec::small(partition)?)
            .bind(i64::from(limit));
        let found = within(async { Ok::<_, Error>(query.fetch_all(&self.pool).await?) }).await?;
        rows::stored(model, &found)
    }

    pub(crate) async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let store = Self {
            pool: pool::own(url, options.read_only)?,
            queries: pool::queries(url, options.query_timeout)?,
            query_timeout: options.query_timeout,
            commits: Arc::new(watch::Sender::new(0)),
            listener: Mutex::new(None),
            live: LiveTables::default(),
        };
        match store.open_schema(options).await {
            // A reader may start before its database.
            Err(Error::Unavailable(reason)) if options.read_only => {
                tracing::warn!(reason, "the read model database cannot be reached yet");
                Ok(store)
            }
            opened => opened.map(|()| store),
        }
    }

    async fn open_schema(&self, options: Options) -> Result<(), Error> {
        if options.read_only {
            schema::check(&self.pool).await
        } else {
            schema::migrate(&self.pool).await
        }
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
        let key = live::key(model);
        let found = ops::candidates(&mut *self.pool.acquire().await?, model, &key.1).await?;
        if found.live.is_some() {
            // A reader that started before the first migration checks what it could not check then.
            schema::check(&self.pool).await?;
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
            let statement = sql::page(Dialect::Postgres, model, table, query);
            let bound = sqlx::query(built(statement.sql));
            let bound = statement.values.iter().fold(bound, codec::bind);
            let rows = bound.fetch_all(&self.queries).await;
            match live::answer(rows, self.query_timeout)? {
                Some(rows) => return rows::page(&stored, query, &statement.fetched, &rows),
                None => self.live.forget(&live::key(model)),
            }
        }
        Err(live::keeps_switching(&model.name))
    }

    async fn swap_in(&self, generation: &Generation) -> Result<bool, Error> {
        let mut transaction = schema::locked(&self.pool).await?;
        hold(&mut transaction, &generation.model).await?;
        let swapped = books::swap(&mut transaction, generation).await?;
        transaction.commit().await?;
        Ok(swapped)
    }

    async fn scan_page(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
        let mut transaction = self
            .pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await?;
        scan_in(&mut transaction, model, generation, partition, after, limit).await
    }

    async fn seen_status(&self, model: &ReadModel) -> Result<Option<Status>, Error> {
        for _ in 0..live::ATTEMPTS {
            let Some(Choice { stored, .. }) = self.find_seen(model).await? else {
                return Ok(None);
            };
            if let Some(status) = books::status(&mut *self.pool.acquire().await?, &stored).await? {
                return Ok(Some(status));
            }
            self.live.forget(&live::key(model));
        }
        Err(live::keeps_switching(&model.name))
    }
}

/// Commits to what readers see, or saw, wait until the transaction ends, so readers never go back.
async fn hold(connection: &mut PgConnection, model: &str) -> Result<(), Error> {
    sqlx::query(
        "SELECT 1 FROM checkpoints WHERE generation IN \
         (SELECT table_name FROM generations WHERE model = $1 AND (live OR served)) ORDER BY generation, partition FOR UPDATE",
    )
    .bind(model)
    .execute(connection)
    .await?;
    Ok(())
}

/// A page of stored rows with the checkpoint, in the connection's snapshot.
async fn scan_in(
    connection: &mut PgConnection,
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
        .bind(codec::small(partition)?)
        .bind(i64::from(limit));
    for value in after.into_iter().flatten() {
        query = codec::bind(query, value);
    }
    let rows = query.fetch_all(connection).await?;
    Ok((checkpoint, rows::stored(model, &rows)?))
}

fn create_table(model: &ReadModel, table: &str) -> Vec<String> {
    sql::create_table(Dialect::Postgres, model, table)
}

/// Makes whatever index is missing.
async fn index(
    connection: &mut PgConnection,
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

/// Makes the view of a read model show this table. Replacing keeps grants and what stands on the view; where the columns
/// changed too much for that, it is made anew.
async fn show(
    connection: &mut PgConnection,
    generation: &Generation,
    layout: &Layout,
) -> Result<(), Error> {
    let [drop, create] = sql::create_view(
        Dialect::Postgres,
        &generation.model,
        layout,
        &generation.table,
    );
    let mut attempt = connection.begin().await?;
    let replaced = sqlx::query(built(create.clone()))
        .execute(&mut *attempt)
        .await;
    if replaced.is_ok() {
        attempt.commit().await?;
    } else {
        attempt.rollback().await?;
        sqlx::query(built(drop)).execute(&mut *connection).await?;
        sqlx::query(built(create)).execute(&mut *connection).await?;
    }
    sqlx::query(built(sql::view_comment(&generation.model)))
        .execute(&mut *connection)
        .await?;
    sqlx::query("SELECT pg_notify($1, '')")
        .bind(CHANNEL)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

#[async_trait]
impl ProjectionStore for Postgres {
    async fn prepare(&self, model: &ReadModel, log: LogIdentity) -> Result<Generation, Error> {
        checks::definition(model, log)?;
        within(async {
            let mut transaction = schema::locked(&self.pool).await?;
            let generation = books::prepare(&mut transaction, model, log).await?;
            transaction.commit().await?;
            Ok(generation)
        })
        .await
    }

    async fn live(&self, model: &str) -> Result<Option<Generation>, Error> {
        let found = within(async { books::live(&mut *self.pool.acquire().await?, model).await });
        Ok(found.await?.map(|stored| stored.generation))
    }

    async fn checkpoints(
        &self,
        generation: &Generation,
    ) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
        within(async {
            books::checkpoints(&mut *self.pool.acquire().await?, &generation.table).await
        })
        .await
    }

    async fn swap(&self, generation: &Generation) -> Result<bool, Error> {
        within(self.swap_in(generation)).await
    }

    async fn load_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let sql = sql::load_by_arrays(model.into(), &generation.table);
        let mut query = codec::bind_keys(sqlx::query(built(sql)), model, keys);
        if model.shared {
            query = query.bind(codec::small(partition)?);
        }
        rows::stored(
            model,
            &within(async { Ok::<_, Error>(query.fetch_all(&self.pool).await?) }).await?,
        )
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
        within(commit::one(&self.pool, commit)).await
    }

    async fn commit_together(&self, commits: &[Commit<'_>]) -> Vec<Result<(), CommitError>> {
        commit::together(&self.pool, commits).await
    }

    async fn parked(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        within(async { books::parked(&mut *self.pool.acquire().await?, &generation.table).await })
            .await
    }

    async fn discarded(&self, generation: &Generation) -> Result<Vec<(StreamId, Position)>, Error> {
        within(async { ops::discarded(&mut *self.pool.acquire().await?, &generation.table).await })
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
        within(self.scan_page(model, generation, partition, after, limit)).await
    }

    async fn prune_changes(&self, generation: &Generation) -> Result<(), Error> {
        within(async {
            entries::prune(&mut *self.pool.acquire().await?, &generation.table, NOW).await
        })
        .await
    }

    async fn check(&self) -> Result<(), Error> {
        within(async {
            sqlx::query("SELECT 1").execute(&self.pool).await?;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl ReadStore for Postgres {
    async fn list(&self, model: &ReadModel, query: &Query) -> Result<Page, Error> {
        within(self.page(model, query)).await
    }

    async fn changes_since(
        &self,
        model: &ReadModel,
        place: &Place,
    ) -> Result<Option<Changed>, Error> {
        journal::check(model, place)?;
        let seen = within(self.find_seen(model)).await?;
        if seen.is_none_or(|seen| seen.stored.generation.table != place.generation.table) {
            return Ok(None);
        }
        within(async { entries::since(&mut *self.pool.acquire().await?, place).await }).await
    }

    async fn status(&self, model: &ReadModel) -> Result<Option<Status>, Error> {
        within(self.seen_status(model)).await
    }

    async fn is_built(&self, model: &ReadModel) -> Result<(), Error> {
        within(self.look(model)).await?;
        self.live.is_built(model, &live::key(model))
    }

    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Error> {
        within(async { ops::rebuilds(&mut *self.queries.acquire().await?).await }).await
    }

    async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>, Error> {
        within(async { ops::waiting(&mut *self.queries.acquire().await?, limit).await }).await
    }

    async fn wait_for_change(&self, patience: Duration) {
        self.changes().changed(patience.min(BLIND_WAIT)).await;
    }

    fn changes(&self) -> ChangeFeed {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.get_or_insert_with(|| {
            Listener::start(
                self.pool.connect_options().as_ref().clone(),
                Arc::clone(&self.commits),
            )
        });
        ChangeFeed::new(&self.commits, FALLBACK)
    }
}
