//! The port: what every broker offers. Nothing here is relied on for correctness; messages may be lost, repeated, late or
//! out of order.

use std::time::Duration;

use async_trait::async_trait;
use events::Partition;

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

/// Who consumes: every group gets every message once a partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group {
    /// The group's name, part of its queues' names; lower-case letters, digits and `-`.
    pub name: String,
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
    async fn subscribe(&self, group: &Group, partition: Partition) -> Result<Box<dyn Subscription>, Error>;

    /// Can be reached now (for `/health/ready`).
    async fn check(&self) -> Result<(), Error>;
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
    async fn next_batch(&mut self, max: usize, patience: Duration) -> Result<Vec<Delivery>, Error>;

    /// Acknowledges every delivery up to and including `tag`.
    async fn acknowledge(&mut self, tag: u64) -> Result<(), Error>;
}
