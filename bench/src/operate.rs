//! What operators do, by the release binary's verbs: export, import, backup and restore of a log, each process timed as a
//! whole; and rebuilds while 500 commands a second come, each followed by a read with its token.
//!
//! Refuses: to go on after a read that fails, or that shows less than its token.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use test_support::{Finished, Launch, Showcaller, eventually};
use tokio::task::JoinSet;
use tokio::time::interval;
use uuid::Uuid;

use crate::account;
use crate::http::{Connection, authorised, command, stop};
use crate::load::scatter;
use crate::world::{ACCOUNTS, World};

/// Commands a second, and the clients that send them in turn.
const RATE: u32 = 500;
const CLIENTS: u32 = 32;
/// How long commands come before the first rebuild, and how long the last build may take.
const BEFORE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_mins(5);

/// Runs verbs on one log.
struct Operator<'w> {
    world: &'w World,
    events: String,
    database: String,
    broker: String,
}

/// What readers have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    reads: AtomicU64,
    longest_us: AtomicU64,
    /// Reads that were told to ask again, since the projection was not there within 2 s.
    again: AtomicU64,
}

pub async fn measure(world: &World) -> Result<()> {
    let rabbitmq = world
        .rabbitmq
        .as_ref()
        .context("RabbitMQ was not started")?;
    let operator = Operator {
        world,
        events: world.postgres.fresh_database().await,
        database: world.postgres.fresh_database().await,
        broker: rabbitmq.fresh_vhost().await,
    };
    let log = event_store::open(&operator.events, event_store::Options::default()).await?;
    account::fill(&log, &world.people, world.scale.events_an_account).await?;
    let events = log.head().await?.get();
    log.close().await;
    println!("\na log of {events} events on PostgreSQL");
    operator.carry(events).await?;
    operator.rebuild_under_load(events).await
}

impl Operator<'_> {
    /// Moves the log out and in, by itself and with the vault.
    async fn carry(&self, events: u64) -> Result<()> {
        let folder = self.world.folder.path();
        let (file, backup) = (folder.join("events.ndjson"), folder.join("backup"));
        let (file, backup) = (text(&file)?, text(&backup)?);
        let ledger = format!("sqlite:{}", folder.join("ledger.db").display());
        let (imported, restored) = (self.elsewhere().await, self.elsewhere().await);
        let vault = self.world.postgres.fresh_database().await;
        for (operator, arguments) in [
            (self, vec!["export", "--to", file]),
            (&imported, vec!["import", "--from", file]),
            (self, vec!["backup", "--to", backup]),
            (
                &restored,
                vec![
                    "restore",
                    "--from",
                    backup,
                    "--vault",
                    &vault,
                    "--erasure-ledger",
                    &ledger,
                ],
            ),
        ] {
            self.world.settle().await;
            let took = operator.verb(&arguments).await?;
            let rate = events as f64 / took.as_secs_f64();
            println!(
                "{}: {rate:.0} events/s ({:.1} s in all)",
                arguments[0],
                took.as_secs_f64()
            );
        }
        Ok(())
    }

    async fn rebuild_under_load(&self, events: u64) -> Result<()> {
        let command_api = self.role("command-api").await;
        let relay = self.role("relay").await;
        let projector = self.role("projector").await;
        let query_api = self.role("query-api").await;
        // The first builds are no rebuilds.
        self.until_up_to_date().await;
        let people = Arc::new(authorised(self.world, &self.world.people, &[]).await?);
        let seen = Arc::new(Seen::default());
        let began = Instant::now();
        let clients = load(command_api.port(), query_api.port(), &people, &seen).await?;
        tokio::time::sleep(BEFORE).await;
        let before = seen.longest_us.swap(0, Ordering::Relaxed);
        for arguments in [
            &["rebuild", "accounts", "--compare"][..],
            &["rollback", "accounts"],
            &["rebuild", "--all"],
        ] {
            let took = self.verb(arguments).await?;
            println!(
                "{}: {:.1} s; longest read meanwhile {} ms, {} told to ask again",
                arguments.join(" "),
                took.as_secs_f64(),
                seen.longest_us.swap(0, Ordering::Relaxed) / 1_000,
                seen.again.swap(0, Ordering::Relaxed)
            );
        }
        seen.over.store(true, Ordering::Relaxed);
        for client in clients.join_all().await {
            client?;
        }
        let reads = seen.reads.load(Ordering::Relaxed);
        println!(
            "{reads} commands, each read back with its token, {:.0}/s; none failed; longest read before the rebuilds {} ms",
            reads as f64 / began.elapsed().as_secs_f64(),
            before / 1_000
        );

        // Killed in the middle, it goes on where it was.
        self.verb(&["rebuild", "--all", "--detach"]).await?;
        self.until_under_way(true).await;
        projector.kill().await;
        let began = Instant::now();
        projector.restart().await;
        self.until_under_way(false).await;
        println!(
            "rebuild --all of {events} events and more, killed with SIGKILL in the middle: done {:.1} s after the restart",
            began.elapsed().as_secs_f64()
        );
        self.verb(&["verify"]).await?;
        for process in [query_api, projector, relay, command_api] {
            stop(process).await?;
        }
        Ok(())
    }

    /// The same, with an empty log.
    async fn elsewhere(&self) -> Self {
        Self {
            world: self.world,
            events: self.world.postgres.fresh_database().await,
            database: self.database.clone(),
            broker: self.broker.clone(),
        }
    }

    async fn role(&self, role: &str) -> Showcaller {
        let launch = Showcaller::launch(&self.world.showcaller).args(["--role", role]);
        self.settings(launch, &[]).start().await
    }

    /// Runs a verb to its end, which must be a good one.
    async fn verb(&self, arguments: &[&str]) -> Result<Duration> {
        let began = Instant::now();
        let done = self.finish(arguments).await;
        ensure!(
            done.status == 0,
            "{arguments:?}: {}{}",
            done.stdout,
            done.stderr
        );
        Ok(began.elapsed())
    }

    /// Waits until the relay has published the whole log, and every read model is at its head.
    async fn until_up_to_date(&self) {
        eventually(PATIENCE, || async {
            let told = self.finish(&["status", "--output", "json"]).await.stdout;
            let seen: Vec<serde_json::Value> = told
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            !seen.is_empty()
                && seen.iter().all(|one| match one["kind"].as_str() {
                    Some("read-model") => one["behind"] == 0,
                    Some("role") if one["name"] == "relay" => one["published"] == one["head"],
                    _ => true,
                })
        })
        .await;
    }

    /// Waits until read models are being built, or no longer are.
    async fn until_under_way(&self, is_so: bool) {
        eventually(PATIENCE, || async {
            let told = self.finish(&["rebuilds", "--output", "json"]).await.stdout;
            let under_way = ["waiting", "building", "comparing"]
                .iter()
                .any(|phase| told.contains(phase));
            !told.is_empty() && under_way == is_so
        })
        .await;
    }

    /// Runs a verb, however it ends.
    async fn finish(&self, arguments: &[&str]) -> Finished {
        let launch = Showcaller::launch(&self.world.showcaller).args(arguments);
        self.settings(launch, arguments).finish().await
    }

    /// With everything that the arguments do not name themselves.
    fn settings(&self, launch: Launch, arguments: &[&str]) -> Launch {
        let keys = self.world.keys_file();
        let mut launch = launch
            .args(["--events", &self.events, "--database", &self.database])
            .args(["--broker", &self.broker, "--keys", &keys.to_string_lossy()]);
        if !arguments.contains(&"--vault") {
            launch = launch.args(["--vault", &self.world.vault_url]);
        }
        launch
    }
}

