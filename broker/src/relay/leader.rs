//! The relay that leads: reads ahead, publishes, and moves its checkpoint past what is confirmed. It refuses to move it
//! any further, and to store it under a lease that is not its own any more.

use std::fmt;

use event_store::{Error as StoreError, Fence, Fenced, Filter, RelayCheckpoint};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::page::{Outgoing, heartbeats};
use super::traces::Publishing;
use super::{LEASE, Relay, STORE_TIMEOUT};
use crate::metrics;
use crate::port::{Error as BrokerError, Publisher};

/// Why a relay no longer leads.
#[derive(Debug)]
pub(super) enum Ended {
    Shutdown,
    /// Another instance holds the lease, or may.
    Deposed,
    Fault(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("it is shut down"),
            Self::Deposed => f.write_str("another instance may hold the lease"),
            Self::Fault(fault) => f.write_str(fault),
        }
    }
}

/// What ends a run of publishing: the first two are got over with a new publisher after a pause.
enum Interrupted {
    Store(StoreError),
    Broker(BrokerError),
    Deposed,
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<BrokerError> for Interrupted {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl From<Fenced> for Interrupted {
    fn from(fenced: Fenced) -> Self {
        match fenced {
            Fenced::Lost => Self::Deposed,
            Fenced::Fault(error) => Self::Store(error),
        }
    }
}

/// The state of leading.
pub(super) struct Leader<'a> {
    relay: &'a Relay,
    fence: Fence,
    /// Everything up to here is confirmed by the broker.
    confirmed: RelayCheckpoint,
    saved: RelayCheckpoint,
    saved_at: Instant,
    heartbeat_at: Option<Instant>,
    backoff: Backoff,
}

impl<'a> Leader<'a> {
    /// Loads the checkpoint; one that says nothing of this log is replaced by its start.
    pub(super) async fn load(relay: &'a Relay, fence: Fence) -> Result<Self, Ended> {
        let loaded = async {
            let stored = relay.store.load_relay_checkpoint().await?;
            Ok::<_, StoreError>((stored, relay.store.head().await?))
        };
        let (stored, head) = match timeout(STORE_TIMEOUT, loaded).await {
            Ok(loaded) => loaded.map_err(|error| Ended::Fault(error.to_string()))?,
            Err(_) => return Err(Ended::Fault("the event store did not answer".into())),
        };
        let start = RelayCheckpoint::start(relay.store.identity());
        let confirmed = match stored {
            None => start,
            Some(stored)
                if stored.log == start.log
                    && stored.partitions.len() == start.partitions.len()
                    && stored.position <= head =>
            {
                stored
            }
            Some(other) => {
                tracing::error!(
                    stored_log = %other.log.log, stored_epoch = %other.log.epoch, stored_position = %other.position,
                    log = %start.log.log, epoch = %start.log.epoch, %head,
                    "the relay's checkpoint is not of this log, or beyond its head: every event is published again"
                );
                start
            }
        };
        relay
            .status
            .send_modify(|status| status.position = confirmed.position);
        Ok(Self {
            relay,
            fence,
            saved: confirmed.clone(),
            confirmed,
            saved_at: Instant::now(),
            heartbeat_at: None,
            backoff: Backoff::new(&relay.options),
        })
    }

    /// Publishes whatever the log holds and will hold, over all faults.
    pub(super) async fn publish_until_deposed(&mut self) -> Ended {
        loop {
            let fault = match self.publish_until_interrupted().await {
                Interrupted::Deposed => return Ended::Deposed,
                Interrupted::Store(error) => error.to_string(),
                Interrupted::Broker(error) => error.to_string(),
            };
            self.relay.note(&fault);
            sleep(self.backoff.next_pause()).await;
        }
    }

    /// With one publisher, from the last confirmed position on.
    async fn publish_until_interrupted(&mut self) -> Interrupted {
        let mut publisher = match self.relay.broker.publisher().await {
            Ok(publisher) => publisher,
            Err(error) => return error.into(),
        };
        let mut next = self.read(self.confirmed.clone()).await;
        loop {
            let step = match next {
                Ok(outgoing) if outgoing.batch.is_empty() => {
                    self.idle(publisher.as_mut(), outgoing).await
                }
                Ok(outgoing) => self.publish(publisher.as_mut(), outgoing).await,
                Err(error) => return error.into(),
            };
            match step {
                Ok(read_ahead) => next = read_ahead,
                Err(interrupted) => return interrupted,
            }
        }
    }

