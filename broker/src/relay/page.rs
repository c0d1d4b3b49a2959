//! From a page of the log to messages ready to send. It refuses to judge events: one that cannot be a message is left
//! out, and its consumers find the gap and read the log.

use std::borrow::Cow;

use event_store::{Page, RelayCheckpoint};
use events::{Heartbeat, Message, Partition, RecordedEvent, partition_of};
use serde::Deserialize;

use crate::port::Envelope;

/// The largest message sent, in bytes. RabbitMQ refuses larger ones (16 MiB by default) by closing the channel, which
/// would stop the relay for good.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// The longest routing key AMQP can carry, in bytes.
const MAX_ROUTING_KEY: usize = 255;

/// Messages, and the checkpoint that holds once they are confirmed.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) batch: Vec<Envelope>,
    pub(super) after: RelayCheckpoint,
}

impl Outgoing {
    /// What follows `before` in the log.
    pub(super) fn new(before: &RelayCheckpoint, page: Page) -> Self {
        let mut after = before.clone();
        let mut batch = Vec::with_capacity(page.events.len() + after.partitions.len());
        after.position = after.position.max(page.through);
        for event in page.events {
            let partition = partition_of(&event.stream, after.log.partitions);
            let Some(mark) = after.partitions.get_mut(usize::from(partition.0)) else {
                continue;
            };
            let previous = mark.position;
            mark.position = event.position;
            mark.digest = mark.digest.then(&event.hash);
            let message = Message {
                log: after.log.log,
                epoch: after.log.epoch,
                partition,
                previous,
                event,
                replay: None,
            };
            batch.extend(envelope(&message));
        }
        Self { batch, after }
    }
}

/// A heartbeat for every partition, with the marks of `checkpoint`.
pub(super) fn heartbeats(checkpoint: &RelayCheckpoint) -> impl Iterator<Item = Envelope> {
    (0..checkpoint.log.partitions)
        .zip(&checkpoint.partitions)
        .map(|(partition, mark)| {
            Envelope::heartbeat(&Heartbeat {
                log: checkpoint.log,
                partition: Partition(partition),
                position: mark.position,
                digest: mark.digest,
            })
        })
}

fn envelope(message: &Message) -> Option<Envelope> {
    let event = &message.event;
    let left_out = |why: &str| {
        tracing::error!(position = %event.position, id = %event.id, "event not published, since {why}; consumers read it from the log");
        None
    };
    match Envelope::event(message, traceparent(event)) {
        Ok(envelope) if envelope.body.len() > MAX_BODY => left_out("it is too large for a message"),
        Ok(envelope) if envelope.routing_key.len() > MAX_ROUTING_KEY => {
            left_out("its type's name is too long")
        }
        Ok(envelope) => Some(envelope),
        Err(error) => left_out(&error.to_string()),
    }
}

/// The trace context in an event's metadata; the rest of it is passed over.
fn traceparent(event: &RecordedEvent) -> Option<String> {
    #[derive(Deserialize)]
    struct Traced<'a> {
        #[serde(borrow, default)]
        traceparent: Option<Cow<'a, str>>,
    }
    let traced: Traced<'_> = serde_json::from_str(&event.metadata).ok()?;
    traced.traceparent.map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use events::{EventId, Hash, LogIdentity, Position, StreamId, Version};
    use uuid::Uuid;

    use super::*;

    fn event(position: u64, stream: &str, data: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position),
            stream: StreamId::parse(stream).unwrap(),
            version: Version::new(1),
            id: EventId(Uuid::from_u128(position.into())),
            type_name: "Happened".into(),
            schema_version: 1,
            data: data.into(),
            metadata: r#"{"command_id":"x","traceparent":"00-aa-bb-01"}"#.into(),
            hash: Hash::from_bytes(&[position as u8; 32]).unwrap(),
        }
    }

    fn start() -> RelayCheckpoint {
        RelayCheckpoint::start(LogIdentity {
            log: Uuid::from_u128(1),
            epoch: Uuid::from_u128(2),
            partitions: 2,
        })
    }

    fn page(events: Vec<RecordedEvent>) -> Page {
        let through = events.last().map_or(Position::ZERO, |event| event.position);
        Page { events, through }
    }

    #[test]
    fn each_partition_is_a_chain_of_its_own() {
        let streams = ["a-1", "a-2", "a-3", "a-4", "a-5", "a-6"];
        let events = streams
            .iter()
            .zip(1..)
            .map(|(stream, position)| event(position, stream, "{}"))
            .collect();
        let outgoing = Outgoing::new(&start(), page(events));
        let mut last = [Position::ZERO; 2];
        for envelope in &outgoing.batch {
            let message = Message::from_json(&envelope.body).unwrap();
            let last = &mut last[usize::from(message.partition.0)];
            assert_eq!(message.previous, *last);
            assert_eq!(envelope.traceparent.as_deref(), Some("00-aa-bb-01"));
            *last = message.event.position;
        }
        assert_eq!(outgoing.batch.len(), streams.len());
        assert_eq!(
            outgoing
                .after
                .partitions
                .iter()
                .map(|mark| mark.position)
                .collect::<Vec<_>>(),
            last
        );
        assert_eq!(outgoing.after.position, Position::new(6));
    }

    #[test]
    fn an_event_that_cannot_be_a_message_leaves_a_gap_that_consumers_see() {
        let events = vec![
            event(1, "a-1", "{}"),
            event(2, "a-1", "not JSON"),
            event(3, "a-1", "{}"),
        ];
        let outgoing = Outgoing::new(&start(), page(events));
        let previous: Vec<_> = outgoing
            .batch
            .iter()
            .map(|sent| Message::from_json(&sent.body).unwrap().previous.get())
            .collect();
        assert_eq!(previous, [0, 2]);
    }

    #[test]
    fn heartbeats_name_every_partition_once() {
        let keys: Vec<_> = heartbeats(&start())
            .map(|envelope| envelope.routing_key)
            .collect();
        assert_eq!(keys, ["0.heartbeat", "1.heartbeat"]);
    }
}
