//! Reading: pages of a stream and of the log. It refuses to pass what is not committed yet.

use events::{CommandId, EventId, Hash, Position, RecordedEvent, StreamId, Version};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};

use super::connect::{again, fault};
use crate::{Appended, Error, Filter, Page};

/// How many positions one page looks at, so that a filter that matches little never makes one long statement.
const SCAN: u64 = 50_000;

const READ_STREAM: &str = "SELECT position, stream, version, id, type, schema_version, data, metadata, hash \
    FROM showcaller_events.events WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3";

const STREAM_VERSION: &str =
    "SELECT version FROM showcaller_events.events WHERE stream = $1 ORDER BY version DESC LIMIT 1";

// A walk along the index of names: one look for the next name, one for its last event. No more of it is carried out than
// the limit asks for.
const LAST_OF_STREAMS: &str = "WITH RECURSIVE names (stream) AS ( \
        (SELECT stream FROM showcaller_events.events WHERE stream > $1 AND stream < $2 ORDER BY stream LIMIT 1) \
        UNION ALL \
        SELECT (SELECT e.stream FROM showcaller_events.events e WHERE e.stream > names.stream AND e.stream < $2 \
                 ORDER BY e.stream LIMIT 1) FROM names WHERE names.stream IS NOT NULL) \
    SELECT e.* FROM (SELECT stream FROM names WHERE stream IS NOT NULL LIMIT $3) n CROSS JOIN LATERAL ( \
        SELECT position, stream, version, id, type, schema_version, data, metadata, hash \
          FROM showcaller_events.events WHERE stream = n.stream ORDER BY version DESC LIMIT 1) e ORDER BY e.stream";

// Head and events come from one statement, hence one snapshot: what is not visible in it is beyond the head.
const READ_ALL: &str = "SELECT e.*, h.position FROM showcaller_events.head h LEFT JOIN LATERAL ( \
        SELECT position, stream, version, id, type, schema_version, data, metadata, hash \
          FROM showcaller_events.events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3 \
    ) e ON true WHERE h.id = 1";

const READ_ALL_FILTERED: &str = "SELECT e.*, h.position FROM showcaller_events.head h LEFT JOIN LATERAL ( \
        SELECT position, stream, version, id, type, schema_version, data, metadata, hash \
          FROM showcaller_events.events WHERE position > $1 AND position <= $2 \
           AND ($4::int IS NULL OR partition = $4) \
           AND ($5::text[] IS NULL OR split_part(stream, '-', 1) = ANY ($5)) ORDER BY position LIMIT $3 \
    ) e ON true WHERE h.id = 1";

const FIND_EVENT: &str = "SELECT position, stream, version, id, type, schema_version, data, metadata, hash \
    FROM showcaller_events.events WHERE position > $1 AND position <= $2 AND id = $3 LIMIT 1";

const FIND_COMMAND: &str = "SELECT f.stream, f.version, f.append_size, l.position, l.hash \
    FROM showcaller_events.events f JOIN showcaller_events.events l ON l.position = f.position + f.append_size - 1 \
    WHERE f.command_id = $1";

pub(super) async fn head(pool: &PgPool) -> Result<Position, Error> {
    let head = "SELECT position FROM showcaller_events.head WHERE id = 1";
    again(|| sqlx::query_scalar(head).fetch_one(pool))
        .await
        .map(Position::from_i64)
}