/// Starts clients, which go on until it is over.
async fn load(
    commands: u16,
    queries: u16,
    people: &Arc<Vec<(Uuid, String)>>,
    seen: &Arc<Seen>,
) -> Result<JoinSet<Result<()>>> {
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS {
        let mut to_commands = Connection::open(commands).await?;
        let mut to_queries = Connection::open(queries).await?;
        let (people, seen) = (Arc::clone(people), Arc::clone(seen));
        clients.spawn(async move {
            let mut turns = interval(Duration::from_secs(1) * CLIENTS / RATE);
            for number in (u64::from(first)..).step_by(CLIENTS as usize) {
                turns.tick().await;
                if seen.over.load(Ordering::Relaxed) {
                    break;
                }
                let person = &people[scatter(number, ACCOUNTS)];
                to_commands.expect(&command(person, number), b"200").await?;
                let token = told(to_commands.answer(), "\"token\":\"")?;
                let version = told(to_commands.answer(), "\"version\":")?;
                let began = Instant::now();
                let read = format!(
                    "GET /v1/accounts/me HTTP/1.1\r\nHost: 127.0.0.1\r\n{}Showcaller-After: {token}\r\n\r\n",
                    person.1
                );
                while to_queries.ask(&read).await? == *b"503" {
                    seen.again.fetch_add(1, Ordering::Relaxed);
                }
                ensure!(
                    to_queries.answer().starts_with(b"HTTP/1.1 200"),
                    "a read failed: {}",
                    String::from_utf8_lossy(to_queries.answer())
                );
                let took = began.elapsed().as_micros() as u64;
                let row: u64 = told(to_queries.answer(), "\"version\":")?.parse()?;
                ensure!(row >= version.parse()?, "a read shows less than its token");
                seen.longest_us.fetch_max(took, Ordering::Relaxed);
                seen.reads.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    Ok(clients)
}

/// What an answer's JSON has after this, up to the value's end.
fn told(answer: &[u8], before: &str) -> Result<String> {
    let text = String::from_utf8_lossy(answer);
    let (_, after) = text
        .split_once(before)
        .with_context(|| format!("{before} is missing in {text}"))?;
    let end = after.find(['"', ',', '}']).unwrap_or(after.len());
    Ok(after[..end].to_owned())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a folder's name is text")
}
