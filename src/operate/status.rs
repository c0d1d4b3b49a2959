//! `showcaller status`: how everything stands, as far as it can be seen from here. Two looks, a second apart, show which
//! way it goes. It refuses to fail because something is down: it says so.

use std::time::Duration;

use anyhow::Result;
use broker::{Broker, Group, LEASE};
use event_store::EventStore;
use events::Partition;
use futures::future::join;
use read_models::{ReadModel, ReadStore};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::exit::Exit;
use super::health;
use super::lag::{Look, Window};
use super::out::Out;
use crate::config::Settings;
use crate::open;

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The time between the two looks.
const APART: Duration = Duration::from_secs(1);

/// By column: which key of an object it shows, and its head.
type Columns = &'static [(&'static str, &'static str)];

/// What is seen of everything, by kind.
#[derive(Default)]
struct Seen {
    dependencies: Vec<Value>,
    roles: Vec<Value>,
    read_models: Vec<Value>,
    queues: Vec<Value>,
    /// Something cannot be reached.
    down: bool,
    /// Something is not as it should be.
    wrong: bool,
}

/// Looks and prints.
pub async fn show(settings: &Settings, models: &[ReadModel]) -> Result<Exit> {
    let settings = Settings {
        patience: PATIENCE,
        ..settings.clone()
    };
    let mut seen = Seen::default();
    let (log, database) = Box::pin(join(
        open::events_to_read(&settings),
        open::read_models(&settings, true),
    ))
    .await;
    let log = seen.dependency("event store", &settings.events.to_string(), log);
    if let Some(log) = &log {
        seen.latency(timed(log.head()).await);
    }
    let mut database = seen.dependency("read models", &settings.database.to_string(), database);
    if let Some(store) = &database
        && !seen.latency(timed(store.check()).await)
    {
        // Asking it for each read model would only take long.
        database = None;
    }
    look_at_vault(&settings, &mut seen).await;
    let broker = look_at_broker(&settings, &mut seen).await;
    look_at_server(&settings, &mut seen).await;
    if let Some(log) = &log {
        let looks = two_looks(
            &**log,
            database.as_deref().map(|store| store as &dyn ReadStore),
            models,
        )
        .await;
        match looks {
            Ok((first, second)) => {
                relay(&**log, &second, &mut seen).await;
                let window = Window::read(&**log, &first, &second).await?;
                read_models(&first, &second, &window, &mut seen);
            }
            Err(error) => seen.lost("event store", &error),
        }
        if let Some(broker) = &broker {
            queues(&**broker, log.identity().partitions, &mut seen).await;
        }
        log.close().await;
    }
    if let Some(broker) = broker {
        broker.close().await;
    }
    seen.print(&settings)
}

async fn two_looks(
    log: &dyn EventStore,
    database: Option<&dyn ReadStore>,
    models: &[ReadModel],
) -> Result<(Look, Look)> {
    let first = Look::at(log, database, models).await?;
    tokio::time::sleep(APART).await;
    Ok((first, Look::at(log, database, models).await?))
}

async fn look_at_vault(settings: &Settings, seen: &mut Seen) {
    let url = settings.vault.to_string();
    let missing = settings
        .vault
        .sqlite_path()
        .is_some_and(|path| !path.exists());
    if missing || !settings.keys.exists() {
        let what = if missing {
            "it is not made yet"
        } else {
            "not looked at: there is no keys file here"
        };
        seen.dependencies.push(
            json!({"kind": "dependency", "name": "vault", "url": url, "up": null, "problem": what}),
        );
        return;
    }
    let opened = async {
        let keys = open::keys(settings)?;
        open::vault(settings, &keys).await
    };
    if let Some(vault) = seen.dependency("vault", &url, opened.await) {
        seen.latency(timed(vault.check()).await);
    }
}

async fn look_at_broker(
    settings: &Settings,
    seen: &mut Seen,
) -> Option<std::sync::Arc<dyn Broker>> {
    let url = settings.broker.to_string();
    if url.starts_with("memory") {
        let what = "within the server's process: its queues cannot be seen from here";
        seen.dependencies.push(json!({"kind": "dependency", "name": "broker", "url": url, "up": null, "problem": what}));
        return None;
    }
    let opened = broker::open(settings.broker.as_str()).await;
    let broker = seen.dependency("broker", &url, opened.map_err(Into::into))?;
    seen.latency(timed(broker.check()).await).then_some(broker)
}

async fn look_at_server(settings: &Settings, seen: &mut Seen) {
    let state = match health::ready(settings).await {
        Ok(true) => "ready".to_owned(),
        Ok(false) => {
            seen.wrong = true;
            "not ready: see `showcaller health`".to_owned()
        }
        Err(error) => format!("no answer ({error})"),
    };
    seen.roles.push(json!({
        "kind": "role", "name": "server at --listen", "where": settings.listen.to_string(), "state": state,
    }));
}

