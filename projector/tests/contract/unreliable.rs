//! A broker that loses, repeats, delays and reorders messages and drops subscriptions, by a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use broker::{Broker, Delivery, Error, Group, Publisher, Subscription};
use events::Partition;

/// What goes wrong, in percent of messages or calls.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Events alone: heartbeats get through.
    pub lost: u64,
    pub repeated: u64,
    pub late: u64,
    pub shuffled: u64,
    pub broken: u64,
    /// Acknowledgements that fail, which costs the subscription.
    pub unacknowledged: u64,
}

pub struct Unreliable {
    inner: Arc<dyn Broker>,
    faults: Faults,
    seed: Arc<AtomicU64>,
    /// Nothing comes through, and subscribing fails.
    pub down: Arc<AtomicBool>,
}

impl Unreliable {
    pub fn new(inner: Arc<dyn Broker>, faults: Faults, seed: u64) -> Self {
        Self {
            inner,
            faults,
            seed: Arc::new(AtomicU64::new(seed)),
            down: Arc::default(),
        }
    }
}

#[async_trait]
impl Broker for Unreliable {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Error> {
        self.inner.publisher().await
    }

    async fn subscribe(
        &self,
        group: &Group,
        partition: Partition,
    ) -> Result<Box<dyn Subscription>, Error> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it is down".into()));
        }
        let inner = self.inner.subscribe(group, partition).await?;
        let dice = Dice(Arc::clone(&self.seed));
        let down = Arc::clone(&self.down);
        Ok(Box::new(UnreliableSubscription {
            inner,
            faults: self.faults,
            dice,
            down,
            late: Vec::new(),
        }))
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }
}

struct Dice(Arc<AtomicU64>);

impl Dice {
    /// True in this many of 100 cases (`splitmix64`).
    fn falls(&self, percent: u64) -> bool {
        self.draw() % 100 < percent
    }

    fn draw(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

struct UnreliableSubscription {
    inner: Box<dyn Subscription>,
    faults: Faults,
    dice: Dice,
    down: Arc<AtomicBool>,
    late: Vec<Delivery>,
}

#[async_trait]
impl Subscription for UnreliableSubscription {
    async fn next_batch(&mut self, max: usize, patience: Duration) -> Result<Vec<Delivery>, Error> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it went down".into()));
        }
        let came = self
            .inner
            .next_batch(max, patience.min(Duration::from_millis(100)))
            .await?;
        let last = came.iter().map(|delivery| delivery.tag).max();
        let mut batch = std::mem::take(&mut self.late);
        for mut delivery in came {
            if self.dice.falls(self.faults.broken) {
                delivery.body.truncate(delivery.body.len() / 2);
            }
            if !delivery.is_heartbeat() && self.dice.falls(self.faults.lost) {
                continue;
            }
            if self.dice.falls(self.faults.repeated) {
                batch.push(delivery.clone());
            }
            if self.dice.falls(self.faults.late) {
                &mut self.late
            } else {
                &mut batch
            }
            .push(delivery);
        }
        if self.dice.falls(self.faults.shuffled) {
            for index in (1..batch.len()).rev() {
                batch.swap(index, (self.dice.draw() % (index as u64 + 1)) as usize);
            }
        }
        if let (true, Some(last)) = (batch.is_empty(), last) {
            self.inner.acknowledge(last).await?;
        }
        Ok(batch)
    }

    async fn acknowledge(&mut self, tag: u64) -> Result<(), Error> {
        if self.dice.falls(self.faults.unacknowledged) {
            return Err(Error::Unavailable("the connection is gone".into()));
        }
        self.inner.acknowledge(tag).await
    }
}
