//! The event store in PostgreSQL, schema `showcaller_events`. It refuses a server that forgets acknowledged commits.

mod append;
mod connect;
mod lease;
mod listen;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use events::{CommandId, EventId, Hash, LogIdentity, Position, RecordedEvent, StreamId, Version};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::heads::Heads;
use crate::writer::Writer;
use crate::{
    Append, AppendError, Appended, Error, EventStore, Fence, Fenced, Filter, Options, Page,
    RelayCheckpoint,
};
use connect::fault;

/// How many positions one page looks at, so that a filter that matches little never makes one long statement.
const SCAN: u64 = 50_000;

/// The columns of an event, in the order that [`recorded`] reads them.
const READ_STREAM: &str = "SELECT position, stream, version, id, type, schema_version, data, metadata, hash \
    FROM showcaller_events.events WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3";

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

const FIND_COMMAND: &str = "SELECT f.stream, f.version, f.append_size, l.position, l.hash \
    FROM showcaller_events.events f JOIN showcaller_events.events l ON l.position = f.position + f.append_size - 1 \
    WHERE f.command_id = $1";

/// An event store in PostgreSQL.
pub struct PostgresEventStore {
    identity: LogIdentity,
    pool: PgPool,
    heads: Arc<Heads>,
    /// `None` when opened to read only.
    writer: Option<Writer>,
    /// The listener and the poller; they end with the store.
    watchers: Mutex<JoinSet<()>>,
}

impl PostgresEventStore {
    /// Opens the log at a `postgres:` URL; see [`crate::open`].
    pub async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let opened = connect::open(url, &options).await?;
        let heads = Arc::new(Heads::new(opened.head));
        let writer = (!options.read_only).then(|| {
            let backend =
                append::PostgresBackend::new(opened.connect.clone(), opened.identity.epoch);
            Writer::start(
                backend,
                opened.identity.partitions,
                &options,
                Arc::clone(&heads),
            )
        });
        let mut watchers = JoinSet::new();
        watchers.spawn(listen::listen(opened.connect, Arc::clone(&heads)));
        watchers.spawn(listen::poll(opened.pool.clone(), Arc::clone(&heads)));
        Ok(Self {
            identity: opened.identity,
            pool: opened.pool,
            heads,
            writer,
            watchers: Mutex::new(watchers),
        })
    }
}

async fn head(pool: &PgPool) -> Result<Position, Error> {
    sqlx::query_scalar("SELECT position FROM showcaller_events.head WHERE id = 1")
        .fetch_one(pool)
        .await
        .map(Position::from_i64)
        .map_err(|error| fault(&error))
}