async fn relay(log: &dyn EventStore, look: &Look, seen: &mut Seen) {
    let (holder, state) = match log.lease(LEASE).await {
        Ok(Some(held)) if held.remaining_ms.is_none_or(|left| left > 0) => {
            (held.holder.to_string(), "leads".to_owned())
        }
        Ok(Some(held)) => {
            seen.wrong = true;
            (
                held.holder.to_string(),
                "its lease has run out: no relay runs".to_owned(),
            )
        }
        Ok(None) => (String::new(), "no relay runs".to_owned()),
        Err(error) => (String::new(), error.to_string()),
    };
    let published = look.relay.as_ref().map(|relay| relay.position);
    seen.roles.push(json!({
        "kind": "role", "name": "relay", "where": holder, "state": state, "published": published, "head": look.head,
    }));
}

fn read_models(first: &Look, second: &Look, window: &Window, seen: &mut Seen) {
    for (before, now) in first.models.iter().zip(&second.models) {
        let mut object = json!({
            "kind": "read-model", "name": now.name, "generation": now.generation, "parked": now.parked,
        });
        if let Some(problem) = &now.problem {
            object["state"] = problem.clone().into();
            seen.wrong = true;
            seen.read_models.push(object);
            continue;
        }
        let (behind, was) = (window.behind(second, now), window.behind(first, before));
        let fewer = was.events.saturating_sub(behind.events);
        object["behind"] = behind.events.into();
        object["exact"] = behind.exact.into();
        object["events_per_second"] = now.taken_since(before).into();
        object["state"] = if behind.events == 0 {
            "up to date"
        } else if fewer > 0 {
            "catching up"
        } else if behind.events > was.events {
            "falling behind"
        } else {
            "standing still"
        }
        .into();
        if behind.events > 0 && fewer > 0 {
            object["seconds_left"] = behind.events.div_ceil(fewer).into();
        }
        seen.read_models.push(object);
    }
}

async fn queues(broker: &dyn Broker, partitions: u16, seen: &mut Seen) {
    let Ok(group) = Group::new(&projector::Options::default().group) else {
        return;
    };
    for partition in (0..partitions).map(Partition) {
        let object = match broker.depth(&group, partition).await {
            Ok(Some(depth)) => json!({
                "kind": "queue", "partition": partition, "messages": depth.messages, "projectors": depth.consumers,
            }),
            Ok(None) => {
                json!({"kind": "queue", "partition": partition, "messages": null, "projectors": 0})
            }
            Err(error) => return seen.lost("broker", &error.into()),
        };
        seen.queues.push(object);
    }
}

async fn timed<T, E: std::fmt::Display>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<f64, String> {
    let began = Instant::now();
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(_)) => Ok((began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

impl Seen {
    fn dependency<T>(&mut self, name: &str, url: &str, opened: Result<T>) -> Option<T> {
        let problem = opened.as_ref().err().map(|error| format!("{error:#}"));
        self.down |= problem.is_some();
        self.dependencies.push(json!({
            "kind": "dependency", "name": name, "url": url, "up": problem.is_none(), "problem": problem,
        }));
        opened.ok()
    }

    /// How long the dependency that was entered last took to answer; whether it did.
    fn latency(&mut self, answer: Result<f64, String>) -> bool {
        let Some(object) = self.dependencies.last_mut() else {
            return false;
        };
        match answer {
            Ok(ms) => {
                object["latency_ms"] = ms.into();
                true
            }
            Err(problem) => {
                (object["up"], object["problem"]) = (false.into(), problem.into());
                self.down = true;
                false
            }
        }
    }

    fn lost(&mut self, name: &str, error: &anyhow::Error) {
        self.down = true;
        for object in &mut self.dependencies {
            if object["name"] == name {
                (object["up"], object["problem"]) = (false.into(), format!("{error:#}").into());
            }
        }
    }

    fn print(self, settings: &Settings) -> Result<Exit> {
        let mut out = Out::new(settings.output);
        let tables: [(Columns, Vec<Value>); 4] = [
            (
                &[
                    ("name", "dependency"),
                    ("up", "up"),
                    ("latency_ms", "ms"),
                    ("url", "where"),
                    ("problem", "problem"),
                ],
                self.dependencies,
            ),
            (
                &[
                    ("name", "role"),
                    ("state", "state"),
                    ("where", "where"),
                    ("published", "published"),
                    ("head", "log head"),
                ],
                self.roles,
            ),
            (
                &[
                    ("name", "read model"),
                    ("generation", "generation"),
                    ("state", "state"),
                    ("behind", "behind"),
                    ("events_per_second", "events/s"),
                    ("seconds_left", "s left"),
                    ("parked", "parked"),
                ],
                self.read_models,
            ),
            (
                &[
                    ("partition", "queue"),
                    ("messages", "messages"),
                    ("projectors", "projectors"),
                ],
                self.queues,
            ),
        ];
        let mut first = true;
        for (columns, objects) in tables.iter().filter(|(_, objects)| !objects.is_empty()) {
            if !first {
                out.gap()?;
            }
            first = false;
            out.table(columns, objects)?;
        }
        out.finish()?;
        Ok(match (self.down, self.wrong) {
            (true, _) => Exit::Unavailable,
            (false, true) => Exit::Wrong,
            (false, false) => Exit::Done,
        })
    }
}
