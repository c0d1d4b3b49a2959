//! The event store in a SQLite file, which several processes of one machine may open. It refuses databases in memory.

mod append;
mod connect;
mod lease;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use events::{CommandId, EventId, Hash, LogIdentity, Position, RecordedEvent, StreamId, Version};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{Connection, Row, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::heads::Heads;
use crate::writer::Writer;
use crate::{
    Append, AppendError, Appended, Error, EventStore, Fence, Fenced, Filter, Held, Options, Page,
    RelayCheckpoint,
};
use connect::fault;

/// How many positions one page looks at, so that a filter that matches little never makes one long statement.
const SCAN: u64 = 50_000;
/// How often appends of other processes are looked for while somebody waits.
const POLL: Duration = Duration::from_millis(25);

const READ_STREAM: &str = "SELECT position, stream, version, id, type, schema_version, data, metadata, hash FROM events \
    WHERE stream = ?1 AND version > ?2 ORDER BY version LIMIT ?3";

const STREAM_VERSION: &str =
    "SELECT version FROM events WHERE stream = ?1 ORDER BY version DESC LIMIT 1";

// A walk along the index of names: one look for the next name, one for its last event.
const LAST_OF_STREAMS: &str = "WITH RECURSIVE names (stream) AS ( \
        SELECT min(stream) FROM events WHERE stream > ?1 AND stream < ?2 \
        UNION ALL \
        SELECT (SELECT min(stream) FROM events WHERE stream > names.stream AND stream < ?2) FROM names \
         WHERE names.stream IS NOT NULL LIMIT ?3) \
    SELECT position, e.stream, version, id, type, schema_version, data, metadata, hash FROM names n \
     CROSS JOIN events e ON e.stream = n.stream AND e.version = (SELECT max(version) FROM events WHERE stream = n.stream) \
     ORDER BY e.stream";

const READ_ALL: &str = "SELECT position, stream, version, id, type, schema_version, data, metadata, hash FROM events \
    WHERE position > ?1 AND position <= ?2 ORDER BY position LIMIT ?3";

const READ_ALL_FILTERED: &str = "SELECT position, stream, version, id, type, schema_version, data, metadata, hash \
    FROM events WHERE position > ?1 AND position <= ?2 AND (?4 IS NULL OR partition = ?4) \
     AND (?5 IS NULL OR substr(stream, 1, instr(stream, '-') - 1) IN (SELECT value FROM json_each(?5))) \
    ORDER BY position LIMIT ?3";

const FIND_EVENT: &str = "SELECT position, stream, version, id, type, schema_version, data, metadata, hash FROM events \
    WHERE position > ?1 AND position <= ?2 AND id = ?3 LIMIT 1";

const FIND_COMMAND: &str = "SELECT f.stream, f.version, f.append_size, l.position, l.hash FROM events f \
    CROSS JOIN events l ON l.position = f.position + f.append_size - 1 WHERE f.command_id = ?1";

/// An event store in a SQLite file.
pub struct SqliteEventStore {
    identity: LogIdentity,
    pool: SqlitePool,
    heads: Arc<Heads>,
    /// `None` when opened to read only.
    writer: Option<Writer>,
    /// The poller; it ends with the store.
    watchers: Mutex<JoinSet<()>>,
}

impl SqliteEventStore {
    /// Opens the log at a `sqlite:` URL; see [`crate::open`]. The file and its folder are made if they are missing.
    pub async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let opened = connect::open(url, &options).await?;
        let heads = Arc::new(Heads::new(opened.head));
        let writer = (!options.read_only).then(|| {
            let backend = append::SqliteBackend::new(opened.connect.clone(), opened.identity.epoch);
            Writer::start(
                backend,
                opened.identity.partitions,
                &options,
                Arc::clone(&heads),
            )
        });
        let mut watchers = JoinSet::new();
        watchers.spawn(poll(opened.connect, Arc::clone(&heads)));
        Ok(Self {
            identity: opened.identity,
            pool: opened.pool,
            heads,
            writer,
            watchers: Mutex::new(watchers),
        })
    }
}

/// Corrects `heads` by looking for appends of other processes while somebody waits, for ever.
async fn poll(options: SqliteConnectOptions, heads: Arc<Heads>) {
    loop {
        heads.someone_waits().await;
        if let Err(error) = poll_changes(&options, &heads).await {
            tracing::warn!(%error, "the SQLite file cannot be polled; trying again");
            tokio::time::sleep(POLL).await;
        }
    }
}

