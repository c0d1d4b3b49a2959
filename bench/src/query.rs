//! Queries over HTTP: the release binary as `--role query-api` on PostgreSQL, with the cache and without it, beside a constant
//! route of the same server, which costs what HTTP does.
//!
//! Refuses: to count an answer that is not 200.

use std::sync::Arc;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use events::{Digest, LogIdentity, Partition, Position};
use read_models::{
    Checkpoint, ColumnType, Commit, Generation, Options, ReadModel, ReadStore, Row, RowKey,
    RowWrites, Value,
};
use test_support::Showcaller;
use uuid::Uuid;

use crate::http;
use crate::load::scatter;
use crate::table::{Key, Table};
use crate::world::World;

/// Rows that are asked for: as many as a cache holds easily.
const HOT: usize = 1_000;
/// The read model that is asked.
const MODEL: &str = "accounts";

/// One round on new read models.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    let rows = Rows::prepare(world).await?;
    let callers = http::authorised(world, &world.people[..1], &["read:accounts"]).await?;
    let authorization: Arc<str> = callers[0].1.as_str().into();
    let ids: Arc<Vec<Uuid>> = Arc::new(world.people[..HOT].iter().map(|p| p.id).collect());
    let get =
        move |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\r\n");
    let constant = get("/health/live");
    let list = get("/v1/accounts?select=account_id,status,version&limit=20");
    let row = move |number| {
        let id = ids[scatter(number, HOT)];
        get(&format!(
            "/v1/accounts/{id}?select=account_id,status,version"
        ))
    };
    for (cache_mb, row_key, list_key) in [
        ("64", Key::CachedRow, Key::CachedList),
        ("0", Key::Row, Key::List),
    ] {
        let server = query_api(world, &rows.database, cache_mb).await;
        let (port, time) = (server.port(), world.scale.rate);
        world.settle().await;
        if row_key == Key::CachedRow {
            let constant = constant.clone();
            let rate = http::rate(port, 0..u64::MAX, time, move |_| constant.clone());
            table.note(Key::Constant, rate.await?);
        }
        let rate = http::rate(port, 0..u64::MAX, time, row.clone());
        table.note(row_key, rate.await?);
        let list = list.clone();
        let rate = http::rate(port, 0..u64::MAX, time, move |_| list.clone());
        table.note(list_key, rate.await?);
        http::stop(server).await?;
    }
    Ok(())
}

/// The release binary as query-api, on these read models.
pub async fn query_api(world: &World, database: &str, cache_mb: &str) -> Showcaller {
    let keys = world.keys_file();
    Showcaller::launch(&world.showcaller)
        .args(["--role", "query-api", "--database", database])
        .args(["--vault", &world.vault_url, "--query-cache-mb", cache_mb])
        // A single role wants URLs for what it never opens, too.
        .args([
            "--events",
            &world.vault_url,
            "--broker",
            "amqp://127.0.0.1:1/%2f",
        ])
        .args(["--keys", &keys.to_string_lossy()])
        .start()
        .await
}

/// The read model `accounts` with a row for each of some people, all in partition 0.
pub struct Rows {
    pub database: String,
    store: Arc<dyn ReadStore>,
    model: ReadModel,
    generation: Generation,
    reached: Checkpoint,
}

impl Rows {
    pub async fn prepare(world: &World) -> Result<Self> {
        let database = world.postgres.fresh_database().await;
        let store = read_models::open(&database, Options::default()).await?;
        let log = LogIdentity {
            log: vault::random_uuid(),
            epoch: vault::random_uuid(),
            partitions: 8,
        };
        let mut models = projector::built_in();
        let mut found = None;
        for model in models.drain(..) {
            let generation = store.prepare(&model, log).await?;
            // Readers see only what is built.
            store.swap(&generation).await?;
            if model.name == MODEL {
                found = Some((model, generation));
            }
        }
        let (model, generation) = found.context("accounts is built in")?;
        let mut rows = Self {
            database,
            store,
            model,
            generation,
            reached: Checkpoint::default(),
        };
        let ids: Vec<Uuid> = world.people[..HOT].iter().map(|p| p.id).collect();
        rows.write(&ids).await?;
        Ok(rows)
    }

    /// Writes the rows with these ids in one commit.
    pub async fn write(&mut self, ids: &[Uuid]) -> Result<()> {
        let position = Position::new(self.reached.position.get() + 1);
        let to = Checkpoint {
            position,
            digest: Digest::ZERO,
            amended: 0,
        };
        let values = |column: &read_models::Column| match column.column_type {
            ColumnType::Text => "verified".into(),
            ColumnType::Integer => Value::Integer(position.as_i64()),
            ColumnType::Boolean => Value::Boolean(false),
            _ => Value::Null,
        };
        let row = Row {
            values: self.model.columns.iter().map(values).collect(),
            partition: Partition(0),
            position,
            updated_at: Some(DateTime::<Utc>::UNIX_EPOCH),
        };
        let upserts = ids
            .iter()
            .map(|id| -> (RowKey, Row) { (vec![(*id).into()], row.clone()) });
        let writes = RowWrites {
            upserts: upserts.collect(),
            ..RowWrites::default()
        };
        let commit = Commit {
            model: &self.model,
            generation: &self.generation,
            partition: Partition(0),
            from: self.reached,
            to,
            writes: &writes,
        };
        self.store.commit(commit).await?;
        self.reached = to;
        Ok(())
    }
}
