//! What the relay tells of itself, and what can be asked of its broker. Written once a batch.

use instruments::metrics::{Counter, Gauge, Histogram, LATENCIES, Metrics, Observed, SIZES};

pub(crate) static PUBLISHED: Counter = Counter::new(
    "showcaller_relay_published_total",
    "Events that this relay published and the broker confirmed.",
);
pub(crate) static BATCH: Histogram = Histogram::new(
    "showcaller_relay_batch_size",
    "Messages that were published together, heartbeats included.",
    SIZES,
);
pub(crate) static PUBLISH: Histogram = Histogram::new(
    "showcaller_relay_publish_seconds",
    "From sending the first message of a batch until the last is confirmed.",
    LATENCIES,
);
pub(crate) static UNCONFIRMED: Gauge = Gauge::new(
    "showcaller_relay_unconfirmed",
    "Messages of the batch that is on its way to the broker, and not confirmed as a whole.",
);
pub(crate) static LEADING: Gauge = Gauge::new(
    "showcaller_relay_leading",
    "1 while this relay holds the lease and publishes; over all relays the sum is 1.",
);
pub(crate) static FAULTS: Counter = Counter::new(
    "showcaller_relay_faults_total",
    "Faults that this relay got over.",
);
/// How far behind the log's head the relay is.
pub static LAG: Observed = Observed::gauge(
    "showcaller_relay_lag",
    "Positions between the log's head and what the broker has confirmed; while this relay leads.",
    &[],
);
/// Messages that wait in a queue.
pub static QUEUE: Observed = Observed::gauge(
    "showcaller_queue_messages",
    "Messages that are ready in a partition's queue, those on their way to a projector not counted.",
    &["partition"],
);
/// Who consumes a queue.
pub static CONSUMERS: Observed = Observed::gauge(
    "showcaller_queue_consumers",
    "Projectors that consume a partition's queue or stand by.",
    &["partition"],
);

/// The metrics of a relay.
pub static RELAY: Metrics = &[
    &PUBLISHED,
    &BATCH,
    &PUBLISH,
    &UNCONFIRMED,
    &LEADING,
    &FAULTS,
    &LAG,
];
/// The metrics of queues.
pub static QUEUES: Metrics = &[&QUEUE, &CONSUMERS];
