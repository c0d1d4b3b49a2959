//! Reading streams and the log. It refuses to take an event without an envelope for one of the log's.

use std::time::Duration;

use ::eventstore::{
    Position as LogPosition, ReadAllOptions, RecordedEvent as Stored, StreamPosition,
};
use events::{CommandId, Partition, Position, RecordedEvent, StreamId, Version, partition_of};

use super::connection::{Connection, PATIENCE, SEARCH, Trouble, in_time, within};
use super::names::Names;
use super::records::Claim;
use crate::envelope::Envelope;
use crate::tails::Tail;
use crate::{Appended, Error, Filter, Page};

/// How many events one page looks at, where most are left out.
const SCAN: usize = 50_000;
/// How many events a search for a command reads at once.
const SEARCH_PAGE: usize = 500;

/// The events of a stream from a version on, as they are stored.
pub(super) async fn stored(
    connection: &Connection,
    stream: &str,
    after: Version,
    limit: usize,
) -> Result<Vec<Stored>, Trouble> {
    let options = connection
        .read_stream_options()
        .position(StreamPosition::Position(after.get()))
        .max_count(limit);
    let there = connection.names().there(stream);
    let read = connection.call(|client| {
        let (there, options) = (&*there, &options);
        async move {
            let mut events = Vec::new();
            let mut answers = in_time(client.read_stream(there, options)).await?;
            while let Some(event) = in_time(answers.next()).await? {
                events.extend(event.event);
            }
            Ok(events)
        }
    });
    match read.await {
        Err(Trouble::Missing) => Ok(vec![]),
        read => read,
    }
}

/// A stream's last event, as it is stored.
pub(super) async fn last_stored(
    connection: &Connection,
    stream: &str,
) -> Result<Option<Stored>, Trouble> {
    let options = connection
        .read_stream_options()
        .position(StreamPosition::End)
        .backwards()
        .max_count(1);
    let there = connection.names().there(stream);
    let read = connection.call(|client| {
        let (there, options) = (&*there, &options);
        async move {
            let mut answers = in_time(client.read_stream(there, options)).await?;
            in_time(answers.next()).await
        }
    });
    match read.await {
        Err(Trouble::Missing) => Ok(None),
        read => Ok(read?.and_then(|event| event.event)),
    }
}

/// An event of the log; `None` for one that Showcaller did not write.
pub(super) fn recorded(names: &Names, event: &Stored) -> Option<RecordedEvent> {
    let stream = StreamId::parse(names.here(event.stream_id())?).ok()?;
    let envelope = Envelope::from_user_metadata(&event.custom_metadata, names.key())?;
    Some(RecordedEvent {
        position: Position::new(event.position.commit),
        stream,
        version: Version::new(event.revision + 1),
        id: envelope.id,
        type_name: event.event_type.clone(),
        schema_version: envelope.schema_version,
        data: String::from_utf8(event.data.to_vec()).ok()?,
        metadata: envelope.metadata,
        hash: envelope.hash,
    })
}

/// An event that stands in a stream of the log.
fn belonging(names: &Names, event: &Stored) -> Result<RecordedEvent, Trouble> {
    recorded(names, event).ok_or_else(|| {
        Trouble::Lasting(format!(
            "event {} of {} was not written by Showcaller: streams of its log are its own",
            event.revision,
            event.stream_id()
        ))
    })
}

/// Where a stream ends.
pub(super) async fn tail(connection: &Connection, stream: &StreamId) -> Result<Tail, Trouble> {
    let last = last_stored(connection, stream.as_str()).await?;
    let names = connection.names();
    let last = last.map(|last| belonging(names, &last)).transpose()?;
    Ok(last.map_or(Tail::EMPTY, |last| Tail {
        version: last.version,
        hash: last.hash,
    }))
}

/// Up to `limit` events of a stream after a version.
pub(super) async fn stream(
    connection: &Connection,
    stream: &StreamId,
    after: Version,
    limit: usize,
) -> Result<Vec<RecordedEvent>, Trouble> {
    let events = stored(connection, stream.as_str(), after, limit).await?;
    let names = connection.names();
    events.iter().map(|event| belonging(names, event)).collect()
}

