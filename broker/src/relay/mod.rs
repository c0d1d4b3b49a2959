//! The relay: follows the log and publishes every event, in the order of each partition, at least once. One instance
//! leads, by a lease in the event store; the others stand by. It refuses to be relied on: what it publishes is a hint,
//! and whoever misses some of it reads the log.

mod backoff;
mod leader;
mod page;
mod traces;

use async_recursion::async_recursion as boxed;
use std::sync::Arc;
use std::time::Duration;

use event_store::{EventStore, Fence};
use events::Position;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::metrics;
use crate::port::Broker;
use backoff::Backoff;
use leader::{Ended, Leader};

/// The name of the lease by which one relay leads.
pub const LEASE: &str = "relay";
/// How long the relay waits for the event store to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a relay that ends waits for its last words to be stored.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The relay's bounds and intervals. The default is for production.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Events read and published at a time.
    pub page: usize,
    /// How long a lease lasts when it is not renewed.
    pub lease_ttl: Duration,
    /// How often the leader renews it.
    pub lease_renewal: Duration,
    /// How often one that stands by tries to take it.
    pub standby_interval: Duration,
    /// Between heartbeats when there is nothing to publish.
    pub idle_heartbeat: Duration,
    /// Between heartbeats when there is always something to publish.
    pub busy_heartbeat: Duration,
    /// The least time between two saves of the checkpoint.
    pub save_interval: Duration,
    /// The first pause after a fault; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause after a fault.
    pub longest_pause: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            page: 1_000,
            lease_ttl: Duration::from_secs(5),
            lease_renewal: Duration::from_millis(1_500),
            standby_interval: Duration::from_millis(500),
            idle_heartbeat: Duration::from_millis(500),
            busy_heartbeat: Duration::from_secs(2),
            save_interval: Duration::from_millis(100),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
        }
    }
}

/// What a relay is doing, for health and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayStatus {
    /// It holds the lease and publishes.
    pub leading: bool,
    /// Everything up to and including this position is confirmed by the broker, as far as this instance knows.
    pub position: Position,
    /// The last fault, until something succeeds again.
    pub last_error: Option<String>,
}

/// One instance of the relay.
pub struct Relay {
    store: Arc<dyn EventStore>,
    broker: Arc<dyn Broker>,
    /// Who holds the lease: drawn anew for each instance.
    holder: Uuid,
    options: RelayOptions,
    status: watch::Sender<RelayStatus>,
}

impl Relay {
    /// A relay from `store` to `broker`. `holder` tells this instance from every other: draw it at random.
    pub fn new(
        store: Arc<dyn EventStore>,
        broker: Arc<dyn Broker>,
        holder: Uuid,
        options: RelayOptions,
    ) -> Self {
        Self {
            store,
            broker,
            holder,
            options,
            status: watch::Sender::default(),
        }
    }

    /// What it is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<RelayStatus> {
        self.status.subscribe()
    }

    /// Leads or stands by until `shutdown`, whatever breaks. Then it publishes nothing more, stores how far it got and
    /// gives the lease up, within a bounded time.
    #[boxed]
    pub async fn run(self, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(&self.options);
        loop {
            let pause = match self.take_lease().await {
                Ok(Some(fence)) => {
                    backoff.reset();
                    self.status.send_modify(|status| status.leading = true);
                    metrics::LEADING.set(1);
                    let ended = self.lead(fence, &shutdown).await;
                    metrics::LEADING.set(0);
                    self.status.send_modify(|status| status.leading = false);
                    match ended {
                        Ended::Shutdown => Duration::ZERO,
                        Ended::Deposed => self.options.standby_interval,
                        Ended::Fault(fault) => {
                            self.note(&fault);
                            backoff.next_pause()
                        }
                    }
                }
                Ok(None) => {
                    backoff.reset();
                    self.options.standby_interval
                }
                Err(fault) => {
                    self.note(&fault);
                    backoff.next_pause()
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep(pause) => {}
            }
        }
        let release = self.store.release_lease(LEASE, self.holder);
        if let Ok(Err(error)) = timeout(FAREWELL_TIMEOUT, release).await {
            tracing::warn!(%error, "the relay's lease was not given up; it runs out by itself");
        }
    }

    async fn lead(&self, fence: Fence, shutdown: &CancellationToken) -> Ended {
        tracing::info!(holder = %self.holder, "this relay leads");
        let mut leader = tokio::select! {
            () = shutdown.cancelled() => return Ended::Shutdown,
            loaded = Leader::load(self, fence) => match loaded {
                Ok(leader) => leader,
                Err(ended) => return ended,
            },
        };
        // Whichever ends first ends the others: nothing is published without the lease, or after the shutdown.
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ended::Shutdown,
            ended = self.keep_lease(fence) => ended,
            ended = leader.publish_until_deposed() => ended,
        };
        if matches!(ended, Ended::Shutdown) {
            let _ = timeout(FAREWELL_TIMEOUT, leader.save()).await;
        }
        tracing::info!(holder = %self.holder, reason = %ended, "this relay no longer leads");
        ended
    }

    /// Renews the lease until it is lost, or could not be renewed for as long as it lasts.
    async fn keep_lease(&self, fence: Fence) -> Ended {
        let mut runs_out = Instant::now() + self.options.lease_ttl;
        loop {
            sleep(self.options.lease_renewal).await;
            let asked_at = Instant::now();
            match self.take_lease().await {
                Ok(Some(renewed)) if renewed == fence => {
                    runs_out = asked_at + self.options.lease_ttl;
                }
                Ok(_) => return Ended::Deposed,
                Err(fault) if Instant::now() >= runs_out => return Ended::Fault(fault),
                Err(fault) => self.note(&fault),
            }
        }
    }

    async fn take_lease(&self) -> Result<Option<Fence>, String> {
        let ttl = self.options.lease_ttl;
        match timeout(ttl, self.store.acquire_lease(LEASE, self.holder, ttl)).await {
            Ok(taken) => taken.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the event store did not answer within {ttl:?}")),
        }
    }

    fn note(&self, fault: &str) {
        metrics::FAULTS.add(1);
        tracing::warn!(fault, "the relay goes on after a fault");
        self.status
            .send_modify(|status| status.last_error = Some(fault.to_owned()));
    }
}