fn recorded(row: &PgRow) -> Result<RecordedEvent, Error> {
    let read = || -> Result<RecordedEvent, sqlx::Error> {
        Ok(RecordedEvent {
            position: Position::from_i64(row.try_get(0)?),
            stream: StreamId::parse(row.try_get(1)?)
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
            version: Version::from_i64(row.try_get(2)?),
            id: EventId(row.try_get(3)?),
            type_name: row.try_get(4)?,
            schema_version: row.try_get::<i32, _>(5)? as u16,
            data: row.try_get(6)?,
            metadata: row.try_get(7)?,
            hash: Hash::from_bytes(row.try_get(8)?)
                .map_err(|error| sqlx::Error::Decode(error.into()))?,
        })
    };
    read().map_err(|error| fault(&error))
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[async_trait]
impl EventStore for PostgresEventStore {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn gapless(&self) -> bool {
        true
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        match &self.writer {
            Some(writer) => writer.append(append).await,
            None => Err(crate::options::read_only_refusal().into()),
        }
    }

    async fn find_command(
        &self,
        command: CommandId,
    ) -> Result<Option<(StreamId, Appended)>, Error> {
        let row = sqlx::query(FIND_COMMAND)
            .bind(command.0)
            .fetch_optional(&self.pool)
            .await;
        let Some(row) = row.map_err(|error| fault(&error))? else {
            return Ok(None);
        };
        let read = || -> Result<(StreamId, Appended), sqlx::Error> {
            let (first, size): (i64, i32) = (row.try_get(1)?, row.try_get(2)?);
            Ok((
                StreamId::parse(row.try_get(0)?)
                    .map_err(|error| sqlx::Error::Decode(error.into()))?,
                Appended {
                    first: Version::from_i64(first),
                    last: Version::from_i64(first + i64::from(size) - 1),
                    position: Position::from_i64(row.try_get(3)?),
                    hash: Hash::from_bytes(row.try_get(4)?)
                        .map_err(|error| sqlx::Error::Decode(error.into()))?,
                    repeated: true,
                },
            ))
        };
        read().map(Some).map_err(|error| fault(&error))
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        count: usize,
    ) -> Result<Vec<RecordedEvent>, Error> {
        let query = sqlx::query(READ_STREAM)
            .bind(stream.as_str())
            .bind(after.as_i64())
            .bind(limit(count));
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(|error| fault(&error))?;
        rows.iter().map(recorded).collect()
    }

    async fn read_all(
        &self,
        after: Position,
        filter: &Filter,
        count: usize,
    ) -> Result<Page, Error> {
        let count = count.max(1);
        let end = after
            .get()
            .saturating_add(SCAN.max(count as u64))
            .min(i64::MAX as u64);
        let query = if *filter == Filter::default() {
            sqlx::query(READ_ALL)
                .bind(after.as_i64())
                .bind(end as i64)
                .bind(limit(count))
        } else {
            sqlx::query(READ_ALL_FILTERED)
                .bind(after.as_i64())
                .bind(end as i64)
                .bind(limit(count))
                .bind(filter.partition.map(|partition| i32::from(partition.0)))
                .bind((!filter.categories.is_empty()).then_some(&filter.categories))
        };
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(|error| fault(&error))?;
        let Some(first) = rows.first() else {
            return Err(Error::Invalid(
                "the event log has no head: its database was emptied".into(),
            ));
        };
        let head: i64 = first.try_get(9).map_err(|error| fault(&error))?;
        // Without events there is one row that only has the head.
        let none = first
            .try_get::<Option<i64>, _>(0)
            .map_err(|error| fault(&error))?
            .is_none();
        let mut events: Vec<RecordedEvent> = if none {
            vec![]
        } else {
            rows.iter().map(recorded).collect::<Result<_, _>>()?
        };
        // They are in this order already, though SQL does not promise that of a join.
        events.sort_by_key(|event| event.position);
        Ok(Page::looked_at(
            events,
            count,
            Position::new(end).min(Position::from_i64(head)),
        ))
    }

    async fn head(&self) -> Result<Position, Error> {
        head(&self.pool).await
    }

    async fn wait_beyond(&self, position: Position, patience: Duration) {
        self.heads.wait_beyond(position, patience).await;
    }

    async fn acquire_lease(
        &self,
        name: &str,
        holder: Uuid,
        ttl: Duration,
    ) -> Result<Option<Fence>, Error> {
        lease::acquire(&self.pool, name, holder, ttl).await
    }

    async fn release_lease(&self, name: &str, holder: Uuid) -> Result<(), Error> {
        lease::release(&self.pool, name, holder).await
    }

    async fn load_relay_checkpoint(&self) -> Result<Option<RelayCheckpoint>, Error> {
        lease::load_checkpoint(&self.pool).await
    }

    async fn save_relay_checkpoint(
        &self,
        name: &str,
        fence: Fence,
        checkpoint: &RelayCheckpoint,
    ) -> Result<(), Fenced> {
        lease::save_checkpoint(&self.pool, name, fence, checkpoint).await
    }

    async fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        self.watchers.lock().await.shutdown().await;
        self.pool.close().await;
    }
}