    /// Publishes a page, while the next is read and the checkpoint before it is saved; returns the next.
    async fn publish(
        &mut self,
        publisher: &mut dyn Publisher,
        outgoing: Outgoing,
    ) -> Result<Result<Outgoing, StoreError>, Interrupted> {
        let Outgoing { mut batch, after } = outgoing;
        let events = batch.len();
        let traces = Publishing::begin(&mut batch);
        let sent_at = Instant::now();
        let heartbeat = self
            .heartbeat_at
            .is_none_or(|at| sent_at - at >= self.relay.options.busy_heartbeat);
        if heartbeat {
            batch.extend(heartbeats(&after));
        }
        let messages = batch.len();
        metrics::BATCH.size(messages);
        metrics::UNCONFIRMED.set(messages as i64);
        let saving = self.saved_at.elapsed() >= self.relay.options.save_interval;
        let to_save = self.confirmed.clone();
        let save = async {
            if saving && to_save != self.saved {
                self.store_checkpoint(&to_save).await.map(|()| true)
            } else {
                Ok(false)
            }
        };
        let publish = async {
            let sent = publisher.publish(batch).await;
            metrics::PUBLISH.took(sent_at.elapsed());
            metrics::UNCONFIRMED.set(0);
            traces.end(sent.is_ok());
            sent
        };
        let (sent, read_ahead, saved) = tokio::join!(publish, self.read(after.clone()), save);
        sent?;
        metrics::PUBLISHED.add(events as u64);
        if heartbeat {
            self.heartbeat_at = Some(sent_at);
        }
        self.confirm(after);
        if saved? {
            self.saved = to_save;
            self.saved_at = Instant::now();
        }
        Ok(read_ahead)
    }

    /// At the end of the log: saves, sends heartbeats, and waits for more; returns what there is then.
    async fn idle(
        &mut self,
        publisher: &mut dyn Publisher,
        outgoing: Outgoing,
    ) -> Result<Result<Outgoing, StoreError>, Interrupted> {
        let interval = self.relay.options.idle_heartbeat;
        self.confirmed = outgoing.after;
        // Rarely, since the next events may be there already, and must not wait for it.
        let save_due = |leader: &Self| {
            let interval = leader.relay.options.save_interval;
            (leader.confirmed != leader.saved)
                .then(|| interval.saturating_sub(leader.saved_at.elapsed()))
        };
        if save_due(self).is_some_and(|due| due.is_zero()) {
            self.save().await?;
        }
        if self.heartbeat_at.is_none_or(|at| at.elapsed() >= interval) {
            self.heartbeat_at = Some(Instant::now());
            publisher
                .publish(heartbeats(&self.confirmed).collect())
                .await?;
            self.confirm(self.confirmed.clone());
        }
        let patience = self
            .heartbeat_at
            .map_or(interval, |at| interval.saturating_sub(at.elapsed()));
        let patience = save_due(self).map_or(patience, |due| due.min(patience));
        let wait = self
            .relay
            .store
            .wait_beyond(self.confirmed.position, patience);
        // A store that waits longer than it was asked to must not keep heartbeats back.
        let _ = timeout(patience, wait).await;
        Ok(self.read(self.confirmed.clone()).await)
    }

    fn confirm(&mut self, confirmed: RelayCheckpoint) {
        self.confirmed = confirmed;
        self.backoff.reset();
        let position = self.confirmed.position;
        self.relay.status.send_if_modified(|status| {
            let changed = status.position != position || status.last_error.is_some();
            (status.position, status.last_error) = (position, None);
            changed
        });
    }

    async fn read(&self, before: RelayCheckpoint) -> Result<Outgoing, StoreError> {
        let everything = Filter::default();
        let page = self
            .relay
            .store
            .read_all(before.position, &everything, self.relay.options.page);
        match timeout(STORE_TIMEOUT, page).await {
            Ok(page) => Ok(Outgoing::new(&before, page?)),
            Err(_) => Err(StoreError::Unavailable(
                "the log was not read in time".into(),
            )),
        }
    }

    /// Stores how far the broker has confirmed.
    pub(super) async fn save(&mut self) -> Result<(), Fenced> {
        let to_save = self.confirmed.clone();
        self.store_checkpoint(&to_save).await?;
        self.saved = to_save;
        self.saved_at = Instant::now();
        Ok(())
    }

    async fn store_checkpoint(&self, checkpoint: &RelayCheckpoint) -> Result<(), Fenced> {
        let saved = self
            .relay
            .store
            .save_relay_checkpoint(LEASE, self.fence, checkpoint);
        match timeout(STORE_TIMEOUT, saved).await {
            Ok(saved) => saved,
            Err(_) => {
                Err(StoreError::Unavailable("the checkpoint was not stored in time".into()).into())
            }
        }
    }
}
