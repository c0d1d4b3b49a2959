//! Leases and the relay's checkpoint. Time is the database's clock alone; a fence never goes down.

use std::time::Duration;

use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::connect::fault;
use crate::{Error, Fence, Fenced, RelayCheckpoint};

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

// The shared lock keeps the next holder from getting its fence before this write is done.
const SAVE: &str = "WITH held AS MATERIALIZED ( \
        SELECT fence FROM showcaller_events.leases WHERE name = $1 AND fence = $2 FOR SHARE) \
    INSERT INTO showcaller_events.relay_checkpoint AS c (id, fence, checkpoint) SELECT 1, fence, $3 FROM held \
    ON CONFLICT (id) DO UPDATE SET fence = excluded.fence, checkpoint = excluded.checkpoint";

pub(super) async fn acquire(
    pool: &PgPool,
    name: &str,
    holder: Uuid,
    ttl: Duration,
) -> Result<Option<Fence>, Error> {
    let row = sqlx::query(ACQUIRE)
        .bind(name)
        .bind(holder)
        .bind(ttl.as_millis() as i64)
        .fetch_all(pool)
        .await
        .map_err(|error| fault(&error))?;
    Ok(row.first().map(|row| Fence(row.get::<i64, _>(0) as u64)))
}

pub(super) async fn release(pool: &PgPool, name: &str, holder: Uuid) -> Result<(), Error> {
    let query = sqlx::query(RELEASE).bind(name).bind(holder);
    query
        .execute(pool)
        .await
        .map(drop)
        .map_err(|error| fault(&error))
}

pub(super) async fn load_checkpoint(pool: &PgPool) -> Result<Option<RelayCheckpoint>, Error> {
    let stored: Option<String> = sqlx::query_scalar(
        "SELECT checkpoint FROM showcaller_events.relay_checkpoint WHERE id = 1",
    )
    .fetch_optional(pool)
    .await
    .map_err(|error| fault(&error))?;
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
