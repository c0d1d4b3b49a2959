//! A rolling restart: two processes of each role, each stopped and started again in turn, while clients that try again send
//! commands and read what they wrote.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::{Postgres, RabbitMq};
use tokio::task::JoinSet;

use crate::client::{Client, ME};
use crate::load::Crowd;
use crate::world::{Cluster, Settings};

const PEOPLE: usize = 4;
/// How long a client goes on trying one request.
const INSIST: Duration = Duration::from_secs(15);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// What happened to the requests.
#[derive(Default)]
struct Tally {
    tries_again: AtomicUsize,
    failed: AtomicUsize,
}

/// Two routes to the same system; whoever gets no answer, or is told to try again, tries the other.
struct Router {
    clients: [Client; 2],
    tally: Tally,
}

impl Router {
    /// Sends until it is answered, and tells whether it was.
    async fn insist<A: Future<Output = Option<u16>>>(
        &self,
        first: usize,
        send: impl Fn(Client) -> A,
    ) {
        let deadline = Instant::now() + INSIST;
        for attempt in first.. {
            match send(self.clients[attempt % 2].clone()).await {
                Some(200) => return,
                Some(503 | 409) | None if Instant::now() < deadline => {
                    self.tally.tries_again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                other => {
                    println!("answered {other:?}");
                    self.tally.failed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_every_role_fails_no_request_of_a_client_that_tries_again() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let (one, two) = tokio::join!(Cluster::start(&settings), Cluster::start(&settings));
    let crowd = Crowd::gather(&one.client(), PEOPLE, "rolling").await;
    let router = Arc::new(Router {
        clients: [one.client(), two.client()],
        tally: Tally::default(),
    });
    let over = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for person in 0..PEOPLE {
        let (crowd, router, over) = (Arc::clone(&crowd), Arc::clone(&router), Arc::clone(&over));
        load.spawn(async move {
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                took.extend(write_and_read(&crowd, &router, person).await);
            }
            took
        });
    }
    for ((role, first), (_, second)) in one.processes().into_iter().zip(two.processes()) {
        for process in [first, second] {
            let before = crowd.acknowledged();
            let began = Instant::now();
            assert_eq!(process.terminate().await, 0, "{role}: {}", process.logs());
            let stopped = began.elapsed();
            process.restart().await;
            println!(
                "{role}: stopped in {stopped:?}, back after {:?}, {} commands meanwhile",
                began.elapsed(),
                crowd.acknowledged() - before
            );
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut took: Vec<Duration> = load.join_all().await.into_iter().flatten().collect();
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    let Tally {
        tries_again,
        failed,
    } = &router.tally;
    let (tries_again, failed) = (
        tries_again.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
    );
    println!(
        "{} requests, {failed} failed, {tries_again} tried again, p99 {p99:?}, longest {:?}",
        took.len(),
        took.last().expect("requests")
    );
    assert_eq!(failed, 0);
    crowd.assert_in_log_once(&settings.events).await;
    settings.verify().await;
}

/// A command, and the row that it changed; how long each took.
async fn write_and_read(crowd: &Crowd, router: &Router, person: usize) -> [Duration; 2] {
    let (marked, began) = (crowd.next(person), Instant::now());
    let send = async |client: Client| {
        let answer = crowd.attempt(&client, &marked).await.ok()?;
        Some(answer.status)
    };
    router.insist(person, send).await;
    let written = began.elapsed();
    let began = Instant::now();
    let someone = &crowd.people()[person];
    let token = crowd.tokens().remove(&someone.account).unwrap_or_default();
    let read = async |client: Client| {
        let request = client.get(ME).bearer(&someone.access).after(&token);
        let answer = request.attempt().await.ok()?;
        let is_there = answer.body["locale"].as_str().map(str::len);
        assert!(
            answer.status != 200 || is_there == Some(11),
            "{}",
            Value::to_string(&answer.body)
        );
        Some(answer.status)
    };
    router.insist(person, read).await;
    [written, began.elapsed()]
}
