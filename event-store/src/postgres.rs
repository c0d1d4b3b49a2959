//! The event store in PostgreSQL, schema `showcaller_events`. It refuses a server that forgets acknowledged commits.

mod append;
mod connect;
mod lease;
mod listen;
mod read;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use events::{CommandId, EventId, LogIdentity, Position, RecordedEvent, StreamId, Version};
use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::heads::Heads;
use crate::writer::Writer;
use crate::{
    Append, AppendError, Appended, Error, EventStore, Fence, Fenced, Filter, Held, Options, Page,
    RelayCheckpoint,
};

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
        read::command(&self.pool, command).await
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, Error> {
        read::stream(&self.pool, stream, after, limit).await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Version, Error> {
        read::stream_version(&self.pool, stream).await
    }

    async fn last_of_streams(
        &self,
        category: Option<&str>,
        after: Option<&StreamId>,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, Error> {
        let (begin, end) = crate::streams::bounds(category, after);
        read::last_of_streams(&self.pool, &begin, &end, limit).await
    }

    async fn read_all(
        &self,
        after: Position,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, Error> {
        read::all(&self.pool, after, filter, limit).await
    }

    async fn find_event(&self, id: EventId) -> Result<Option<RecordedEvent>, Error> {
        read::by_id(&self.pool, id).await
    }

    async fn head(&self) -> Result<Position, Error> {
        read::head(&self.pool).await
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
