//! Where operators' wishes about read models are given in: appended to the log, and waited for. Where no projector takes
//! them up, this process does the projector's work until they are done; fencing makes that safe beside others.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use broker::MemoryBroker;
use command_api::operation::{Command, ask};
use command_api::{Clock, SystemClock};
use event_store::EventStore;
use events::projection::CATEGORY;
use events::{Actor, StreamId, Version};
use projector::Projector;
use read_models::{Build, OperatedStore, ReadModel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::exit::refused;
use super::user::User;
use crate::config::Settings;
use crate::open;

/// How soon a running projector takes a wish up; later, this process does.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(5);
/// What is waited between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// The log and the database of read models, for operators.
pub struct Desk {
    pub log: Arc<dyn EventStore>,
    pub store: Arc<dyn OperatedStore>,
    verb: &'static str,
}

/// A wish that was given in.
pub struct Asked<'m> {
    pub model: &'m ReadModel,
    pub version: Version,
}

/// The projector's work in this process; ends with it.
struct Here {
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Here {
    fn drop(&mut self) {
        self.token.cancel();
        self.task.abort();
    }
}

impl Desk {
    /// Opens both; neither is made.
    pub async fn open(settings: &Settings, verb: &'static str) -> Result<Self> {
        open::events_to_read(settings).await?.close().await;
        Ok(Self {
            log: open::events(settings).await?,
            store: open::read_models(settings, false).await?,
            verb,
        })
    }

    /// Appends a wish.
    pub async fn ask<'m>(&self, model: &'m ReadModel, command: &Command) -> Result<Asked<'m>> {
        let stream = StreamId::new(CATEGORY, &model.name).context("a read model's name")?;
        // What was wished before a read model was made is not done; this one is.
        let before = self.log.stream_version(&stream).await?;
        let log = self.log.identity();
        self.store.acted(&model.name, log, before).await?;
        let actor = Actor::System(format!("{} by {}", self.verb, User::current()?));
        let now = SystemClock.now();
        let version = ask(&*self.log, &model.name, command, actor, now).await?;
        Ok(Asked { model, version })
    }

    /// The builds of a read model.
    pub async fn builds(&self, model: &ReadModel) -> Result<Vec<Build>> {
        let log = self.log.identity();
        Ok(self.store.builds(&model.name, log).await?)
    }

    /// Waits until `done` says so, which is asked again and again. Where no projector takes the wishes up, this process
    /// does.
    pub async fn wait(
        &self,
        asked: &[Asked<'_>],
        mut done: impl AsyncFnMut() -> Result<bool>,
    ) -> Result<()> {
        let (began, mut here) = (Instant::now(), None);
        loop {
            if self.taken_up(asked).await? && done().await? {
                break;
            }
            if here.is_none() && began.elapsed() >= TAKEN_UP_WITHIN && !self.taken_up(asked).await?
            {
                eprintln!("no projector took it up within 5 s: this process does its work");
                here = Some(self.project(asked).await?);
            }
            sleep(LOOK).await;
        }
        if let Some(here) = here {
            here.token.cancel();
        }
        Ok(())
    }

    async fn taken_up(&self, asked: &[Asked<'_>]) -> Result<bool> {
        let log = self.log.identity();
        for Asked { model, version } in asked {
            if self.store.acted(&model.name, log, Version::ZERO).await? < *version {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Projects these read models here.
    async fn project(&self, asked: &[Asked<'_>]) -> Result<Here> {
        let mut models = Vec::new();
        for Asked { model, .. } in asked {
            let builds = self.builds(model).await?;
            let live = builds.iter().find(|build| build.live);
            // This process would build its own definition, and make it live: a deployment nobody asked for.
            if live.is_some_and(|live| live.generation.definition_hash != model.definition_hash()) {
                return Err(refused(format!(
                    "the live build of {0} is of another definition of it, and no projector runs that has it: start one, or \
                     do this with the version of showcaller that has it",
                    model.name
                )));
            }
            if !models
                .iter()
                .any(|known: &ReadModel| known.name == model.name)
            {
                models.push((*model).clone());
            }
        }
        let token = CancellationToken::new();
        let projector = Projector::operated(
            Arc::clone(&self.log),
            Arc::new(MemoryBroker::new()),
            Arc::clone(&self.store),
            models,
            projector::Options::default(),
        );
        let run = projector.run(token.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = run.await {
                eprintln!("{error}");
            }
        });
        Ok(Here { token, task })
    }

    /// Ends what was opened.
    pub async fn close(self) {
        self.log.close().await;
    }
}

/// The read models that are built from the log: not what the projector writes about itself.
pub fn built(models: &[ReadModel]) -> impl Iterator<Item = &ReadModel> {
    models.iter().filter(|model| !model.observed)
}

/// The read models of these names; none that there is not.
pub fn named<'m>(models: &'m [ReadModel], names: &[String]) -> Result<Vec<&'m ReadModel>> {
    let find = |name: &String| {
        let found = built(models).find(|model| model.name == *name);
        found.ok_or_else(|| {
            let known: Vec<&str> = built(models).map(|model| model.name.as_str()).collect();
            refused(format!(
                "there is no read model {name:?}; there are: {}",
                known.join(", ")
            ))
        })
    };
    names.iter().map(find).collect()
}
