//! What the projector tells of itself: written once a batch, and read from its status when somebody asks.

use instruments::metrics::{Counter, Histogram, LATENCIES, Metrics, Observations, Observed, SIZES};

use crate::status::{PartitionStatus, ReadModelStatus, State, Status};

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

static MIRROR_UP: Observed = Observed::gauge(
    "showcaller_mirror_up",
    "1 while the mirror is written to; 0 while it cannot be reached, or is not what it must be.",
    &["mirror"],
);
static MIRROR_LAG: Observed = Observed::gauge(
    "showcaller_mirror_lag",
    "Positions between the last event that is known of and the last that is committed to the mirror, over the partitions \
     that this projector consumes.",
    &["mirror", "read_model"],
);
static MIRROR_LAG_SECONDS: Observed = Observed::gauge(
    "showcaller_mirror_lag_seconds",
    "How long the first event that is not committed to the mirror is known, in the partition that is furthest behind.",
    &["mirror", "read_model"],
);
static MIRROR_PARKED: Observed = Observed::gauge(
    "showcaller_mirror_parked_streams",
    "Streams that wait behind an event that could not be written to the mirror.",
    &["mirror", "read_model"],
);
static MIRROR_STOPPED: Observed = Observed::gauge(
    "showcaller_mirror_stopped_partitions",
    "Partitions of the mirror that stand still until an operator has done what the log says.",
    &["mirror", "read_model"],
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
    &MIRROR_UP,
    &MIRROR_LAG,
    &MIRROR_LAG_SECONDS,
    &MIRROR_PARKED,
    &MIRROR_STOPPED,
];

/// Notes how the read models stand.
pub fn observe(status: &Status, observations: &mut Observations) {
    for model in &status.read_models {
        let (name, sums) = (model.name.as_str(), Sums::of(model, status));
        let events: u64 = model.partitions.iter().map(|p| p.events).sum();
        observations.note(&LAG, &[name], sums.lag);
        observations.note(&LAG_SECONDS, &[name], sums.lag_seconds);
        observations.note(&EVENTS, &[name], events as f64);
        observations.note(&PARKED, &[name], sums.parked);
        observations.note(&GENERATION, &[name], f64::from(model.generation));
        for (state, is_in) in STATES {
            observations.note(&PARTITIONS, &[name, state], count(model, is_in));
        }
    }
    let subscribed = status.subscribed.iter().filter(|is| **is).count();
    observations.note(&SUBSCRIBED, &[], subscribed as f64);
}

/// Notes how a mirror stands; without a status it is not written to.
pub fn observe_mirror(mirror: &str, status: Option<&Status>, observations: &mut Observations) {
    let up = f64::from(u8::from(status.is_some()));
    observations.note(&MIRROR_UP, &[mirror], up);
    let Some(status) = status else { return };
    for model in &status.read_models {
        let (place, sums) = ([mirror, model.name.as_str()], Sums::of(model, status));
        observations.note(&MIRROR_LAG, &place, sums.lag);
        observations.note(&MIRROR_LAG_SECONDS, &place, sums.lag_seconds);
        observations.note(&MIRROR_PARKED, &place, sums.parked);
        observations.note(&MIRROR_STOPPED, &place, count(model, is_stopped));
    }
}

/// What a read model's partitions come to.
struct Sums {
    lag: f64,
    lag_seconds: f64,
    parked: f64,
}

impl Sums {
    /// How far behind it is, over those that are consumed here.
    fn of(model: &ReadModelStatus, status: &Status) -> Self {
        let consumed = || {
            let pairs = model.partitions.iter().zip(&status.consuming);
            pairs.filter_map(|(partition, consumed)| consumed.then_some(partition))
        };
        let behind = |p: &PartitionStatus| p.head.get().saturating_sub(p.position.get());
        let since = consumed().filter_map(|p| p.behind_since).min();
        let parked: usize = model.partitions.iter().map(|p| p.parked).sum();
        Self {
            lag: consumed().map(behind).sum::<u64>() as f64,
            lag_seconds: since.map_or(0.0, |since| since.elapsed().as_secs_f64()),
            parked: parked as f64,
        }
    }
}

fn count(model: &ReadModelStatus, is_in: IsIn) -> f64 {
    model.partitions.iter().filter(|p| is_in(p)).count() as f64
}

type IsIn = fn(&PartitionStatus) -> bool;

/// What a partition can be at.
const STATES: [(&str, IsIn); 4] = [
    ("following", |p| p.state == State::Following),
    ("catching_up", |p| p.state == State::CatchingUp),
    ("retrying", |p| matches!(p.state, State::Retrying(_))),
    ("stopped", is_stopped),
];

fn is_stopped(partition: &PartitionStatus) -> bool {
    matches!(partition.state, State::Stopped(_))
}
