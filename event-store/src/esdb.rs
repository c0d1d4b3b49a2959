//! The event store in EventStoreDB (KurrentDB), through its official client. Positions are sparse here: they rise, and
//! that is all. It refuses streams that Showcaller did not write, and a category that holds `~`, by which the adapter
//! tells its own records, and other logs on the same server, from the log.

mod append;
mod connection;
mod lanes;
mod lease;
mod leash;
mod names;
mod read;
mod records;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use events::{CommandId, LogIdentity, Position, RecordedEvent, StreamId, Version};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::heads::Heads;
use crate::writer::Writer;
use crate::{
    Append, AppendError, Appended, Error, EventStore, FORMAT, Fence, Fenced, Filter, Held, Options,
    Page, RelayCheckpoint,
};
use connection::{Connection, Trouble};
use records::{Claim, Format, Kind, LogIdentified};

/// An event store in EventStoreDB.
pub struct EsdbEventStore {
    identity: LogIdentity,
    connection: Arc<Connection>,
    heads: Arc<Heads>,
    seen: lease::Seen,
    /// `None` when opened to read only.
    writer: Option<Writer>,
    watcher: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    /// Ends the watcher with the store.
    _stop: DropGuard,
}

impl EsdbEventStore {
    /// Opens the log at an `esdb:` URL; see [`crate::open`].
    pub async fn open(url: &str, options: Options) -> Result<Self, Error> {
        let connection = Arc::new(Connection::new(url)?);
        let identity = identify(&connection, &options).await?;
        let heads = Arc::new(Heads::new(read::head(&connection).await?));
        let writer = (!options.read_only).then(|| {
            let backend = append::EsdbBackend::new(Arc::clone(&connection));
            Writer::start(backend, identity.partitions, &options, Arc::clone(&heads))
        });
        let stop = CancellationToken::new();
        let watch = watch::watch(Arc::clone(&connection), Arc::clone(&heads), stop.clone());
        Ok(Self {
            identity,
            connection,
            heads,
            seen: lease::Seen::default(),
            writer,
            watcher: Mutex::new(Some(tokio::spawn(watch))),
            _stop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Refuses what writes, on a store that was opened to read.
    fn may_write(&self) -> Result<(), Error> {
        match self.writer {
            Some(_) => Ok(()),
            None => Err(crate::options::read_only_refusal()),
        }
    }
}

/// Reads which log this is, or makes one.
async fn identify(connection: &Connection, options: &Options) -> Result<LogIdentity, Error> {
    let stream = Kind::Log.stream("identity");
    loop {
        if let Some(last) = read::last_stored(connection, &stream).await? {
            let format: Format = records::parse(&last)?;
            if format.format > FORMAT {
                return Err(crate::too_new(format.format, &format.needs));
            }
            return Ok(records::parse(&last)?);
        }
        if options.read_only {
            return Err(crate::no_log());
        }
        let format = Format {
            format: FORMAT,
            needs: env!("CARGO_PKG_VERSION").into(),
        };
        let made = LogIdentified {
            format: &format,
            log: LogIdentity {
                log: options.log.unwrap_or_else(records::random_id),
                epoch: records::random_id(),
                partitions: options.partitions.max(1),
            },
        };
        match records::replace(connection, Kind::Log, &stream, None, &made).await {
            // Whoever was first made it: read what stands.
            Ok(()) | Err(Trouble::Conflict) => {}
            Err(trouble) => return Err(trouble.into()),
        }
    }
}

/// Refuses what only SQL stores take.
fn check(append: &Append) -> Result<(), Error> {
    if append.stream.category().contains(names::MARK) {
        return Err(Error::Invalid(format!(
            "in EventStoreDB no category may hold {:?}: rename that of {}",
            names::MARK,
            append.stream
        )));
    }
    let ids = (0..).map(|index| append.command_id.event_id(index));
    if !append
        .events
        .iter()
        .map(|event| event.id)
        .eq(ids.take(append.events.len()))
    {
        return Err(Error::Invalid(
            "in EventStoreDB the ids of an append's events must be those that its command derives"
                .into(),
        ));
    }
    Ok(())
}

#[async_trait]
impl EventStore for EsdbEventStore {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn gapless(&self) -> bool {
        false
    }

    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let Some(writer) = &self.writer else {
            return Err(crate::options::read_only_refusal().into());
        };
        check(&append)?;
        writer.append(append).await
    }

    async fn append_all(&self, appends: Vec<Append>) -> Vec<Result<Appended, AppendError>> {
        let Some(writer) = &self.writer else {
            return crate::options::read_only_refusals(appends.len());
        };
        match appends.iter().try_for_each(check) {
            Ok(()) => writer.append_all(appends).await,
            Err(error) => {
                let refused = |_| Err(Error::Invalid(error.to_string()).into());
                appends.iter().map(refused).collect()
            }
        }
    }

    async fn find_command(
        &self,
        command: CommandId,
    ) -> Result<Option<(StreamId, Appended)>, Error> {
        let stream = records::claim_of(command);
        let Some((_, claim)) = records::newest::<Claim>(&self.connection, &stream).await? else {
            return Ok(None);
        };
        let found = read::search(&self.connection, &claim, command).await?;
        Ok(found.map(|found| (claim.stream, found)))
    }

    async fn read_stream(
        &self,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, Error> {
        if limit == 0 {
            return Ok(vec![]);
        }
        Ok(read::stream(&self.connection, stream, after, limit).await?)
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Version, Error> {
        Ok(read::tail(&self.connection, stream).await?.version)
    }

    async fn read_all(
        &self,
        after: Position,
        filter: &Filter,
        limit: usize,
    ) -> Result<Page, Error> {
        let partitions = self.identity.partitions;
        read::all(&self.connection, partitions, after, filter, limit).await
    }

    async fn head(&self) -> Result<Position, Error> {
        Ok(read::head(&self.connection).await?)
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
        self.may_write()?;
        lease::acquire(&self.connection, &self.seen, name, holder, ttl).await
    }

    async fn release_lease(&self, name: &str, holder: Uuid) -> Result<(), Error> {
        self.may_write()?;
        lease::release(&self.connection, name, holder).await
    }

    async fn lease(&self, name: &str) -> Result<Option<Held>, Error> {
        lease::held(&self.connection, name).await
    }

    async fn load_relay_checkpoint(&self) -> Result<Option<RelayCheckpoint>, Error> {
        lease::load_checkpoint(&self.connection).await
    }

    async fn save_relay_checkpoint(
        &self,
        name: &str,
        fence: Fence,
        checkpoint: &RelayCheckpoint,
    ) -> Result<(), Fenced> {
        self.may_write()?;
        lease::save_checkpoint(&self.connection, name, fence, checkpoint).await
    }

    async fn close(&self) {
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
        self.stop.cancel();
        if let Some(watcher) = self.watcher.lock().await.take() {
            // A panic of it was reported where it happened.
            let _ = watcher.await;
        }
        self.connection.close();
    }
}
