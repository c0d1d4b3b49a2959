//! Leases and the relay's checkpoint. Time is the database's clock alone; a fence never goes down.

use std::time::Duration;

use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::connect::again;
use crate::{Error, Fence, Fenced, Held, RelayCheckpoint};

const ACQUIRE: &str = "INSERT INTO showcaller_events.leases AS l (name, holder, fence, expires_at) \
    VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond') \
    ON CONFLICT (name) DO UPDATE SET \
        fence = l.fence + CASE WHEN l.holder = excluded.holder THEN 0 ELSE 1 END, \
        holder = excluded.holder, \
        expires_at = clock_timestamp() + $3 * interval '1 millisecond' \
    WHERE l.holder IS NULL OR l.holder = excluded.holder OR l.expires_at <= clock_timestamp() \
    RETURNING fence";

// The lease's row stays, so that its fence is never given out twice.
const RELEASE: &str =
    "UPDATE showcaller_events.leases SET holder = NULL WHERE name = $1 AND holder = $2";

// The shared lock keeps the next holder from getting its fence before this write is done. This commit alone does not wait
// for the disk: a server that crashes goes back to an older checkpoint, after which events are published once more.
const SAVE: &str = "WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)), \
    held AS MATERIALIZED ( \
        SELECT fence FROM showcaller_events.leases WHERE name = $1 AND fence = $2 FOR SHARE) \
    INSERT INTO showcaller_events.relay_checkpoint AS c (id, fence, checkpoint) SELECT 1, fence, $3 FROM held, quick \
    ON CONFLICT (id) DO UPDATE SET fence = excluded.fence, checkpoint = excluded.checkpoint";

pub(super) async fn acquire(
    pool: &PgPool,
    name: &str,
    holder: Uuid,
    ttl: Duration,
) -> Result<Option<Fence>, Error> {
    let millis = ttl.as_millis() as i64;
    let rows = again(|| {
        sqlx::query(ACQUIRE)
            .bind(name)
            .bind(holder)
            .bind(millis)
            .fetch_all(pool)
    })
    .await?;
    Ok(rows.first().map(|row| Fence(row.get::<i64, _>(0) as u64)))
}

pub(super) async fn release(pool: &PgPool, name: &str, holder: Uuid) -> Result<(), Error> {
    again(|| sqlx::query(RELEASE).bind(name).bind(holder).execute(pool))
        .await
        .map(drop)
}

pub(super) async fn held(pool: &PgPool, name: &str) -> Result<Option<Held>, Error> {
    let held = "SELECT holder, fence, (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint \
        FROM showcaller_events.leases WHERE name = $1 AND holder IS NOT NULL";
    let row = again(|| sqlx::query(held).bind(name).fetch_optional(pool)).await?;
    Ok(row.map(|row| Held {
        holder: row.get(0),
        fence: Fence(row.get::<i64, _>(1) as u64),
        remaining_ms: Some(row.get(2)),
    }))
}

pub(super) async fn load_checkpoint(pool: &PgPool) -> Result<Option<RelayCheckpoint>, Error> {
    let load = "SELECT checkpoint FROM showcaller_events.relay_checkpoint WHERE id = 1";
    let stored: Option<String> = again(|| sqlx::query_scalar(load).fetch_optional(pool)).await?;
    stored
        .map(|stored| RelayCheckpoint::from_stored(&stored))
        .transpose()
}

pub(super) async fn save_checkpoint(
    pool: &PgPool,
    name: &str,
    fence: Fence,
    checkpoint: &RelayCheckpoint,
) -> Result<(), Fenced> {
    let stored = checkpoint.to_stored()?;
    let save = || {
        sqlx::query(SAVE)
            .bind(name)
            .bind(fence.0 as i64)
            .bind(&stored)
            .execute(pool)
    };
    if again(save).await?.rows_affected() == 0 {
        Err(Fenced::Lost)
    } else {
        Ok(())
    }
}
