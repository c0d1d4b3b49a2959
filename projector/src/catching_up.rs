//! One generation's own task: reads the log in big pages for those of its lanes that are far behind (at start, after
//! faults, and when it is built), and brings a build to its readers when it has caught up.
//!
//! Refuses: to take another's place while it is behind it, or different where that matters.

use std::sync::Arc;
use std::time::Duration;

use event_store::Filter;
use events::{Position, RecordedEvent, Version, partition_of};
use futures::future::join_all;
use read_models::{Build, Error, Phase, Progress};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::comparing::{self, Verdict};
use crate::context::Context;
use crate::healing::heal;
use crate::lane::{Lane, Pace, Taken};
use crate::options::{PRUNE_PAUSE, Pauses, SWAP_PAUSE, WAITING_SLICES};
use crate::pace::Meter;

pub(crate) struct CatchingUp {
    context: Arc<Context>,
    build: Build,
    /// One a partition, in order.
    lanes: Vec<Arc<Lane>>,
    fell_behind: Arc<Notify>,
    /// Readers see it.
    serves: bool,
    /// It was compared, if that was asked for.
    compared: bool,
    /// Tells that it has come to readers, or never will.
    arrived: Arc<Notify>,
    meter: Meter,
}

/// A part of a page: everything that one partition holds in it.
struct Slice {
    after: Position,
    through: Position,
    events: Vec<RecordedEvent>,
}

impl CatchingUp {
    pub(crate) fn new(
        context: Arc<Context>,
        build: &Build,
        lanes: Vec<Arc<Lane>>,
        fell_behind: Arc<Notify>,
        arrived: Arc<Notify>,
    ) -> Self {
        let meter = Meter::new(&build.generation.model);
        Self {
            context,
            build: build.clone(),
            lanes,
            fell_behind,
            // One that was live before is kept up with the log for going back to it.
            serves: build.serves || build.kept,
            compared: !build.compare,
            arrived,
            meter,
        }
    }