/// The position of the log's last event. Mostly that is the server's last one. Where others write to it too, the server has to
/// search, which may take it a while; so it is asked only then.
pub(super) async fn head(connection: &Connection) -> Result<Position, Trouble> {
    let names = connection.names();
    let newest = connection
        .read_all_options()
        .position(StreamPosition::End)
        .backwards()
        .max_count(1);
    let last = last_of_all(connection, &newest, PATIENCE).await?;
    let last = match last {
        Some(last) if names.here(last.stream_id()).is_none() => {
            let newest = newest.filter(names.filter(&Filter::default()));
            last_of_all(connection, &newest, SEARCH).await?
        }
        last => last,
    };
    Ok(last.map_or(Position::ZERO, |last| Position::new(last.position.commit)))
}

async fn last_of_all(
    connection: &Connection,
    options: &ReadAllOptions,
    patience: Duration,
) -> Result<Option<Stored>, Trouble> {
    let last = connection.call(|client| async move {
        let mut answers = in_time(client.read_all(options)).await?;
        within(patience, answers.next()).await
    });
    Ok(last.await?.and_then(|event| event.event))
}

/// Up to `limit` events of the log after a position.
pub(super) async fn all(
    connection: &Connection,
    partitions: u16,
    after: Position,
    filter: &Filter,
    limit: usize,
) -> Result<Page, Error> {
    let limit = limit.max(1);
    // The head first: what is committed by then is seen by the read after it.
    let head = head(connection).await?;
    if after >= head {
        return Ok(Page {
            events: vec![],
            through: head,
        });
    }
    // The event at the position comes along when one reads from it.
    let count = match filter.partition {
        None => limit.saturating_add(1),
        Some(_) => limit.max(SCAN).saturating_add(1),
    };
    let from = match after {
        Position::ZERO => StreamPosition::Start,
        after => StreamPosition::Position(LogPosition {
            commit: after.get(),
            prepare: after.get(),
        }),
    };
    let options = connection
        .read_all_options()
        .position(from)
        .filter(connection.names().filter(filter))
        .max_count(count);
    let wanted = Wanted {
        names: connection.names(),
        partitions,
        partition: filter.partition,
        after,
        head,
        limit,
        count,
    };
    let page = connection.call(|client| {
        let (options, wanted) = (&options, &wanted);
        async move {
            let mut answers = in_time(client.read_all(options)).await?;
            let mut looked = Looked::default();
            while let Some(event) = within(SEARCH, answers.next()).await? {
                let Some(event) = event.event else { continue };
                if !looked.take(wanted, &event) {
                    break;
                }
            }
            Ok(looked)
        }
    });
    Ok(page.await?.finish(&wanted))
}

/// What a page is to hold.
struct Wanted<'a> {
    names: &'a Names,
    partitions: u16,
    partition: Option<Partition>,
    after: Position,
    head: Position,
    limit: usize,
    count: usize,
}

/// What a page holds so far.
#[derive(Default)]
struct Looked {
    events: Vec<RecordedEvent>,
    /// How many events came by, and the position of the last.
    count: usize,
    at: Position,
    past_head: bool,
}

impl Looked {
    /// Takes one event in; `false` when the page is full or has reached the head.
    fn take(&mut self, wanted: &Wanted<'_>, event: &Stored) -> bool {
        let position = Position::new(event.position.commit);
        if position > wanted.head {
            self.past_head = true;
            return false;
        }
        self.count += 1;
        self.at = position;
        if position > wanted.after
            && let Some(event) = recorded(wanted.names, event)
            && wanted
                .partition
                .is_none_or(|partition| partition_of(&event.stream, wanted.partitions) == partition)
        {
            self.events.push(event);
        }
        self.events.len() < wanted.limit
    }

    fn finish(self, wanted: &Wanted<'_>) -> Page {
        // All that was asked for came, so there may be more before the head.
        let cut = self.count >= wanted.count && !self.past_head;
        let end = if cut { self.at } else { wanted.head };
        Page::looked_at(self.events, wanted.limit, end)
    }
}

/// A command's events in the stream it claimed.
pub(super) async fn search(
    connection: &Connection,
    claim: &Claim,
    command: CommandId,
) -> Result<Option<Appended>, Trouble> {
    let mut at = claim.after;
    let mut found: Option<Appended> = None;
    loop {
        let page = stream(connection, &claim.stream, at, SEARCH_PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        at = last.version;
        for event in page {
            let index = found
                .as_ref()
                .map_or(0, |found| found.last.get() + 1 - found.first.get());
            if event.id == command.event_id(index as usize) {
                let first = found.as_ref().map_or(event.version, |found| found.first);
                found = Some(Appended {
                    first,
                    last: event.version,
                    position: event.position,
                    hash: event.hash,
                    repeated: true,
                });
            } else if found.is_some() {
                return Ok(found);
            }
        }
    }
}
