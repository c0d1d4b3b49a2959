//! One partition's consumer: takes messages in batches, brings them to every read model, acknowledges.
//!
//! Refuses: to rely on the queue. What it does not bring, or brings broken, is read from the log.

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, Delivery, Group, Subscription};
use events::{Partition, Position};
use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

use crate::columns::Columns;
use crate::context::Context;
use crate::healing::{flush, following, heal, sort_out};
use crate::lane::{Lane, Taken, take_together};
use crate::metrics;
use crate::options::{CHECKPOINT_PAUSE, LOG_PAUSE, LOOK_PAUSE, Pauses, SILENCE};
use crate::status::Status;
use crate::stretch::{Batch, Stretch};
use crate::traces::Projecting;

pub(crate) struct Consumer {
    pub(crate) context: Arc<Context>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) partition: Partition,
    pub(crate) columns: Arc<Columns>,
    pub(crate) status: watch::Sender<Status>,
}

impl Consumer {
    /// Until shutdown: subscribes, consumes, and does it again when the subscription breaks.
    pub(crate) async fn run(self) {
        while let Some(subscription) = self.subscribe().await {
            self.report(|status| &mut status.subscribed, true);
            self.report(|status| &mut status.consuming, false);
            let end = self.consume(subscription).await;
            flush(&self.context, &self.lanes()).await;
            self.report(|status| &mut status.subscribed, false);
            match end {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(partition = %self.partition, %error, "subscription lost");
                }
            }
        }
    }

    /// The lanes of the partition, one a generation.
    fn lanes(&self) -> Vec<Arc<Lane>> {
        self.columns.of(self.partition)
    }

    /// Subscribes, however long that takes; meanwhile the log brings what the queue can't. `None` at shutdown.
    async fn subscribe(&self) -> Option<Box<dyn Subscription>> {
        let connecting = self.connect();
        tokio::pin!(connecting);
        let mut silence = interval_at(Instant::now() + SILENCE, SILENCE);
        loop {
            tokio::select! {
                connected = &mut connecting => return connected,
                _ = silence.tick() => drop(heal(&self.context, &self.lanes(), Position::ZERO).await),
            }
        }
    }

    async fn connect(&self) -> Option<Box<dyn Subscription>> {
        let group = Group {
            name: self.context.options.group.clone(),
        };
        let (mut pauses, mut complaints) = (Pauses::new(), Complaints::default());
        loop {
            tokio::select! {
                () = self.context.shutdown.cancelled() => return None,
                connected = self.broker.subscribe(&group, self.partition) => match connected {
                    Ok(subscription) => return Some(subscription),
                    Err(error) if complaints.due() => {
                        tracing::warn!(partition = %self.partition, %error, "cannot subscribe; reading the log meanwhile");
                    }
                    Err(_) => {}
                },
            }
            if !self.context.pause(pauses.next()).await {
                return None;
            }
        }
    }

    /// Ok at shutdown.
    async fn consume(&self, mut subscription: Box<dyn Subscription>) -> Result<(), broker::Error> {
        let mut complaints = Complaints::default();
        let mut heard = Instant::now();
        // Another process is brought the messages, as far as is known.
        let mut stands_by = true;
        let (mut seen_head, mut looked) = (Position::ZERO, Instant::now());
        // When checkpoints that moved past events which change no row are due.
        let mut due: Option<Instant> = None;
        loop {
            let silent = heard + SILENCE;
            let looks = stands_by && self.context.is_side_by_side();
            let look = if looks { heard + LOOK_PAUSE } else { silent };
            let patience = due.map_or(look, |due| due.min(look)) - Instant::now();
            let deliveries = tokio::select! {
                () = self.context.shutdown.cancelled() => return Ok(()),
                deliveries = subscription.next_batch(self.context.options.batch, patience) => deliveries?,
            };
            if let Some(last) = deliveries.iter().map(|delivery| delivery.tag).max() {
                (heard, stands_by) = (Instant::now(), false);
                self.report(|status| &mut status.consuming, true);
                let Some(brought) = self.project(&deliveries, &mut complaints).await else {
                    return Ok(());
                };
                subscription.acknowledge(last).await?;
                // A relay may be far behind the log, as after a restore: what is new would come long after.
                let pause = match brought {
                    Brought::News => Duration::MAX,
                    Brought::OldNews => LOOK_PAUSE,
                    Brought::Nothing => SILENCE,
                };
                let looks = looked.elapsed() >= pause;
                if looks {
                    self.look(&mut seen_head, false).await;
                }
                if looks || brought == Brought::News {
                    looked = Instant::now();
                }
            } else if Instant::now() >= look {
                // Not even a heartbeat: the relay may be down, or another version is brought the messages.
                stands_by |= Instant::now() >= silent;
                heard = Instant::now();
                self.look(&mut seen_head, !looks).await;
            }
            if due.is_some_and(|due| Instant::now() >= due) {
                flush(&self.context, &self.lanes()).await;
                due = None;
            } else if due.is_none() && self.lanes().iter().any(|lane| lane.waits()) {
                due = Some(Instant::now() + CHECKPOINT_PAUSE);
            }
        }
    }

    /// Reads the log if it has gone on since the last look, or in any case.
    async fn look(&self, seen_head: &mut Position, in_any_case: bool) {
        let now = self.context.log.head().await.unwrap_or(*seen_head);
        let moved = now != *seen_head;
        if !moved && !in_any_case {
            return;
        }
        let _live = moved.then(|| self.context.yielding.live());
        heal(&self.context, &self.lanes(), Position::ZERO).await;
        // What went wrong is tried again with the next look.
        let lanes = following(&self.lanes());
        let places = join_all(lanes.iter().map(|lane| lane.locate())).await;
        if places
            .iter()
            .all(|place| place.as_ref().is_ok_and(|place| *place >= now))
        {
            *seen_head = now;
        }
    }

    /// Brings a batch to every lane. `None` when the projector is to stop before it was done.
    async fn project(
        &self,
        deliveries: &[Delivery],
        complaints: &mut Complaints,
    ) -> Option<Brought> {
        let (began, traces) = (
            Instant::now(),
            Projecting::begin(deliveries, self.partition),
        );
        let brought = self.take(deliveries, complaints).await;
        traces.end(brought.is_some());
        metrics::TOOK.took(began.elapsed());
        metrics::BATCH.size(deliveries.len());
        metrics::MESSAGES.add(deliveries.len() as u64);
        brought
    }

    async fn take(&self, deliveries: &[Delivery], complaints: &mut Complaints) -> Option<Brought> {
        let batch = Batch::read(deliveries, self.context.log.identity(), self.partition);
        let brought = self.judge(&batch);
        // A heartbeat alone is nothing that builds make way for.
        let _live = (brought == Brought::News).then(|| self.context.yielding.live());
        for lane in self.lanes() {
            lane.board.hear(batch.target());
        }
        let mut gap = false;
        if let Some((count, reason)) = &batch.unreadable {
            if complaints.due() {
                tracing::warn!(partition = %self.partition, count, reason, "messages that cannot be read; reading the log");
            }
            gap = true;
        }
        for Stretch { after, events } in &batch.stretches {
            let lanes = following(&self.lanes());
            let through = events.last().map_or(*after, |event| event.position);
            let store = &*self.context.store;
            let outcomes = take_together(store, &lanes, *after, through, events).await;
            if !sort_out(&lanes, &outcomes) {
                return None;
            }
            if outcomes.contains(&Taken::Behind) {
                gap = true;
                break;
            }
        }
        if let Some(beat) = &batch.heartbeat {
            for lane in following(&self.lanes()) {
                gap |= lane.compare(beat).await;
            }
        }
        if gap {
            metrics::HEALED.add(1);
        }
        let goes_on = !gap || heal(&self.context, &self.lanes(), batch.target()).await;
        goes_on.then_some(brought)
    }

    fn judge(&self, batch: &Batch) -> Brought {
        let lanes = following(&self.lanes());
        let reached = lanes.iter().map(|lane| lane.board.position());
        match reached.min() {
            Some(reached) if batch.target() > reached => Brought::News,
            Some(reached) if !batch.stretches.is_empty() && batch.target() < reached => {
                Brought::OldNews
            }
            _ => Brought::Nothing,
        }
    }

    /// Says of the partition that this is so.
    fn report(&self, of: impl FnOnce(&mut Status) -> &mut Vec<bool>, is: bool) {
        self.status.send_if_modified(|status| {
            let place = of(status).get_mut(usize::from(self.partition.0));
            place.is_some_and(|place| std::mem::replace(place, is) != is)
        });
    }
}

/// What a batch was.
#[derive(PartialEq, Eq)]
enum Brought {
    /// It tells of more than is in.
    News,
    /// All of its events are in, and more.
    OldNews,
    /// No more than is known, or nobody follows the queue.
    Nothing,
}

/// Keeps what happens often from filling the log.
#[derive(Default)]
struct Complaints(Option<Instant>);

impl Complaints {
    fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= LOG_PAUSE);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
