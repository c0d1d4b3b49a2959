//! What the adapter keeps in EventStoreDB beside the log: which log it is, who holds which lease, how far the relay has
//! published, and which stream a command was carried out on. Each record is the last event of a stream of its own, whose
//! category no stream of the log may have.

use std::fmt::Display;

use ::eventstore::{EventData, RecordedEvent as Stored, StreamMetadataBuilder, StreamState};
use events::{CommandId, LogIdentity, StreamId, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::connection::{Connection, Trouble, in_time};
use super::names::MARK;
use super::read::last_stored;
use crate::RelayCheckpoint;

/// The format of the log and the release that it needs: read even where the rest cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    pub format: i32,
    pub needs: String,
}

/// Which log this is, and in which format.
#[derive(Serialize)]
pub(super) struct LogIdentified<'a> {
    #[serde(flatten)]
    pub format: &'a Format,
    #[serde(flatten)]
    pub log: LogIdentity,
}

/// On which stream a command is carried out, and after which version one has to look for it there. Written before the
/// command's events: whoever finds it may be before them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub stream: StreamId,
    pub after: Version,
}

/// Who holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    /// `None`: it was given up.
    pub holder: Option<Uuid>,
    pub fence: u64,
    pub ttl_ms: u64,
}

/// How far the relay has published, and under which fence that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    pub fence: u64,
    pub checkpoint: RelayCheckpoint,
}

/// The stream of a kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Log,
    Command,
    Lease,
    Relay,
}

impl Kind {
    /// The stream of one record.
    pub(super) fn stream(self, id: impl Display) -> String {
        let name = match self {
            Self::Log => "log",
            Self::Command => "command",
            Self::Lease => "lease",
            Self::Relay => "relay",
        };
        format!("{MARK}showcaller_{name}-{id}")
    }

    fn type_name(self) -> &'static str {
        match self {
            Self::Log => "LogIdentified",
            Self::Command => "CommandClaimed",
            Self::Lease => "LeaseChanged",
            Self::Relay => "RelayPublished",
        }
    }

    /// A record's event.
    pub(super) fn event(self, id: Uuid, record: &impl Serialize) -> Result<EventData, Trouble> {
        EventData::json(self.type_name(), record)
            .map(|event| event.id(id))
            .map_err(|error| Trouble::Lasting(format!("a record cannot be written: {error}")))
    }
}

/// The claim's stream.
pub(super) fn claim_of(command: CommandId) -> String {
    Kind::Command.stream(command)
}

/// A random id: the one door to randomness in this crate.
#[expect(
    clippy::disallowed_methods,
    reason = "ids of logs and records are drawn here; in SQL stores the database draws them"
)]
pub(super) fn random_id() -> Uuid {
    Uuid::new_v4()
}

/// What a stored record says.
pub(super) fn parse<R: DeserializeOwned>(event: &Stored) -> Result<R, Trouble> {
    serde_json::from_slice(&event.data).map_err(|error| {
        Trouble::Lasting(format!(
            "the record in {} cannot be read: {error}",
            event.stream_id()
        ))
    })
}

/// The newest record of a stream, with its revision.
pub(super) async fn newest<R: DeserializeOwned>(
    connection: &Connection,
    stream: &str,
) -> Result<Option<(u64, R)>, Trouble> {
    let last = last_stored(connection, stream).await?;
    last.map(|event| Ok((event.revision, parse(&event)?)))
        .transpose()
}

/// Writes a record after the one that was read; [`Trouble::Conflict`] if another came between. After
/// [`Trouble::Passing`] it may or may not be there.
pub(super) async fn replace(
    connection: &Connection,
    kind: Kind,
    stream: &str,
    read: Option<u64>,
    record: &impl Serialize,
) -> Result<(), Trouble> {
    let state = read.map_or(StreamState::NoStream, StreamState::StreamRevision);
    let options = connection.append_options().stream_state(state);
    let event = kind.event(random_id(), record)?;
    let (number, client) = connection.client()?;
    let there = connection.names().there(stream);
    let written = in_time(client.append_to_stream(&*there, &options, event)).await;
    if let Err(error) = written {
        let trouble = Trouble::from(error);
        if matches!(trouble, Trouble::Passing(_)) {
            connection.broken(number);
        }
        return Err(trouble);
    }
    if read.is_none() && matches!(kind, Kind::Lease | Kind::Relay) {
        keep_newest(connection, stream).await;
    }
    Ok(())
}

/// Lets EventStoreDB scavenge all but a stream's newest events. Without the right to, they only pile up.
async fn keep_newest(connection: &Connection, stream: &str) {
    /// How many are kept.
    const KEPT: u64 = 10;
    let metadata = StreamMetadataBuilder::new().max_count(KEPT).build();
    let options = connection.append_options();
    let there = connection.names().there(stream);
    if let Ok((_, client)) = connection.client()
        && let Err(error) = in_time(client.set_stream_metadata(&*there, &options, &metadata)).await
    {
        tracing::debug!(%error, stream, "old records of this stream will not be scavenged");
    }
}
