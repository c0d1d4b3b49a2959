//! What operators do, by the release binary's verbs: export, import, backup and restore of a log, each process timed as a
//! whole; and rebuilds while 500 commands a second come, each followed by a read with its token.
//!
//! Refuses: to count a verb that ends badly.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use test_support::{Finished, Launch, Showcaller, eventually};

use crate::account;
use crate::http::{authorised, stop};
use crate::steady::Load;
use crate::world::World;

/// How long commands come before the first rebuild, and how long the last build may take.
const BEFORE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_mins(5);

/// Runs verbs on one log.
struct Operator<'w> {
    world: &'w World,
    events: String,
    database: String,
    broker: String,
}

/// Times the verbs that carry a log.
pub async fn carry(world: &World) -> Result<()> {
    let (operator, events) = prepare(world).await?;
    operator.carry(events).await
}

/// Rebuilds while commands come.
pub async fn rebuild(world: &World) -> Result<()> {
    let (operator, events) = prepare(world).await?;
    operator.rebuild_under_load(events).await
}

/// A log, and how many events it holds.
async fn prepare(world: &World) -> Result<(Operator<'_>, u64)> {
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
    Ok((operator, events))
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
        let load = Load::start(command_api.port(), query_api.port(), people).await?;
        tokio::time::sleep(BEFORE).await;
        load.tell("nothing beside");
        for arguments in [
            &["rebuild", "accounts", "--compare"][..],
            &["rollback", "accounts"],
            &["rebuild", "--all"],
        ] {
            self.verb(arguments).await?;
            load.tell(&arguments.join(" "));
        }
        load.stop().await?;

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

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a folder's name is text")
}
