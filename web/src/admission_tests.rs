//! The limit under a load that is known exactly: a machine with so many hands, on a clock of the test's own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::sync::Notify;

use super::*;

/// How long the machine works on one request, and on how many at once: it carries one a millisecond.
const WORK: Duration = Duration::from_millis(4);
const HANDS: usize = 4;
const BOUNDS: (usize, usize) = (16, 1_024);

struct Machine {
    now: Instant,
    state: State,
    /// When each hand is free.
    hands: [Instant; HANDS],
    /// When those under way end, when they came, and whether it was calm.
    under_way: BinaryHeap<Reverse<(Instant, Instant, bool)>>,
}

/// How long those took that were let in, and how many were not.
#[derive(Default)]
struct Outcome {
    took: Vec<Duration>,
    refused: usize,
}

impl Machine {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            now,
            state: State::new(FIRST, now),
            hands: [now; HANDS],
            under_way: BinaryHeap::new(),
        }
    }

    /// A request comes every so often, so many times; then all end.
    fn under(&mut self, every: Duration, times: usize) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..times {
            self.end_those_due(self.now, &mut outcome);
            match self.state.enter() {
                Some(calm) => self.begin(calm),
                None => outcome.refused += 1,
            }
            self.now += every;
        }
        let last = self.hands.into_iter().max().unwrap_or(self.now);
        self.now = self.now.max(last);
        self.end_those_due(self.now, &mut outcome);
        outcome.took.sort();
        outcome
    }

    /// Nothing is worked on for so long.
    fn breathe(&mut self, time: Duration) {
        for hand in &mut self.hands {
            *hand = (*hand).max(self.now) + time;
        }
    }

    fn begin(&mut self, calm: bool) {
        let hand = self.hands.iter_mut().min().expect("it has hands");
        *hand = (*hand).max(self.now) + WORK;
        self.under_way.push(Reverse((*hand, self.now, calm)));
    }

    fn end_those_due(&mut self, now: Instant, outcome: &mut Outcome) {
        while let Some(Reverse((end, came, calm))) = self.under_way.peek().copied()
            && end <= now
        {
            self.under_way.pop();
            self.state
                .leave("/v1/things", end - came, calm, end, BOUNDS);
            outcome.took.push(end - came);
        }
    }
}

impl Outcome {
    fn p99(&self) -> Duration {
        self.took[self.took.len() * 99 / 100]
    }
}

#[test]
fn at_twice_what_can_be_carried_those_that_are_let_in_stay_quick_and_the_rest_are_refused() {
    let mut machine = Machine::new();
    let calm = machine.under(Duration::from_millis(5), 1_000);
    assert_eq!(calm.refused, 0);
    let loaded = machine.under(Duration::from_micros(500), 40_000);
    let (unloaded, busy) = (calm.p99(), loaded.p99());
    assert!(
        busy <= 5 * unloaded,
        "{unloaded:?} unloaded, {busy:?} loaded"
    );
    let carried = loaded.took.len();
    assert!(
        (19_000..=21_000).contains(&carried),
        "{carried} of the 20,000 that can be carried"
    );
    // When it is over, nobody is refused any more.
    assert_eq!(machine.under(Duration::from_millis(5), 200).refused, 0);
}

#[test]
fn a_burst_is_let_in_whole_after_a_calm_time_and_after_an_overload() {
    let mut machine = Machine::new();
    assert_eq!(machine.under(Duration::from_millis(5), 1_000).refused, 0);
    assert_eq!(machine.under(Duration::ZERO, FIRST / 2).refused, 0);
    machine.under(Duration::from_micros(500), 10_000);
    machine.under(Duration::from_millis(5), 1_000);
    assert_eq!(machine.under(Duration::ZERO, FIRST / 2).refused, 0);
}

#[test]
fn a_machine_that_takes_a_breath_refuses_nobody() {
    let mut machine = Machine::new();
    machine.under(Duration::from_millis(5), 1_000);
    for _ in 0..10 {
        machine.breathe(Duration::from_millis(30));
        assert_eq!(machine.under(Duration::from_millis(2), 400).refused, 0);
        assert_eq!(machine.state.limit, FIRST);
    }
}

#[test]
fn what_stands_in_line_for_the_cores_leaves_less_room() {
    let mut machine = Machine::new();
    machine.under(Duration::from_millis(5), 1_000);
    machine.under(Duration::from_micros(500), 4_000);
    assert!(machine.state.limit >= BOUNDS.0);
    machine.state.queueing = Duration::from_secs(1);
    machine.under(Duration::from_micros(500), 4_000);
    assert_eq!(machine.state.limit, BOUNDS.0.div_ceil(LESS));
    // A window that is still slow, though for another reason, makes no room.
    machine.state.queueing = Duration::ZERO;
    (machine.state.answers, machine.state.took) = (10, Duration::from_secs(1));
    machine.state.judge(WINDOW, machine.now, BOUNDS);
    assert_eq!(machine.state.limit, BOUNDS.0.div_ceil(LESS));
}

#[test]
fn before_anything_is_known_there_is_room_for_many() {
    assert_eq!(Machine::new().under(Duration::ZERO, FIRST).refused, 0);
}

#[tokio::test]
async fn what_waits_elsewhere_takes_no_room_and_is_not_held_against_anybody() {
    static SHOWN: Gauge = Gauge::new("limit", "The limit.");
    let admission = Admission::new(1, Arc::new(Queueing::new()), &SHOWN);
    let (waits, ends) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let admitted = admission.enter("/v1/log-ins").expect("there is room");
    assert!(admission.enter("/v1/log-ins").is_none(), "there is no more");
    let request = {
        let (waits, ends) = (Arc::clone(&waits), Arc::clone(&ends));
        admitted.run(async move {
            let waiting = async {
                waits.notify_one();
                ends.notified().await;
            };
            set_aside(waiting).await;
        })
    };
    let request = tokio::spawn(request);
    waits.notified().await;
    drop(
        admission
            .enter("/v1/things")
            .expect("there is room meanwhile"),
    );
    assert_eq!(admission.lock().answers, 1);
    ends.notify_one();
    request.await.expect("it ends");
    let state = admission.lock();
    assert_eq!((state.active, state.answers), (0, 2));
}
