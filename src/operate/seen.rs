//! How everything stands, as far as it can be seen from here. Two looks at the read models, a second apart, show which way it
//! goes. It refuses to fail because something is down: it says so. And to show a password: URLs show themselves without.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use broker::{Broker, Group, LEASE};
use event_store::EventStore;
use events::Partition;
use futures::future::join;
use query_api::Overview;
use read_models::{ReadModel, ReadStore};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::health;
use super::lag::{Look, Window};
use crate::config::Settings;
use crate::open;
use crate::secret_url::Url;

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The time between the two looks.
const APART: Duration = Duration::from_secs(1);

/// What is seen of everything, by kind: objects whose `kind` says so.
#[derive(Default)]
pub struct Seen {
    pub dependencies: Vec<Value>,
    pub roles: Vec<Value>,
    pub read_models: Vec<Value>,
    pub queues: Vec<Value>,
    /// Something cannot be reached.
    pub down: bool,
    /// Something is not as it should be.
    pub wrong: bool,
}

/// What the query API tells operators, as far as this process has settings for it.
pub fn overview(settings: &Settings, models: &[ReadModel]) -> Overview {
    let (settings, models) = (Arc::new(settings.clone()), Arc::<[ReadModel]>::from(models));
    Overview::new(move || {
        let (settings, models) = (Arc::clone(&settings), Arc::clone(&models));
        Box::pin(async move { look(&settings, &models).await.objects() })
    })
}

/// Looks at everything.
pub async fn look(settings: &Settings, models: &[ReadModel]) -> Seen {
    let settings = Settings {
        patience: PATIENCE,
        ..settings.clone()
    };
    let mut seen = Seen::default();
    let (vault, (broker, mut of_broker), server, stores) = Box::pin(async {
        tokio::join!(
            look_at_vault(&settings),
            look_at_broker(&settings),
            look_at_server(&settings),
            join(
                open::events_to_read(&settings),
                open::read_models(&settings, true),
            ),
        )
    })
    .await;
    let (log, database) = stores;
    let log = seen.store("event store", &settings.events, log);
    if let Some(log) = &log {
        seen.latency(timed(log.head()).await);
    }
    let mut database = seen.store("read models", &settings.database, database);
    if let Some(store) = &database
        && !seen.latency(timed(store.check()).await)
    {
        // Asking it for each read model would only take long.
        database = None;
    }
    if let Some(log) = &log {
        let database = database.as_deref().map(|store| store as &dyn ReadStore);
        if let Err(error) = follow(&**log, database, models, &mut seen).await {
            seen.lost("event store", &error);
        }
        if let Some(broker) = &broker {
            queues(&**broker, log.identity().partitions, &mut of_broker).await;
        }
        log.close().await;
    }
    if let Some(broker) = broker {
        broker.close().await;
    }
    seen.add(vault).add(of_broker).add(server)
}

/// How the relay and the read models follow the log.
async fn follow(
    log: &dyn EventStore,
    database: Option<&dyn ReadStore>,
    models: &[ReadModel],
    seen: &mut Seen,
) -> Result<()> {
    let (first, second) = two_looks(log, database, models).await?;
    relay(log, &second, seen).await;
    let window = Window::read(log, &first, &second).await?;
    read_models(&first, &second, &window, seen);
    Ok(())
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

async fn look_at_vault(settings: &Settings) -> Seen {
    let mut seen = Seen::default();
    if seen.is_elsewhere("vault", &settings.vault) {
        return seen;
    }
    if !settings.keys.exists() {
        let problem = "not looked at: there is no keys file here";
        seen.unknown("vault", &settings.vault, problem);
        return seen;
    }
    let opened = async {
        let keys = open::keys(settings)?;
        open::vault(settings, &keys).await
    };
    if let Some(vault) = seen.store("vault", &settings.vault, opened.await) {
        seen.latency(timed(vault.check()).await);
    }
    seen
}

async fn look_at_broker(settings: &Settings) -> (Option<Arc<dyn Broker>>, Seen) {
    let mut seen = Seen::default();
    let url = &settings.broker;
    if url.as_str().starts_with("memory") {
        let problem = "within the server's process: its queues cannot be seen from here";
        seen.unknown("broker", url, problem);
        return (None, seen);
    }
    let opened = broker::open(url.as_str()).await;
    let Some(broker) = seen.store("broker", url, opened.map_err(Into::into)) else {
        return (None, seen);
    };
    let answers = seen.latency(timed(broker.check()).await);
    (answers.then_some(broker), seen)
}

async fn look_at_server(settings: &Settings) -> Seen {
    let mut seen = Seen::default();
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
    seen
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
    /// Everything, the one kind after the other.
    pub fn objects(self) -> Vec<Value> {
        [self.dependencies, self.roles, self.read_models, self.queues].concat()
    }

    fn add(mut self, other: Self) -> Self {
        self.dependencies.extend(other.dependencies);
        self.roles.extend(other.roles);
        self.read_models.extend(other.read_models);
        self.queues.extend(other.queues);
        self.down |= other.down;
        self.wrong |= other.wrong;
        self
    }

    fn unknown(&mut self, name: &str, url: &Url, problem: &str) {
        self.dependencies.push(json!({
            "kind": "dependency", "name": name, "url": url.to_string(), "up": null, "problem": problem,
        }));
    }

    /// Whether it is a file that is not here; then that is entered.
    fn is_elsewhere(&mut self, name: &str, url: &Url) -> bool {
        let is_elsewhere = url.sqlite_path().is_some_and(|path| !path.exists());
        if is_elsewhere {
            let problem =
                "not known here: this file is not there, and nothing else is set for this process";
            self.unknown(name, url, problem);
        }
        is_elsewhere
    }

    /// What was opened, or why not.
    fn store<T>(&mut self, name: &str, url: &Url, opened: Result<T>) -> Option<T> {
        if self.is_elsewhere(name, url) {
            self.wrong = true;
            return None;
        }
        let problem = opened.as_ref().err().map(|error| format!("{error:#}"));
        self.down |= problem.is_some();
        self.dependencies.push(json!({
            "kind": "dependency", "name": name, "url": url.to_string(), "up": problem.is_none(), "problem": problem,
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
}
