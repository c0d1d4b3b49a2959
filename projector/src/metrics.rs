//! What the projector tells of itself: written once a batch, and read from its status when somebody asks.

use instruments::metrics::{Counter, Histogram, LATENCIES, Metrics, Observations, Observed, SIZES};

use crate::status::{PartitionStatus, State, Status};

pub(crate) static MESSAGES: Counter = Counter::new(
    "showcaller_projection_messages_total",
    "Messages that came from the queues, repeated ones and heartbeats included.",
);
pub(crate) static BATCH: Histogram = Histogram::new(
    "showcaller_projection_batch_size",
    "Messages that were taken together.",
    SIZES,
);
pub(crate) static TOOK: Histogram = Histogram::new(
    "showcaller_projection_batch_seconds",
    "From a batch's arrival until the rows of all read models are committed.",
    LATENCIES,
);
pub(crate) static HEALED: Counter = Counter::new(
    "showcaller_projection_healings_total",
    "Times that the log was read since the queue had not brought everything.",
);
static LAG: Observed = Observed::gauge(
    "showcaller_projection_lag",
    "Positions between the last event that is known of and the last that is committed, over the partitions that this \
     projector consumes.",
    &["read_model"],
);
static LAG_SECONDS: Observed = Observed::gauge(
    "showcaller_projection_lag_seconds",
    "How long the first event that is not committed is known, in the partition that is furthest behind; 0 when all are in.",
    &["read_model"],
);
static EVENTS: Observed = Observed::counter(
    "showcaller_projection_events_total",
    "Events that were committed, those that change no row included.",
    &["read_model"],
);
static PARKED: Observed = Observed::gauge(
    "showcaller_projection_parked_streams",
    "Streams that wait behind an event that could not be projected.",
    &["read_model"],
);
static PARTITIONS: Observed = Observed::gauge(
    "showcaller_projection_partitions",
    "Partitions by what they are at: following, catching_up, retrying, stopped.",
    &["read_model", "state"],
);
static GENERATION: Observed = Observed::gauge(
    "showcaller_projection_generation",
    "The number of the generation that is fed.",
    &["read_model"],
);
static SUBSCRIBED: Observed = Observed::gauge(
    "showcaller_projection_subscribed_partitions",
    "Partitions whose queue this projector has subscribed to.",
    &[],
);

/// The metrics of a projector.
pub static METRICS: Metrics = &[
    &MESSAGES,
    &BATCH,
    &TOOK,
    &HEALED,
    &EVENTS,
    &LAG,
    &LAG_SECONDS,
    &PARKED,
    &PARTITIONS,
    &GENERATION,
    &SUBSCRIBED,
];

/// Notes how the read models stand.
pub fn observe(status: &Status, observations: &mut Observations) {
    for model in &status.read_models {
        let name = model.name.as_str();
        let parked: usize = model
            .partitions
            .iter()
            .map(|partition| partition.parked)
            .sum();
        let consumed = || {
            let pairs = model.partitions.iter().zip(&status.consuming);
            pairs.filter_map(|(partition, consumed)| consumed.then_some(partition))
        };
        let lag: u64 = consumed()
            .map(|p| p.head.get().saturating_sub(p.position.get()))
            .sum();
        let since = consumed().filter_map(|p| p.behind_since).min();
        let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let events: u64 = model.partitions.iter().map(|p| p.events).sum();
        observations.note(&LAG, &[name], lag as f64);
        observations.note(&LAG_SECONDS, &[name], seconds);
        observations.note(&EVENTS, &[name], events as f64);
        observations.note(&PARKED, &[name], parked as f64);
        observations.note(&GENERATION, &[name], f64::from(model.generation));
        for (state, is_in) in STATES {
            let count = model.partitions.iter().filter(|p| is_in(p)).count();
            observations.note(&PARTITIONS, &[name, state], count as f64);
        }
    }
    let subscribed = status.subscribed.iter().filter(|is| **is).count();
    observations.note(&SUBSCRIBED, &[], subscribed as f64);
}

type IsIn = fn(&PartitionStatus) -> bool;

/// What a partition can be at.
const STATES: [(&str, IsIn); 4] = [
    ("following", |p| p.state == State::Following),
    ("catching_up", |p| p.state == State::CatchingUp),
    ("retrying", |p| matches!(p.state, State::Retrying(_))),
    ("stopped", |p| matches!(p.state, State::Stopped(_))),
];