    /// Until shutdown, or until the generation is gone.
    pub(crate) async fn run(mut self) {
        let mut pauses = Pauses::new();
        let mut pruned = Instant::now();
        let mut expiry = Instant::now();
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
                if Instant::now() >= expiry {
                    expiry = Instant::now() + self.expire().await;
                }
                self.serves = self.serves || self.arrive().await;
                let patience = if self.serves { PRUNE_PAUSE } else { SWAP_PAUSE };
                self.wait(patience.min(expiry - Instant::now())).await;
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

    async fn wait(&self, patience: Duration) {
        tokio::select! {
            () = self.context.shutdown.cancelled() => {}
            () = self.fell_behind.notified() => {}
            () = tokio::time::sleep(patience) => {}
        }
    }

    /// Lets rows go that are due; says when to do it again.
    async fn expire(&self) -> Duration {
        if self.lanes[0].model.retention.is_none() {
            return PRUNE_PAUSE;
        }
        let more = join_all(self.lanes.iter().map(|lane| lane.expire())).await;
        if more.contains(&true) {
            Duration::ZERO
        } else {
            self.context.options.expiry
        }
    }

    /// What cannot be let go now, is next time.
    async fn prune(&self) {
        let generation = &self.build.generation;
        if let Err(error) = self.context.store.prune_changes(generation).await {
            let model = &generation.model;
            tracing::warn!(model, %error, "the journal of changed rows could not be shortened");
        }
    }

    /// Reads from where the last of these lanes stands to the log's head, and brings it to all of them, each at its own
    /// speed. False when one of them lost its place: begin again.
    async fn pass(&mut self, lanes: &[Arc<Lane>]) -> bool {
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
            workers.spawn(work(Arc::clone(lane), receiver, self.serves));
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
    async fn read(&mut self, start: Position, queues: &[Option<mpsc::Sender<Slice>>]) -> bool {
        let limit = self.context.options.rebuilding_page;
        self.meter.start(start);
        let (everything, mut after, mut head) = (Filter::default(), start, None);
        loop {
            let read = async {
                let _turn = self.context.yielding.turn(self.serves).await;
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
            self.meter.count(count, through, head.unwrap_or(through));
            self.note_now_and_then().await;
            after = through;
            if count < limit && head.is_some_and(|head| through >= head) {
                return true;
            }
        }
    }

    /// Brings a build that has caught up to its readers. False: not yet, or never.
    async fn arrive(&mut self) -> bool {
        if self.lanes.iter().any(|lane| lane.is_stopped()) {
            return false;
        }
        let (model, number) = (
            self.build.generation.model.clone(),
            self.build.generation.number,
        );
        let arrived = async {
            if !self.compared && !self.compare().await? {
                return Ok(false);
            }
            // Another process may bring the other table its messages sooner than this one hears of them.
            let healing = self
                .lanes
                .iter()
                .map(|lane| heal(&self.context, std::slice::from_ref(lane), Position::ZERO));
            join_all(healing).await;
            self.context.store.swap(&self.build.generation).await
        };
        match arrived.await {
            Ok(true) => {
                tracing::info!(model, generation = number, "readers see this build");
                self.note(Phase::Live, None).await;
                self.arrived.notify_one();
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(model, generation = number, %error, "the new build could not be made live; trying again");
                false
            }
        }
    }

    /// Compares it with what readers see. True when they are the same, or there is nothing to compare with.
    async fn compare(&mut self) -> Result<bool, Error> {
        let Some(store) = self.context.operated.clone() else {
            return Ok(true);
        };
        let model = Arc::clone(&self.lanes[0].model);
        let builds = store
            .builds(&model.name, self.context.log.identity())
            .await?;
        let definition = &self.build.generation.definition_hash;
        let serving = builds
            .iter()
            .find(|build| build.serves && build.generation.definition_hash == *definition);
        let Some(serving) = serving else {
            return Ok(true);
        };
        self.note(Phase::Comparing, None).await;
        match comparing::compare(&self.context, &*store, &model, serving, &self.build).await? {
            Verdict::Same(rows) => {
                tracing::info!(
                    model = model.name,
                    rows,
                    "the new build has the rows of the live one"
                );
                self.compared = true;
                Ok(true)
            }
            Verdict::Different(detail) => {
                tracing::error!(
                    model = model.name,
                    detail,
                    "the new build is different, and not made live"
                );
                self.note(Phase::Different, Some(detail)).await;
                self.arrived.notify_one();
                Ok(false)
            }
            Verdict::NotYet => Ok(false),
        }
    }

    async fn note_now_and_then(&mut self) {
        if !self.serves && self.meter.is_due() {
            self.note(Phase::Building, None).await;
        }
    }

    /// Writes progress down for other processes. What cannot be written now, is next time.
    async fn note(&mut self, phase: Phase, detail: Option<String>) {
        let is_told = self.build.asked > Version::ZERO || self.meter.was_due();
        let Some(store) = self.context.operated.as_ref().filter(|_| is_told) else {
            return;
        };
        let progress = Progress {
            detail,
            ..self.meter.progress(phase)
        };
        if let Err(error) = store.note(&self.build.generation, &progress).await {
            let model = &self.build.generation.model;
            tracing::warn!(model, %error, "a build's progress could not be written down");
        }
    }
}

/// Brings one lane its slices, then commits the rest.
async fn work(lane: Arc<Lane>, mut slices: mpsc::Receiver<Slice>, serves: bool) -> Taken {
    let yielding = &lane.context.yielding;
    while let Some(Slice {
        after,
        through,
        events,
    }) = slices.recv().await
    {
        let turn = if events.is_empty() {
            None
        } else {
            Some(yielding.turn(serves).await)
        };
        let taken = lane.take(after, through, &events, Pace::WhenFull).await;
        drop(turn);
        if taken == Taken::Stopped {
            // The others go on: keep taking slices off their hands.
            while slices.recv().await.is_some() {}
        }
        if taken != Taken::Done {
            return taken;
        }
    }
    let _turn = yielding.turn(serves).await;
    lane.flush().await
}
