//! The keeper of one read model: does what operators ask for, feeds every generation of its definition that is there, and
//! says which of them the status speaks of.
//!
//! Refuses: to feed a definition that this process does not have.

use std::sync::Arc;
use std::time::Duration;

use events::{LogIdentity, Partition, Version};
use read_models::{Acted, Build, Error, Generation, OperatedStore, ReadModel, Wish};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::catching_up::CatchingUp;
use crate::columns::Columns;
use crate::context::Context;
use crate::lane::Lane;
use crate::options::{KEEPER_PAUSE, Pauses, RIVAL_PAUSE, SOON};
use crate::rivals::Rivals;
use crate::status::{Board, Status};
use crate::wishes::{Book, Discards};

pub(crate) struct Keeper {
    pub(crate) context: Arc<Context>,
    pub(crate) columns: Arc<Columns>,
    pub(crate) model: Arc<ReadModel>,
    /// The generation that was found or made at start.
    pub(crate) prepared: Generation,
    /// The read model's index in the status.
    pub(crate) index: usize,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) book: watch::Receiver<Book>,
    pub(crate) feeds: Feeds,
}

/// What a keeper feeds.
#[derive(Default)]
pub(crate) struct Feeds {
    list: Vec<Feed>,
    tasks: JoinSet<()>,
    /// A build has taken the place of another, or was refused.
    arrived: Arc<Notify>,
    /// Up to where the book was read, and what could not be done yet.
    read: Option<Version>,
    pending: Vec<(Version, Wish)>,
    rivals: Rivals,
}

/// One generation that is fed.
struct Feed {
    generation: Arc<Generation>,
    lanes: Vec<Arc<Lane>>,
    stop: CancellationToken,
}