pub(super) async fn by_id(pool: &PgPool, id: EventId) -> Result<Option<RecordedEvent>, Error> {
    for (after, end) in crate::streams::backwards(head(pool).await?) {
        let rows = again(|| {
            sqlx::query(FIND_EVENT)
                .bind(after.as_i64())
                .bind(end.as_i64())
                .bind(id.0)
                .fetch_all(pool)
        })
        .await?;
        if let Some(found) = events(&rows)?.pop() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

pub(super) async fn command(
    pool: &PgPool,
    id: CommandId,
) -> Result<Option<(StreamId, Appended)>, Error> {
    let Some(row) = again(|| sqlx::query(FIND_COMMAND).bind(id.0).fetch_optional(pool)).await?
    else {
        return Ok(None);
    };
    let read = || -> Result<(StreamId, Appended), sqlx::Error> {
        let (first, size): (i64, i32) = (row.try_get(1)?, row.try_get(2)?);
        let appended = Appended {
            first: Version::from_i64(first),
            last: Version::from_i64(first + i64::from(size) - 1),
            position: Position::from_i64(row.try_get(3)?),
            hash: Hash::from_bytes(row.try_get(4)?).map_err(undecodable)?,
            repeated: true,
        };
        Ok((
            StreamId::parse(row.try_get(0)?).map_err(undecodable)?,
            appended,
        ))
    };
    read().map(Some).map_err(|error| fault(&error))
}

pub(super) async fn stream(
    pool: &PgPool,
    stream: &StreamId,
    after: Version,
    limit: usize,
) -> Result<Vec<RecordedEvent>, Error> {
    let (name, after, limit) = (stream.as_str(), after.as_i64(), sql_limit(limit));
    let rows = again(|| {
        sqlx::query(READ_STREAM)
            .bind(name)
            .bind(after)
            .bind(limit)
            .fetch_all(pool)
    })
    .await?;
    events(&rows)
}

pub(super) async fn stream_version(pool: &PgPool, stream: &StreamId) -> Result<Version, Error> {
    let name = stream.as_str();
    again(|| {
        sqlx::query_scalar(STREAM_VERSION)
            .bind(name)
            .fetch_optional(pool)
    })
    .await
    .map(|version: Option<i64>| version.map_or(Version::ZERO, Version::from_i64))
}

pub(super) async fn last_of_streams(
    pool: &PgPool,
    begin: &str,
    end: &str,
    limit: usize,
) -> Result<Vec<RecordedEvent>, Error> {
    let rows = again(|| {
        sqlx::query(LAST_OF_STREAMS)
            .bind(begin)
            .bind(end)
            .bind(sql_limit(limit))
            .fetch_all(pool)
    })
    .await?;
    events(&rows)
}

pub(super) async fn all(
    pool: &PgPool,
    after: Position,
    filter: &Filter,
    limit: usize,
) -> Result<Page, Error> {
    let limit = limit.max(1);
    let end = after
        .get()
        .saturating_add(SCAN.max(limit as u64))
        .min(i64::MAX as u64);
    let rows = again(|| {
        let query = if *filter == Filter::default() {
            sqlx::query(READ_ALL)
                .bind(after.as_i64())
                .bind(end as i64)
                .bind(sql_limit(limit))
        } else {
            sqlx::query(READ_ALL_FILTERED)
                .bind(after.as_i64())
                .bind(end as i64)
                .bind(sql_limit(limit))
                .bind(filter.partition.map(|partition| i32::from(partition.0)))
                .bind((!filter.categories.is_empty()).then_some(&filter.categories))
        };
        query.fetch_all(pool)
    })
    .await?;
    let Some(first) = rows.first() else {
        return Err(Error::Invalid(
            "the event log has no head: its database was emptied".into(),
        ));
    };
    let head = Position::from_i64(first.try_get(9).map_err(|error| fault(&error))?);
    // Without events there is one row that only has the head.
    let none = first
        .try_get::<Option<i64>, _>(0)
        .map_err(|error| fault(&error))?
        .is_none();
    let mut events = if none { vec![] } else { events(&rows)? };
    // They are in this order already, though SQL does not promise that of a join.
    events.sort_by_key(|event| event.position);
    Ok(Page::looked_at(events, limit, Position::new(end).min(head)))
}

fn events(rows: &[PgRow]) -> Result<Vec<RecordedEvent>, Error> {
    rows.iter()
        .map(recorded)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(&error))
}

fn recorded(row: &PgRow) -> Result<RecordedEvent, sqlx::Error> {
    Ok(RecordedEvent {
        position: Position::from_i64(row.try_get(0)?),
        stream: StreamId::parse(row.try_get(1)?).map_err(undecodable)?,
        version: Version::from_i64(row.try_get(2)?),
        id: EventId(row.try_get(3)?),
        type_name: row.try_get(4)?,
        schema_version: row.try_get::<i32, _>(5)? as u16,
        data: row.try_get(6)?,
        metadata: row.try_get(7)?,
        hash: Hash::from_bytes(row.try_get(8)?).map_err(undecodable)?,
    })
}

fn undecodable(error: events::InvalidId) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
