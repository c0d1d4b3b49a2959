//! A fresh database for each test, the read models the tests use, and short ways to write rows.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::{Digest, LogIdentity, Partition, Position};
use read_models::{
    Access, Checkpoint, ColumnType, Commit, CommitError, Generation, OperatedStore, Options,
    ProjectionStore, ReadModel, Row, RowKey, RowWrites, Value,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use test_support::{MariaDb, MongoDb, Postgres, TempDir, temp_dir};
use uuid::Uuid;

/// Makes a test of each function for each database that projections can write to. A mirror passes all of it without any
/// reading side.
macro_rules! on_every {
    ($($test:ident),* $(,)?) => {
        crate::database::on_both!($($test),*);
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::database::Database::mariadb().await).await;
            })*
        }
        mod mongodb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::database::Database::mongodb().await).await;
            })*
        }
    };
}
pub(crate) use on_every;

/// Makes a test of each function for each database that the query API can serve from.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::database::Database::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(crate::database::Database::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

pub struct Database {
    pub url: String,
    /// Kept as long as anybody uses the database.
    folder: Option<Arc<TempDir>>,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = temp_dir();
        let url = format!(
            "sqlite:{}",
            folder.path().join("data/read-models.db").display()
        );
        Self {
            url,
            folder: Some(Arc::new(folder)),
        }
    }

    pub async fn postgres() -> Self {
        Self {
            url: Postgres::shared().await.fresh_database().await,
            folder: None,
        }
    }

    pub async fn mariadb() -> Self {
        Self {
            url: MariaDb::shared().await.fresh_database().await,
            folder: None,
        }
    }

    pub async fn mongodb() -> Self {
        Self {
            url: MongoDb::shared().await.fresh_database(),
            folder: None,
        }
    }

    /// The same database once more.
    pub fn share(&self) -> Self {
        Self {
            url: self.url.clone(),
            folder: self.folder.clone(),
        }
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite")
    }

    pub fn is_mongodb(&self) -> bool {
        self.url.starts_with("mongodb")
    }

    /// What a projection needs, and no more.
    pub async fn open(&self) -> Arc<dyn ProjectionStore> {
        if self.url.starts_with("mysql") || self.is_mongodb() {
            return read_models::open_mirror(&self.url, Options::default())
                .await
                .unwrap();
        }
        self.open_to_read().await
    }

    /// To write to and to read from.
    pub async fn open_to_read(&self) -> Arc<dyn OperatedStore> {
        read_models::open(&self.url, Options::default())
            .await
            .unwrap()
    }

    pub async fn open_read_only(&self) -> Arc<dyn OperatedStore> {
        read_models::open(&self.url, Options::read_only())
            .await
            .unwrap()
    }

    /// Runs statements as an operator would, beside the store.
    pub async fn run(&self, sql: &str) {
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap();
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::query("SET search_path = showcaller_read_models")
                .execute(&mut connection)
                .await
                .unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap();
        }
    }

    /// One number, as a dashboard's own SQL would read it; `{view}` is where views are.
    pub async fn number(&self, sql: &str) -> i64 {
        if self.is_sqlite() {
            let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
            let sql = AssertSqlSafe(sql.replace("{view}", ""));
            sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap()
        } else {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::query("SET search_path = showcaller_read_models")
                .execute(&mut connection)
                .await
                .unwrap();
            let sql = AssertSqlSafe(sql.replace("{view}", "dashboards."));
            sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap()
        }
    }
}

pub fn log(n: u128) -> LogIdentity {
    LogIdentity {
        log: Uuid::from_u128(n),
        epoch: Uuid::from_u128(n + 1000),
        partitions: 4,
    }
}

pub fn accounts() -> ReadModel {
    ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("status", ColumnType::Text)
        .column("email", ColumnType::Personal)
        .column("logins", ColumnType::Integer)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
}

