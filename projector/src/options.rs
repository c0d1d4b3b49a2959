//! The projector's settings and bounds.

use std::time::Duration;

/// How often a fault is tried again in place before the partition is handed to the read model's own task, which tries for
/// ever; so one broken table does not hold up the other read models.
pub(crate) const TRIES_IN_PLACE: u32 = 5;
/// The first pause after a fault; doubled by each further one.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause after a fault.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a subscription may be silent, heartbeats included, before the log is looked at; and how often the log is
/// looked at while the broker is down.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);
/// How often the log's head is looked at by a process that is brought nothing while another version runs beside it, or nothing
/// that it does not have.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked at whether another version runs beside this one.
pub(crate) const RIVAL_PAUSE: Duration = Duration::from_secs(1);
/// How long a checkpoint may wait whose events changed no row: readers that name such an event wait for it that long, and
/// a read model that few events concern costs little.
pub(crate) const CHECKPOINT_PAUSE: Duration = Duration::from_millis(25);
/// How many pages a partition heals in place before it counts as far behind.
pub(crate) const HEALING_PAGES: usize = 5;
/// How many slices of pages may wait for one partition while a read model catches up.
pub(crate) const WAITING_SLICES: usize = 2;
/// How many events, and changed rows, a partition takes in before it commits while it catches up.
pub(crate) const EVENTS_A_COMMIT: usize = 20_000;
pub(crate) const ROWS_A_COMMIT: usize = 5_000;
/// Builds make way for live batches for so long after the last one, and before each step for so many times as long as the
/// last steps took at most, and no longer than this.
pub(crate) const LIVE_LATELY: Duration = Duration::from_secs(1);
pub(crate) const YIELDED_STEPS: u32 = 3;
pub(crate) const LONGEST_YIELD: Duration = Duration::from_secs(1);
/// How often a build that is caught up is offered for the swap, while the live one is ahead.
pub(crate) const SWAP_PAUSE: Duration = Duration::from_secs(1);
/// How often a keeper looks at its read model when it hears of nothing, and when something waits for it.
pub(crate) const KEEPER_PAUSE: Duration = Duration::from_secs(10);
pub(crate) const SOON: Duration = Duration::from_millis(200);
/// How long the log is waited on for what operators ask, and what is waited between two looks.
pub(crate) const WISHES_PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const WISHES_GAP: Duration = Duration::from_millis(200);
/// How often a build's progress is written down.
pub(crate) const NOTE_PAUSE: Duration = Duration::from_secs(1);
/// Rows compared at once.
pub(crate) const COMPARED_ROWS: u32 = 5_000;
/// How long two builds may stand at different events before they are compared later, and what is waited between looks.
pub(crate) const COMPARE_PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const COMPARE_PAUSE: Duration = Duration::from_millis(5);
/// How often what the journal of a read model need not hold any longer is let go.
pub(crate) const PRUNE_PAUSE: Duration = Duration::from_mins(5);
/// Rows that are due and removed at once: a commit of more leaves no entry in the journal.
pub(crate) const ROWS_LET_GO: u32 = 500;
/// How often progress, and the same complaint of one place, is logged at most.
pub(crate) const LOG_PAUSE: Duration = Duration::from_secs(10);
/// The longest stored reason of a parked stream, in characters.
pub(crate) const REASON_CHARS: usize = 500;

/// Settings of a projector. Defaults suit production.
#[derive(Debug, Clone)]
pub struct Options {
    /// The consumer group, which names the queues.
    pub group: String,
    /// Messages a batch at most.
    pub batch: usize,
    /// Events a page, when a partition heals from the log.
    pub healing_page: usize,
    /// Events a page, when a read model is built or far behind.
    pub rebuilding_page: usize,
    /// Rows remembered for each read model and partition.
    pub cached_rows: usize,
    /// How often rows are looked for that are due, and how long they wait for events to go with.
    pub expiry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            group: "projector".into(),
            batch: 500,
            healing_page: 1_000,
            rebuilding_page: 5_000,
            cached_rows: 4_096,
            expiry: Duration::from_mins(1),
        }
    }
}

/// Bounded, doubling pauses.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut pauses = Pauses::new();
        let first: Vec<u128> = (0..9).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(first, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
