//! What becomes of commands when twice as many come as the server can carry: how many are answered, how quickly, and how
//! many are told to come again. An open loop: requests come when they come, whatever became of those before them.
//!
//! Refuses: to call an answer fine that is neither 200, nor 503 with Retry-After.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use test_support::psql;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::account;
use crate::http::{Connection, authorised, command, command_api, stop};
use crate::load::{micros, scatter};
use crate::table::p99_ms;
use crate::world::{ACCOUNTS, World};

/// More than the server lets in at once.
const CONNECTIONS: usize = 384;
/// Enough to use the server fully.
const BUSY: usize = 256;
const TICK: Duration = Duration::from_millis(1);
const FULL_FOR: Duration = Duration::from_secs(10);
const CARRIED_FOR: Duration = Duration::from_secs(3);
const CALM_FOR: Duration = Duration::from_secs(6);
const OVERLOADED_FOR: Duration = Duration::from_secs(10);
/// Of what busy clients get, this part is no load to speak of.
const CALM: f64 = 0.1;
/// Parts of what these clients get at most: the last of which no more than one request in a thousand is refused is what is
/// carried.
const PARTS: [f64; 6] = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

type People = Arc<Vec<(Uuid, String)>>;

/// What became of requests.
#[derive(Default)]
struct Outcome {
    /// How long the accepted took, in microseconds.
    took: Vec<u32>,
    refused: usize,
    failed: usize,
}

pub async fn measure(world: &World) -> Result<()> {
    let events = world.postgres.fresh_database().await;
    let log = event_store::open(&events, event_store::Options::default()).await?;
    account::register(&log, &world.people).await?;
    log.close().await;
    let server = command_api(world, &events).await;
    let people: People = Arc::new(authorised(world, &world.people, &[]).await?);
    let (port, database) = (server.port(), world.postgres.url("postgres"));
    world.settle().await;
    let calls = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(run(port, people, database))
    });
    calls.await??;
    stop(server).await
}

async fn run(port: u16, people: People, database: String) -> Result<()> {
    let most = calls(port, &people, BUSY, f64::MAX, FULL_FOR, 1 << 32).await?;
    let most = most.took.len() as f64 / FULL_FOR.as_secs_f64();
    println!("\n{BUSY} clients, each one request at a time: {most:.0}/s");
    // As on a server that has run for a while: it takes its old files for what it writes ahead, and makes no new ones.
    psql(&database, "CHECKPOINT").await;
    let mut numbers = (2..).map(|turn| turn << 32);
    let mut at = async |rate: f64, time: Duration| {
        let numbers = numbers.next().context("there are enough")?;
        calls(port, &people, CONNECTIONS, rate, time, numbers).await
    };
    let calm = at(CALM * most, CALM_FOR).await?;
    calm.print("unloaded", CALM * most, CALM_FOR)?;
    let mut carried = CALM * most;
    for part in PARTS {
        let outcome = at(part * most, CARRIED_FOR).await?;
        outcome.print("how much is carried", part * most, CARRIED_FOR)?;
        let all = outcome.took.len() + outcome.refused + outcome.failed;
        let came = all as f64 >= 0.99 * part * most * CARRIED_FOR.as_secs_f64();
        if !came || outcome.failed > 0 || outcome.refused * 1_000 > all {
            break;
        }
        carried = part * most;
    }
    ensure!(carried > CALM * most, "not even the least part is carried");
    let loaded = at(2.0 * carried, OVERLOADED_FOR).await?;
    loaded.print("at twice what is carried", 2.0 * carried, OVERLOADED_FOR)
}

impl Outcome {
    fn print(&self, what: &str, rate: f64, time: Duration) -> Result<()> {
        ensure!(!self.took.is_empty(), "{what}: nothing was answered");
        let accepted = self.took.len();
        println!(
            "{what}: {rate:.0}/s meant, {:.0}/s sent, {accepted} accepted ({:.0}/s), {} refused with 503 and Retry-After, {} failed, p99 {:.1} ms",
            (accepted + self.refused + self.failed) as f64 / time.as_secs_f64(),
            accepted as f64 / time.as_secs_f64(),
            self.refused,
            self.failed,
            p99_ms(self.took.clone()).unwrap_or_default()
        );
        Ok(())
    }
}

/// Sends this many commands a second.
async fn calls(
    port: u16,
    people: &People,
    connections: usize,
    rate: f64,
    time: Duration,
    numbers: u64,
) -> Result<Outcome> {
    // A permit is a request that has come.
    let arrived = Arc::new(Semaphore::new(0));
    let mut running = JoinSet::new();
    for place in 0..connections {
        let mut connection = Connection::open(port).await?;
        let (arrived, people) = (Arc::clone(&arrived), Arc::clone(people));
        running.spawn(async move {
            let mut outcome = Outcome::default();
            let mine = (numbers + place as u64..).step_by(connections);
            for number in mine {
                let Ok(permit) = arrived.acquire().await else {
                    break;
                };
                permit.forget();
                let request = command(&people[scatter(number, ACCOUNTS)], number);
                let began = Instant::now();
                match &connection.ask(&request).await? {
                    b"200" => outcome.took.push(micros(began)),
                    b"503" if tells_when(connection.answer()) => outcome.refused += 1,
                    _ => outcome.failed += 1,
                }
            }
            anyhow::Ok(outcome)
        });
    }
    let (began, mut sent) = (Instant::now(), 0_usize);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < time {
        ticks.tick().await;
        let waiting = arrived.available_permits();
        // Without a rate, there is always another request.
        let due = (rate * began.elapsed().as_secs_f64())
            .min((sent + connections - waiting.min(connections)) as f64);
        let due = due as usize;
        arrived.add_permits(due.saturating_sub(sent));
        sent = sent.max(due);
    }
    arrived.close();
    let mut all = Outcome::default();
    for outcome in running.join_all().await {
        let outcome = outcome?;
        all.took.extend(outcome.took);
        all.refused += outcome.refused;
        all.failed += outcome.failed;
    }
    Ok(all)
}

fn tells_when(answer: &[u8]) -> bool {
    String::from_utf8_lossy(answer)
        .to_ascii_lowercase()
        .contains("\r\nretry-after: ")
}
