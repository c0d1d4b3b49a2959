//! What a batch of messages says: stretches of events that follow each other without a gap, and how far the partition is
//! known to go.
//!
//! Refuses: to trust the order, the number or the completeness of messages.

use std::fmt;

use broker::Delivery;
use events::{Heartbeat, LogIdentity, Message, Partition, Position, RecordedEvent};

/// Every event of the partition after a position, up to its own last.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) after: Position,
    pub(crate) events: Vec<RecordedEvent>,
}

/// A batch of messages, read.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// In the order of the log.
    pub(crate) stretches: Vec<Stretch>,
    /// The heartbeat of the highest position.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// What could not be read, or came from elsewhere: how many, and the first reason.
    pub(crate) unreadable: Option<(usize, String)>,
}

impl Batch {
    /// Reads messages of one partition's queue.
    pub(crate) fn read(deliveries: &[Delivery], log: LogIdentity, partition: Partition) -> Self {
        let mut batch = Self::default();
        let mut messages = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            if delivery.is_heartbeat() {
                match serde_json::from_slice::<Heartbeat>(&delivery.body) {
                    Ok(beat) if beat.log == log && beat.partition == partition => batch.beat(beat),
                    Ok(_) => batch.complain("it speaks of another log or partition"),
                    Err(cause) => batch.complain(cause),
                }
                continue;
            }
            match Message::from_json(&delivery.body) {
                // What an operator sends again is no news, and its `previous` passes over what was not selected.
                Ok(message) if message.replay.is_some() => {}
                Ok(message) if is_ours(&message, log, partition) => messages.push(message),
                Ok(_) => batch.complain("it comes from another log or partition"),
                Err(cause) => batch.complain(cause),
            }
        }
        batch.stretches = stretches(messages);
        batch
    }

    /// The highest position heard of.
    pub(crate) fn target(&self) -> Position {
        let event = self
            .stretches
            .last()
            .and_then(|stretch| stretch.events.last());
        let beat = self.heartbeat.as_ref().map(|beat| beat.position);
        event
            .map(|event| event.position)
            .max(beat)
            .unwrap_or_default()
    }

    fn beat(&mut self, beat: Heartbeat) {
        if self
            .heartbeat
            .as_ref()
            .is_none_or(|known| known.position <= beat.position)
        {
            self.heartbeat = Some(beat);
        }
    }

    fn complain(&mut self, cause: impl fmt::Display) {
        let complaint = self
            .unreadable
            .get_or_insert_with(|| (0, cause.to_string()));
        complaint.0 += 1;
    }
}

fn is_ours(message: &Message, log: LogIdentity, partition: Partition) -> bool {
    message.log == log.log
        && message.epoch == log.epoch
        && message.partition == partition
        && message.previous < message.event.position
}

/// Sorting makes repeated and reordered messages harmless; each begins a new stretch unless it says that it follows the
/// one before it.
fn stretches(mut messages: Vec<Message>) -> Vec<Stretch> {
    messages.sort_by_key(|message| message.event.position);
    messages.dedup_by_key(|message| message.event.position);
    let mut stretches: Vec<Stretch> = Vec::new();
    for Message {
        previous, event, ..
    } in messages
    {
        match stretches.last_mut() {
            Some(last) if last.events.last().is_some_and(|e| e.position == previous) => {
                last.events.push(event);
            }
            _ => stretches.push(Stretch {
                after: previous,
                events: vec![event],
            }),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use events::{Digest, EventId, Hash, StreamId, Version};
    use uuid::Uuid;

    use super::*;

    const LOG: LogIdentity = LogIdentity {
        log: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        partitions: 4,
    };

    fn message(previous: u64, position: u64) -> Message {
        Message {
            replay: None,
            log: LOG.log,
            epoch: LOG.epoch,
            partition: Partition(3),
            previous: Position::new(previous),
            event: RecordedEvent {
                position: Position::new(position),
                stream: StreamId::parse("account-1").unwrap(),
                version: Version::new(1),
                id: EventId(Uuid::nil()),
                type_name: "AccountClosed".into(),
                schema_version: 1,
                data: "{}".into(),
                metadata: "{}".into(),
                hash: Hash::ZERO,
            },
        }
    }

    fn delivery(message: &Message) -> Delivery {
        Delivery {
            tag: 1,
            routing_key: message.routing_key(),
            traceparent: None,
            body: message.to_json().unwrap(),
        }
    }

    fn beat(position: u64) -> Delivery {
        let (log, partition, position) = (LOG, Partition(3), Position::new(position));
        let beat = Heartbeat {
            log,
            partition,
            position,
            digest: Digest::ZERO,
        };
        Delivery {
            tag: 1,
            routing_key: beat.routing_key(),
            traceparent: None,
            body: serde_json::to_vec(&beat).unwrap(),
        }
    }

    fn shape(batch: &Batch) -> Vec<(u64, Vec<u64>)> {
        let of = |s: &Stretch| {
            (
                s.after.get(),
                s.events.iter().map(|e| e.position.get()).collect(),
            )
        };
        batch.stretches.iter().map(of).collect()
    }

    #[test]
    fn repeated_and_reordered_messages_become_one_stretch_and_a_lost_one_parts_two() {
        let pairs = [(4, 9), (0, 1), (1, 4), (0, 1), (12, 13), (9, 10)];
        let deliveries: Vec<_> = pairs.map(|(p, n)| delivery(&message(p, n))).to_vec();
        let batch = Batch::read(&deliveries, LOG, Partition(3));
        assert_eq!(shape(&batch), [(0, vec![1, 4, 9, 10]), (12, vec![13])]);
        assert_eq!(batch.target(), Position::new(13));
    }

    #[test]
    fn foreign_and_broken_messages_are_counted_and_left_out() {
        let mut foreign = message(0, 1);
        foreign.epoch = Uuid::nil();
        let mut broken = delivery(&message(0, 1));
        broken.body.truncate(20);
        let batch = Batch::read(
            &[delivery(&foreign), broken, delivery(&message(1, 2))],
            LOG,
            Partition(3),
        );
        assert_eq!(shape(&batch), [(1, vec![2])]);
        assert_eq!(batch.unreadable.map(|(n, _)| n), Some(2));
    }

    #[test]
    fn what_an_operator_replays_is_passed_over() {
        let mut again = message(2, 9);
        again.replay = Some(Uuid::from_u128(7));
        let deliveries = [delivery(&message(1, 2)), delivery(&again)];
        let batch = Batch::read(&deliveries, LOG, Partition(3));
        assert_eq!(shape(&batch), [(1, vec![2])]);
        assert_eq!(batch.target(), Position::new(2));
        assert!(batch.unreadable.is_none());
    }

    #[test]
    fn the_furthest_heartbeat_counts() {
        let batch = Batch::read(
            &[beat(7), beat(5), delivery(&message(1, 2))],
            LOG,
            Partition(3),
        );
        assert_eq!(batch.target(), Position::new(7));
    }
}
