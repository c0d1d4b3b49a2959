//! The port: what every broker offers. Nothing here is relied on for correctness; messages may be lost, repeated, late or
//! out of order.

use std::time::Duration;

use async_trait::async_trait;
use events::{Heartbeat, Message, MessageError, Partition};

/// The MIME type of an event's body.
pub(crate) const EVENT_MEDIA_TYPE: &str = "application/cloudevents+json";
/// The MIME type of a heartbeat's body.
pub(crate) const HEARTBEAT_MEDIA_TYPE: &str = "application/json";
/// The header that carries the W3C trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// `{partition}.{category}.{type}` or `{partition}.heartbeat`.
    pub routing_key: String,
    /// Matches confirms; the event's id in text form.
    pub message_id: String,
    /// W3C trace context of the request behind it.
    pub traceparent: Option<String>,
    /// The JSON.
    pub body: Vec<u8>,
}

impl Envelope {
    /// An event as a CloudEvent, under `{partition}.{category}.{type}`.
    pub fn event(message: &Message, traceparent: Option<String>) -> Result<Self, MessageError> {
        Ok(Self {
            routing_key: message.routing_key(),
            message_id: message.event.id.to_string(),
            traceparent,
            body: message.to_json()?,
        })
    }

    /// A heartbeat, under `{partition}.heartbeat`.
    pub fn heartbeat(heartbeat: &Heartbeat) -> Self {
        Self {
            routing_key: heartbeat.routing_key(),
            message_id: format!("heartbeat-{}-{}", heartbeat.partition, heartbeat.position),
            traceparent: None,
            // A struct of ids and numbers: serialising it cannot fail.
            body: serde_json::to_vec(heartbeat).unwrap_or_default(),
        }
    }

    /// The routing key without its partition, like `account.AccountRegistered`.
    pub fn kind(&self) -> &str {
        kind(&self.routing_key)
    }

    /// The MIME type of the body.
    pub fn content_type(&self) -> &'static str {
        if is_heartbeat(&self.routing_key) {
            HEARTBEAT_MEDIA_TYPE
        } else {
            EVENT_MEDIA_TYPE
        }
    }
}

/// A message that came in.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// For acknowledging: rises within one subscription.
    pub tag: u64,
    /// Tells a heartbeat from an event.
    pub routing_key: String,
    /// W3C trace context, if it was sent.
    pub traceparent: Option<String>,
    /// The JSON.
    pub body: Vec<u8>,
}

impl Delivery {
    /// The body is an [`events::Heartbeat`], not an [`events::Message`].
    pub fn is_heartbeat(&self) -> bool {
        is_heartbeat(&self.routing_key)
    }

    /// The routing key without its partition, like `account.AccountRegistered`.
    pub fn kind(&self) -> &str {
        kind(&self.routing_key)
    }
}

/// `{partition}.heartbeat` and nothing more: an event's key has a third word.
fn is_heartbeat(routing_key: &str) -> bool {
    routing_key
        .split_once('.')
        .is_some_and(|(_, rest)| rest == "heartbeat")
}

fn kind(routing_key: &str) -> &str {
    routing_key.split_once('.').map_or("", |(_, kind)| kind)
}

/// The partition a routing key begins with, if it does.
pub(crate) fn partition_of_key(routing_key: &str) -> Option<Partition> {
    routing_key.split('.').next()?.parse().ok().map(Partition)
}

/// Who consumes: every group gets every message once a partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The group's name, part of its queues' names; lower-case letters, digits and `-`.
    pub name: String,
}

/// The longest group name, in bytes: a queue's name ends at 255.
const GROUP_BYTES: usize = 100;

impl Group {
    /// Checks and takes a group's name.
    pub fn new(name: &str) -> Result<Self, Error> {
        let group = Self {
            name: name.to_owned(),
        };
        group.check()?;
        Ok(group)
    }

