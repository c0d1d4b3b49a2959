//! Leases and the relay's checkpoint. Time is SQLite's clock alone; a fence never goes down.

use std::time::Duration;

use sqlx::{Row, SqlitePool};
use uuid::Uuid;

use super::connect::fault;
use crate::{Error, Fence, Fenced, Held, RelayCheckpoint};

const ACQUIRE: &str = "INSERT INTO events_leases AS l (name, holder, fence, expires_at) \
    VALUES (?1, ?2, 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) + ?3) \
    ON CONFLICT (name) DO UPDATE SET \
        fence = l.fence + CASE WHEN l.holder = excluded.holder THEN 0 ELSE 1 END, \
        holder = excluded.holder, expires_at = excluded.expires_at \
    WHERE l.holder IS NULL OR l.holder = excluded.holder \
       OR l.expires_at <= CAST(unixepoch('subsec') * 1000 AS INTEGER) \
    RETURNING fence";

// The lease's row stays, so that its fence is never given out twice.
const RELEASE: &str = "UPDATE events_leases SET holder = NULL WHERE name = ?1 AND holder = ?2";

const HELD: &str = "SELECT holder, fence, expires_at - CAST(unixepoch('subsec') * 1000 AS INTEGER) \
    FROM events_leases WHERE name = ?1 AND holder IS NOT NULL";

const SAVE: &str = "INSERT INTO events_relay_checkpoint (id, fence, checkpoint) \
    SELECT 1, fence, ?3 FROM events_leases WHERE name = ?1 AND fence = ?2 \
    ON CONFLICT (id) DO UPDATE SET fence = excluded.fence, checkpoint = excluded.checkpoint";

pub(super) async fn acquire(
    pool: &SqlitePool,
    name: &str,
    holder: Uuid,
    ttl: Duration,
) -> Result<Option<Fence>, Error> {
    let rows = sqlx::query(ACQUIRE)
        .bind(name)
        .bind(holder)
        .bind(ttl.as_millis() as i64)
        .fetch_all(pool)
        .await
        .map_err(|error| fault(&error))?;
    Ok(rows.first().map(|row| Fence(row.get::<i64, _>(0) as u64)))
}

pub(super) async fn release(pool: &SqlitePool, name: &str, holder: Uuid) -> Result<(), Error> {
    let query = sqlx::query(RELEASE).bind(name).bind(holder);
    query
        .execute(pool)
        .await
        .map(drop)
        .map_err(|error| fault(&error))
}

pub(super) async fn held(pool: &SqlitePool, name: &str) -> Result<Option<Held>, Error> {
    let row = sqlx::query(HELD).bind(name).fetch_optional(pool).await;
    let row = row.map_err(|error| fault(&error))?;
    Ok(row.map(|row| Held {
        holder: row.get(0),
        fence: Fence(row.get::<i64, _>(1) as u64),
        remaining_ms: Some(row.get(2)),
    }))
}

pub(super) async fn load_checkpoint(pool: &SqlitePool) -> Result<Option<RelayCheckpoint>, Error> {
    let stored: Option<String> =
        sqlx::query_scalar("SELECT checkpoint FROM events_relay_checkpoint WHERE id = 1")
            .fetch_optional(pool)
            .await
            .map_err(|error| fault(&error))?;
    stored
        .map(|stored| RelayCheckpoint::from_stored(&stored))
        .transpose()
}

pub(super) async fn save_checkpoint(
    pool: &SqlitePool,
    name: &str,
    fence: Fence,
    checkpoint: &RelayCheckpoint,
) -> Result<(), Fenced> {
    let query = sqlx::query(SAVE)
        .bind(name)
        .bind(fence.0 as i64)
        .bind(checkpoint.to_stored()?);
    let done = query.execute(pool).await.map_err(|error| fault(&error))?;
    if done.rows_affected() == 0 {
        Err(Fenced::Lost)
    } else {
        Ok(())
    }
}