async fn poll_changes(options: &SqliteConnectOptions, heads: &Heads) -> Result<(), sqlx::Error> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    let mut seen: Option<i64> = None;
    loop {
        heads.someone_waits().await;
        // Changes with every commit of another connection, and costs no look into a table.
        let version = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut connection)
            .await?;
        if seen.replace(version) != Some(version) {
            let head = sqlx::query_scalar("SELECT position FROM events_head WHERE id = 1");
            heads.correct(Position::from_i64(head.fetch_one(&mut connection).await?));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn recorded(row: &SqliteRow) -> Result<RecordedEvent, sqlx::Error> {
    Ok(RecordedEvent {
        position: Position::from_i64(row.try_get(0)?),
        stream: StreamId::parse(row.try_get(1)?)
            .map_err(|error| sqlx::Error::Decode(error.into()))?,
        version: Version::from_i64(row.try_get(2)?),
        id: EventId(row.try_get(3)?),
        type_name: row.try_get(4)?,
        schema_version: row.try_get(5)?,
        data: row.try_get(6)?,
        metadata: row.try_get(7)?,
        hash: Hash::from_bytes(row.try_get(8)?)
            .map_err(|error| sqlx::Error::Decode(error.into()))?,
    })
}

fn read(rows: &[SqliteRow]) -> Result<Vec<RecordedEvent>, Error> {
    rows.iter()
        .map(recorded)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(&error))
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[async_trait]
impl EventStore for SqliteEventStore {
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

    async fn append_all(&self, appends: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
        match &self.writer {
            Some(writer) => writer.append_all(appends).await,
            None => crate::options::read_only_refusals(appends.len()),
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
            let (first, size): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            Ok((
                StreamId::parse(row.try_get(0)?)
                    .map_err(|error| sqlx::Error::Decode(error.into()))?,
                Appended {
                    first: Version::from_i64(first),
                    last: Version::from_i64(first + size - 1),
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
        read(
            &query
                .fetch_all(&self.pool)
                .await
                .map_err(|error| fault(&error))?,
        )
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Version, Error> {
        let version = sqlx::query_scalar(STREAM_VERSION)
            .bind(stream.as_str())
            .fetch_optional(&self.pool)
            .await;
        version
            .map(|version: Option<i64>| version.map_or(Version::ZERO, Version::from_i64))
            .map_err(|error| fault(&error))
    }

    async fn last_of_streams(
        &self,
        category: Option<&str>,
        after: Option<&StreamId>,
        count: usize,
    ) -> Result<Vec<RecordedEvent>, Error> {
        let (begin, end) = crate::streams::bounds(category, after);
        let query = sqlx::query(LAST_OF_STREAMS)
            .bind(begin)
            .bind(end)
            .bind(limit(count));
        read(
            &query
                .fetch_all(&self.pool)
                .await
                .map_err(|error| fault(&error))?,
        )
    }

    async fn read_all(
        &self,
        after: Position,
        filter: &Filter,
        count: usize,
    ) -> Result<Page, Error> {
        // The head first: what is committed by then is seen by the statement after it.
        let head = self.head().await?;
        let count = count.max(1);
        let end = Position::new(
            after
                .get()
                .saturating_add(SCAN.max(count as u64))
                .min(head.get()),
        );
        let sql = if *filter == Filter::default() {
            READ_ALL
        } else {
            READ_ALL_FILTERED
        };
        let mut query = sqlx::query(sql)
            .bind(after.as_i64())
            .bind(end.as_i64())
            .bind(limit(count));
        if *filter != Filter::default() {
            let categories = (!filter.categories.is_empty())
                .then(|| serde_json::json!(filter.categories).to_string());
            query = query
                .bind(filter.partition.map(|partition| partition.0))
                .bind(categories);
        }
        let rows = query
            .fetch_all(&self.pool)
            .await
            .map_err(|error| fault(&error))?;
        Ok(Page::looked_at(read(&rows)?, count, end))
    }

    async fn find_event(&self, id: EventId) -> Result<Option<RecordedEvent>, Error> {
        for (after, end) in crate::streams::backwards(self.head().await?) {
            let query = sqlx::query(FIND_EVENT)
                .bind(after.as_i64())
                .bind(end.as_i64())
                .bind(id.0);
            let found = query
                .fetch_optional(&self.pool)
                .await
                .map_err(|error| fault(&error))?;
            if let Some(row) = found {
                return recorded(&row).map(Some).map_err(|error| fault(&error));
            }
        }
        Ok(None)
    }

    async fn head(&self) -> Result<Position, Error> {
        sqlx::query_scalar("SELECT position FROM events_head WHERE id = 1")
            .fetch_one(&self.pool)
            .await
            .map(Position::from_i64)
            .map_err(|error| fault(&error))
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

    async fn lease(&self, name: &str) -> Result<Option<Held>, Error> {
        lease::held(&self.pool, name).await
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
