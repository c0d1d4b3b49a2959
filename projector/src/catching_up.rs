//! One read model's own task: reads the log in big pages for those of its lanes that are far behind (at start, after
//! faults, and when it is built), and swaps a build in when it has caught up.
//!
//! Refuses: to feed a generation that was swapped out; going back to it means building it up to the log's head first.

use std::sync::Arc;

use event_store::Filter;
use events::{Position, RecordedEvent, partition_of};
use futures::future::join_all;
use read_models::Generation;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::context::Context;
use crate::healing::heal;
use crate::lane::{Lane, Pace, Taken};
use crate::options::{LOG_PAUSE, PRUNE_PAUSE, Pauses, SWAP_PAUSE, WAITING_SLICES};
use crate::status::Status;

pub(crate) struct CatchingUp {
    pub(crate) context: Arc<Context>,
    pub(crate) generation: Arc<Generation>,
    /// One a partition, in order.
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) fell_behind: Arc<Notify>,
    /// The read model's index in the status.
    pub(crate) model: usize,
    pub(crate) live: bool,
    pub(crate) status: watch::Sender<Status>,
}

/// A part of a page: everything that one partition holds in it.
struct Slice {
    after: Position,
    through: Position,
    events: Vec<RecordedEvent>,
}

impl CatchingUp {
    /// Until shutdown.
    pub(crate) async fn run(mut self) {
        let mut pauses = Pauses::new();
        let mut pruned = Instant::now();
        while !self.context.shutdown.is_cancelled() {
            if pruned.elapsed() >= PRUNE_PAUSE {
                self.prune().await;
                pruned = Instant::now();
            }
            let behind: Vec<_> = self
                .lanes
                .iter()
                .filter(|lane| lane.is_catching_up())
                .cloned()
                .collect();
            if behind.is_empty() {
                pauses = Pauses::new();
                self.live = self.live || self.swap().await;
                let patience = if self.live { PRUNE_PAUSE } else { SWAP_PAUSE };
                self.wait(patience).await;
            } else if self.pass(&behind).await {
                for lane in &behind {
                    lane.follow();
                    // What the queue brought before this moment was not for this lane.
                    heal(&self.context, std::slice::from_ref(lane), Position::ZERO).await;
                }
            } else {
                self.context.pause(pauses.next()).await;
            }
        }
    }

    async fn wait(&self, patience: std::time::Duration) {
        tokio::select! {
            () = self.context.shutdown.cancelled() => {}
            () = self.fell_behind.notified() => {}
            () = tokio::time::sleep(patience) => {}
        }
    }

    /// What cannot be let go now, is next time.
    async fn prune(&self) {
        if let Err(error) = self.context.store.prune_changes(&self.generation).await {
            let model = &self.generation.model;
            tracing::warn!(model, %error, "the journal of changed rows could not be shortened");
        }
    }

    /// Reads from where the last of these lanes stands to the log's head, and brings it to all of them, each at its own
    /// speed. False when one of them lost its place: begin again.
    async fn pass(&self, lanes: &[Arc<Lane>]) -> bool {
        let places = join_all(lanes.iter().map(|lane| lane.locate())).await;
        if places
            .iter()
            .any(|place| matches!(place, Err(Taken::Failing | Taken::Shutdown)))
        {
            return false;
        }
        let Some(start) = places
            .iter()
            .filter_map(|place| place.as_ref().ok())
            .min()
            .copied()
        else {
            return true; // All have stopped.
        };
        let mut workers = JoinSet::new();
        let mut queues: Vec<Option<mpsc::Sender<Slice>>> =
            self.lanes.iter().map(|_| None).collect();
        for lane in lanes {
            let (sender, receiver) = mpsc::channel(WAITING_SLICES);
            queues[usize::from(lane.partition.0)] = Some(sender);
            workers.spawn(work(Arc::clone(lane), receiver));
        }
        let read = self.read(start, &queues).await;
        drop(queues);
        let mut done = read;
        while let Some(worker) = workers.join_next().await {
            match worker {
                Ok(taken) => done &= matches!(taken, Taken::Done | Taken::Stopped),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        done
    }

    /// Reads pages and gives each partition its slice, until the log's head is near. False when that could not be done.
    async fn read(&self, start: Position, queues: &[Option<mpsc::Sender<Slice>>]) -> bool {
        let limit = self.context.options.rebuilding_page;
        let mut progress = Progress::new(&self.lanes[0].model.name, start);
        let (everything, mut after, mut head) = (Filter::default(), start, None);
        loop {
            let read = async {
                if head.is_none() {
                    head = Some(self.context.log.head().await?);
                }
                self.context.log.read_all(after, &everything, limit).await
            };
            let page = tokio::select! {
                () = self.context.shutdown.cancelled() => return false,
                page = read => page,
            };
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "the log cannot be read; trying again");
                    return false;
                }
            };
            let (count, through) = (page.events.len(), page.through);
            if through <= after {
                return true;
            }
            let mut slices: Vec<Vec<RecordedEvent>> = queues.iter().map(|_| Vec::new()).collect();
            for event in page.events {
                let partition = partition_of(&event.stream, queues.len() as u16);
                slices[usize::from(partition.0)].push(event);
            }
            for (queue, events) in queues.iter().zip(slices) {
                let Some(queue) = queue else { continue };
                if queue
                    .send(Slice {
                        after,
                        through,
                        events,
                    })
                    .await
                    .is_err()
                {
                    return false;
                }
            }
            progress.count(count, through);
            after = through;
            if count < limit && head.is_some_and(|head| through >= head) {
                return true;
            }
        }
    }

    /// Makes the generation the one that readers see, if it is at or past the live one everywhere.
    async fn swap(&self) -> bool {
        if self.lanes.iter().any(|lane| lane.is_stopped()) {
            return false;
        }
        let (model, generation) = (&self.generation.model, self.generation.number);
        match self.context.store.swap(&self.generation).await {
            Ok(true) => {
                tracing::info!(
                    model,
                    generation,
                    "the new build is live; the old one is no longer fed"
                );
                self.status.send_modify(|status| {
                    if let Some(model) = status.read_models.get_mut(self.model) {
                        model.live = true;
                    }
                });
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(model, generation, %error, "the new build could not be made live; trying again");
                false
            }
        }
    }
}

/// Brings one lane its slices, then commits the rest.
async fn work(lane: Arc<Lane>, mut slices: mpsc::Receiver<Slice>) -> Taken {
    while let Some(Slice {
        after,
        through,
        events,
    }) = slices.recv().await
    {
        let taken = lane.take(after, through, &events, Pace::WhenFull).await;
        if taken == Taken::Stopped {
            // The others go on: keep taking slices off their hands.
            while slices.recv().await.is_some() {}
        }
        if taken != Taken::Done {
            return taken;
        }
    }
    lane.flush().await
}

/// Says now and then how far a long pass has come.
struct Progress<'a> {
    model: &'a str,
    start: Position,
    events: usize,
    began: Instant,
    said: Instant,
}

impl<'a> Progress<'a> {
    fn new(model: &'a str, start: Position) -> Self {
        let now = Instant::now();
        Self {
            model,
            start,
            events: 0,
            began: now,
            said: now,
        }
    }

    fn count(&mut self, events: usize, position: Position) {
        self.events += events;
        if self.said.elapsed() >= LOG_PAUSE {
            self.said = Instant::now();
            let rate = (self.events as f64 / self.began.elapsed().as_secs_f64()).round();
            let (model, start) = (self.model, self.start);
            tracing::info!(model, %start, %position, events = self.events, rate, "catching up");
        }
    }
}