impl Keeper {
    /// Until shutdown.
    pub(crate) async fn run(mut self) {
        let mut pauses = Pauses::new();
        while !self.context.shutdown.is_cancelled() {
            let patience = match self.tend().await {
                Ok(patience) => {
                    pauses = Pauses::new();
                    patience
                }
                Err(error) => {
                    tracing::warn!(model = self.model.name, %error, "a read model cannot be looked after; trying again");
                    pauses.next()
                }
            };
            let arrived = Arc::clone(&self.feeds.arrived);
            tokio::select! {
                () = self.context.shutdown.cancelled() => {}
                Ok(()) = self.book.changed() => {}
                () = arrived.notified() => {}
                Some(ended) = self.feeds.tasks.join_next() => ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
                () = tokio::time::sleep(patience) => {}
            }
        }
        while let Some(ended) = self.feeds.tasks.join_next().await {
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
    }

    /// Looks after everything once; says when to do it again at the latest.
    async fn tend(&mut self) -> Result<Duration, Error> {
        let log = self.context.log.identity();
        let Some(operated) = self.context.operated.clone() else {
            let live = self.context.store.live(&self.model.name).await?;
            let is_live = live.as_ref() == Some(&self.prepared);
            self.arrange(vec![Build {
                generation: self.prepared.clone(),
                live: is_live,
                serves: is_live,
                kept: false,
                asked: Version::ZERO,
                compare: false,
                refused: false,
            }]);
            return Ok(KEEPER_PAUSE);
        };
        self.act(&*operated, log).await?;
        let builds = operated.builds(&self.model.name, log).await?;
        let definition = &self.prepared.definition_hash;
        let rivals = self.feeds.rivals.look(&self.context, definition, &builds);
        let may_have_rivals = rivals.await?;
        self.arrange(builds);
        let retried = self.retry(&*operated).await?;
        Ok(match () {
            () if !retried || !self.feeds.pending.is_empty() => SOON,
            () if may_have_rivals => RIVAL_PAUSE,
            () => KEEPER_PAUSE,
        })
    }

    /// Does what was asked for and is not done.
    async fn act(&mut self, operated: &dyn OperatedStore, log: LogIdentity) -> Result<(), Error> {
        let (version, name) = (self.book.borrow_and_update().version, &self.model.name);
        let read = match self.feeds.read {
            Some(read) => read,
            None => operated.acted(name, log, version).await?,
        };
        let new = self.book.borrow().after(read);
        self.feeds.pending.extend(new);
        self.feeds.read = Some(version.max(read));
        let mut left = Vec::new();
        let pending = std::mem::take(&mut self.feeds.pending);
        let mut pending = pending.into_iter();
        while let Some((version, wish)) = pending.next() {
            match operated.act(&self.model, log, version, &wish).await {
                Ok(Acted::Done) => {
                    tracing::info!(model = name, %version, ?wish, "done for an operator");
                }
                Ok(Acted::NotMine | Acted::NotYet) => left.push((version, wish)),
                Err(error) => {
                    left.push((version, wish));
                    left.extend(pending);
                    self.feeds.pending = left;
                    return Err(error);
                }
            }
        }
        self.feeds.pending = left;
        Ok(())
    }

    /// Feeds what is there of this definition, and nothing else.
    fn arrange(&mut self, builds: Vec<Build>) {
        let definition = &self.prepared.definition_hash;
        let own: Vec<Build> = builds
            .into_iter()
            .filter(|build| build.generation.definition_hash == *definition && !build.refused)
            .collect();
        let is_there = |feed: &Feed| own.iter().any(|build| build.generation == *feed.generation);
        for feed in self.feeds.list.extract_if(.., |feed| !is_there(feed)) {
            feed.stop.cancel();
            feed.lanes.iter().for_each(|lane| lane.retire());
            self.columns.remove(&feed.generation);
        }
        for build in &own {
            let fed = |feed: &Feed| *feed.generation == build.generation;
            if !self.feeds.list.iter().any(fed) {
                self.start(build);
            }
        }
        let shown = own.iter().find(|build| build.serves).or(own.last());
        if let Some(build) = shown {
            self.show(build);
        }
    }

    fn start(&mut self, build: &Build) {
        let generation = Arc::new(build.generation.clone());
        let fell_behind = Arc::new(Notify::new());
        let lane = |partition: u16| {
            Arc::new(Lane::new(
                Arc::clone(&self.context),
                Arc::clone(&self.model),
                Arc::clone(&generation),
                Partition(partition),
                Board::new(
                    self.status.clone(),
                    self.index,
                    build.generation.number,
                    usize::from(partition),
                ),
                Arc::clone(&fell_behind),
                Discards(Some(self.book.clone())),
            ))
        };
        let lanes: Vec<_> = (0..self.context.log.identity().partitions)
            .map(lane)
            .collect();
        self.columns.add(&lanes);
        let stop = self.context.shutdown.child_token();
        let catching_up = CatchingUp::new(
            self.context.until(stop.clone()),
            build,
            lanes.clone(),
            fell_behind,
            Arc::clone(&self.feeds.arrived),
        );
        self.feeds.tasks.spawn(catching_up.run());
        self.feeds.list.push(Feed {
            generation,
            lanes,
            stop,
        });
    }

    /// The status speaks of this one.
    fn show(&self, build: &Build) {
        let feed = self
            .feeds
            .list
            .iter()
            .find(|feed| *feed.generation == build.generation);
        let lanes = feed.map(|feed| feed.lanes.as_slice()).unwrap_or_default();
        self.status.send_if_modified(|status| {
            let Some(model) = status.read_models.get_mut(self.index) else {
                return false;
            };
            let live = build.live || build.serves;
            let changes = model.live != live || model.generation != build.generation.number;
            if model.generation != build.generation.number {
                model.partitions = lanes.iter().map(|lane| lane.board.latest()).collect();
            }
            model.generation = build.generation.number;
            model.live = live;
            changes
        });
    }

    /// Tries parked streams again. False when that has to be done once more.
    async fn retry(&self, operated: &dyn OperatedStore) -> Result<bool, Error> {
        let mut done = true;
        for feed in &self.feeds.list {
            let mut streams = operated.to_retry(&feed.generation).await?;
            let parked = operated.parked(&feed.generation).await?;
            streams.extend(parked.into_iter().filter(|parked| {
                // Parked by a process that had not heard of it.
                self.book.borrow().may_leave_out(parked.position)
            }));
            for parked in streams {
                let lane = &feed.lanes[usize::from(parked.partition.0)];
                done &= lane.retry(&parked.stream).await.is_settled();
            }
        }
        Ok(done)
    }
}