    /// The name is fit to be part of a queue's name.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > GROUP_BYTES || !self.name.chars().all(fit) {
            return Err(Error::Invalid(format!(
                "the consumer group {:?} is not a name: write 1 to {GROUP_BYTES} lower-case letters, digits and '-'",
                self.name
            )));
        }
        Ok(())
    }
}

/// Where to publish instead of the relay's exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An exchange, which routes by the events' keys.
    Exchange(String),
    /// A queue, whatever the keys.
    Queue(String),
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Messages that wait.
    pub messages: u32,
    /// Consumers, those on standby included.
    pub consumers: u32,
}

/// A fault of the broker: drop what it came from, wait a little, and build it anew.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker can't be reached, went away, blocks, or refused.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// The settings are wrong: trying again will not help.
    #[error("{0}")]
    Invalid(String),
}

/// A courier. `publisher` and `subscribe` connect, within a bounded time; one failed handle never harms another.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// A new handle to publish with, on a connection of its own.
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Error>;

    /// Consumes one partition for a group; declares its queue. With several subscribers one is active, the others stand
    /// by.
    async fn subscribe(
        &self,
        group: &Group,
        partition: Partition,
    ) -> Result<Box<dyn Subscription>, Error>;

    /// A new handle to publish with to a place that exists already; one that does not is [`Error::Invalid`].
    async fn publisher_to(&self, _target: &Target) -> Result<Box<dyn Publisher>, Error> {
        Err(Error::Invalid(
            "the in-process broker has no exchanges and queues of others: write --broker amqp://USER:PASSWORD@HOST:5672"
                .into(),
        ))
    }

    /// How a group's queue of one partition stands, for those who only look: nothing is declared. `None`: there is no such
    /// queue that could be seen from here.
    async fn depth(&self, _group: &Group, _partition: Partition) -> Result<Option<Depth>, Error> {
        Ok(None)
    }

    /// Can be reached now (for `/health/ready`).
    async fn check(&self) -> Result<(), Error>;

    /// Says goodbye, within a bounded time; every handle fails afterwards. Call it before the runtime ends.
    async fn close(&self) {}
}

/// Publishes and waits for confirms.
#[async_trait]
pub trait Publisher: Send {
    /// Publishes all, pipelined; returns when the broker has confirmed every one, or fails within a bounded time. After
    /// a failure any of them may or may not have arrived.
    async fn publish(&mut self, batch: Vec<Envelope>) -> Result<(), Error>;
}

/// One partition's messages.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for a message up to `patience`, then takes whatever else has arrived, `max` at most. Empty after `patience`.
    /// An error means that nothing more will come (the connection is gone, the queue was deleted): subscribe anew.
    /// Dropping the future loses no message.
    async fn next_batch(&mut self, max: usize, patience: Duration) -> Result<Vec<Delivery>, Error>;

    /// Acknowledges every delivery up to and including `tag`.
    async fn acknowledge(&mut self, tag: u64) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_told_from_an_event_of_a_type_of_that_name() {
        assert!(is_heartbeat("3.heartbeat"));
        assert!(!is_heartbeat("3.heartbeat.Heartbeat"));
        assert!(!is_heartbeat("3.account.heartbeat"));
    }

    #[test]
    fn a_routing_key_begins_with_its_partition() {
        assert_eq!(
            partition_of_key("12.account.AccountClosed"),
            Some(Partition(12))
        );
        assert_eq!(partition_of_key("account.AccountClosed"), None);
    }

    #[test]
    fn a_group_name_that_is_no_part_of_a_queue_name_is_refused() {
        assert!(Group::new("projector-2").is_ok());
        for name in [
            "",
            "Projector",
            "a.b",
            "a b",
            "ä",
            &"x".repeat(GROUP_BYTES + 1),
        ] {
            assert!(
                matches!(Group::new(name), Err(Error::Invalid(_))),
                "{name:?}"
            );
        }
    }
}
