//! The limit under a load that is known exactly: a machine with so many hands, on a clock of the test's own.

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;

static SHOWN: Gauge = Gauge::new("limit", "The limit.");
/// How long the machine works on one request.
const WORK: Duration = Duration::from_millis(4);
const HANDS: usize = 4;

struct Machine {
    admission: Arc<Admission>,
    hands: Arc<Semaphore>,
}

/// How long those took that were let in, and how many were not.
#[derive(Default)]
struct Outcome {
    took: Vec<Duration>,
    refused: usize,
}

impl Machine {
    fn new() -> Self {
        Self {
            admission: Admission::new(1_024, &SHOWN),
            hands: Arc::new(Semaphore::new(HANDS)),
        }
    }

    /// A request arrives every so often, so many times.
    async fn under(&self, every: Duration, times: usize) -> Outcome {
        let (mut running, mut outcome) = (JoinSet::new(), Outcome::default());
        for _ in 0..times {
            match self.admission.enter("/v1/things") {
                Some(admitted) => {
                    let hands = Arc::clone(&self.hands);
                    running.spawn(async move {
                        let began = Instant::now();
                        let work = async {
                            let _hand = hands.acquire().await.expect("it stays open");
                            sleep(WORK).await;
                        };
                        admitted.run(work).await;
                        began.elapsed()
                    });
                }
                None => outcome.refused += 1,
            }
            sleep(every).await;
        }
        outcome.took = running.join_all().await;
        outcome.took.sort();
        outcome
    }
}

impl Outcome {
    fn p99(&self) -> Duration {
        self.took[self.took.len() * 99 / 100]
    }
}

#[tokio::test(start_paused = true)]
async fn at_twice_what_can_be_carried_those_that_are_let_in_stay_quick_and_the_rest_are_refused() {
    let machine = Machine::new();
    // The machine carries one a millisecond.
    let calm = machine.under(Duration::from_millis(5), 1_000).await;
    assert_eq!(calm.refused, 0);
    let loaded = machine.under(Duration::from_micros(500), 40_000).await;
    assert!(
        loaded.p99() <= 5 * calm.p99(),
        "{:?} unloaded, {:?} loaded",
        calm.p99(),
        loaded.p99()
    );
    let carried = loaded.took.len();
    assert!(
        (18_000..=22_000).contains(&carried),
        "{carried} of 20,000 that could be carried"
    );
    // When it is over, nobody is refused any more.
    let calm = machine.under(Duration::from_millis(5), 200).await;
    assert_eq!(calm.refused, 0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_can_be_carried_is_let_in_whole() {
    let machine = Machine::new();
    assert_eq!(
        machine.under(Duration::from_millis(5), 1_000).await.refused,
        0
    );
    assert_eq!(machine.under(Duration::ZERO, FIRST / 2).await.refused, 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_elsewhere_takes_no_room_and_is_not_held_against_anybody() {
    let machine = Machine::new();
    machine.under(Duration::from_millis(5), 1_000).await;
    let mut waiting = JoinSet::new();
    for _ in 0..1_000 {
        let admitted = machine
            .admission
            .enter("/v1/log-ins")
            .expect("there is room");
        waiting.spawn(admitted.run(set_aside(sleep(Duration::from_mins(1)))));
        tokio::task::yield_now().await;
    }
    assert_eq!(
        machine.under(Duration::from_millis(2), 5_000).await.refused,
        0
    );
    waiting.join_all().await;
    assert_eq!(machine.admission.lock().active, 0);
    assert_eq!(
        machine.under(Duration::from_millis(2), 500).await.refused,
        0
    );
}