pub fn sign_ups() -> ReadModel {
    ReadModel::new("sign-ups-per-day")
        .key("day", ColumnType::Text)
        .key("source", ColumnType::Text)
        .column("sign_ups", ColumnType::Integer)
        .summed()
}

pub fn id(n: u128) -> RowKey {
    vec![Uuid::from_u128(n).into()]
}

pub fn moment(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 123_456_000).unwrap()
}

pub fn row(partition: u16, position: u64, values: impl Into<Vec<Value>>) -> Row {
    Row {
        values: values.into(),
        partition: Partition(partition),
        position: Position::new(position),
        updated_at: Some(moment(position as i64)),
    }
}

pub fn account(n: u128, position: u64, status: &str) -> (RowKey, Row) {
    (
        id(n),
        row(
            0,
            position,
            [status.into(), "enc1.k.s.e.f.p".into(), 1.into()],
        ),
    )
}

pub fn at(position: u64) -> Checkpoint {
    let digest = if position == 0 {
        Digest::ZERO
    } else {
        Digest::from_bytes(&[position as u8; 32]).unwrap()
    };
    Checkpoint {
        position: Position::new(position),
        digest,
        amended: 0,
    }
}

pub fn upserts(rows: impl IntoIterator<Item = (RowKey, Row)>) -> RowWrites {
    RowWrites {
        upserts: rows.into_iter().collect(),
        ..RowWrites::default()
    }
}

pub fn deletes(keys: impl IntoIterator<Item = RowKey>) -> RowWrites {
    RowWrites {
        deletes: keys.into_iter().collect(),
        ..RowWrites::default()
    }
}

/// A store with one prepared read model.
pub struct Prepared<S: ?Sized = dyn ProjectionStore> {
    pub database: Database,
    pub store: Arc<S>,
    pub model: ReadModel,
    pub generation: Generation,
}

pub async fn prepared(database: Database, model: ReadModel) -> Prepared {
    let store = database.open().await;
    let generation = store.prepare(&model, log(1)).await.unwrap();
    Prepared {
        database,
        store,
        model,
        generation,
    }
}

pub async fn prepared_to_read(database: Database, model: ReadModel) -> Prepared<dyn OperatedStore> {
    let store = database.open_to_read().await;
    let generation = store.prepare(&model, log(1)).await.unwrap();
    Prepared {
        database,
        store,
        model,
        generation,
    }
}

impl Prepared<dyn OperatedStore> {
    pub async fn get(&self, key: &RowKey) -> Option<Vec<Value>> {
        self.store.get(&self.model, key).await.unwrap()
    }
}

impl<S: ProjectionStore + ?Sized> Prepared<S> {
    /// Commits to partition 0.
    pub async fn commit(&self, from: u64, to: u64, writes: &RowWrites) -> Result<(), CommitError> {
        self.commit_to(0, from, to, writes).await
    }

    pub async fn commit_to(
        &self,
        partition: u16,
        from: u64,
        to: u64,
        writes: &RowWrites,
    ) -> Result<(), CommitError> {
        self.store
            .commit(Commit {
                model: &self.model,
                generation: &self.generation,
                partition: Partition(partition),
                from: at(from),
                to: at(to),
                writes,
            })
            .await
    }

    pub async fn stored(&self, partition: u16, keys: &[RowKey]) -> Vec<(RowKey, Row)> {
        let loaded = self
            .store
            .load_rows(&self.model, &self.generation, Partition(partition), keys)
            .await;
        let mut rows = loaded.unwrap();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    /// Everything stored of one partition, with the checkpoint beside it.
    pub async fn scanned(&self, partition: u16) -> (Checkpoint, Vec<(RowKey, Row)>) {
        let (model, generation) = (&self.model, &self.generation);
        self.store
            .scan(model, generation, Partition(partition), None, u32::MAX)
            .await
            .unwrap()
    }

    pub async fn checkpoint(&self, partition: usize) -> Checkpoint {
        self.store.checkpoints(&self.generation).await.unwrap().1[partition]
    }
}
