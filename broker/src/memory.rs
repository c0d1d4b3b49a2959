//! The in-process broker: bounded queues in memory with the semantics of the RabbitMQ adapter (drop-oldest, one active
//! consumer a queue, unacknowledged messages back in front and in order). It refuses to survive the process: the log
//! does that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use events::Partition;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::port::{
    Broker, Delivery, Envelope, Error, Group, Publisher, Subscription, partition_of_key,
};

/// The most messages that wait in a queue; more push out the oldest.
const MAX_LENGTH: usize = 50_000;
/// The most unacknowledged messages of a subscription.
const PREFETCH: usize = 500;

/// A broker for one process. Clones share their queues.
#[derive(Clone, Default)]
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

struct Shared {
    max_length: usize,
    queues: Mutex<Queues>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            max_length: MAX_LENGTH,
            queues: Mutex::default(),
        }
    }
}

/// The queues of each partition, by group.
type Queues = HashMap<Partition, HashMap<Group, Arc<Queue>>>;

impl MemoryBroker {
    /// An empty broker.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty broker whose queues hold at most `max_length` waiting messages.
    pub fn with_max_length(max_length: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                max_length,
                queues: Mutex::default(),
            }),
        }
    }
}

/// A panic elsewhere leaves these plain collections whole, so a poisoned lock is taken as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Broker for MemoryBroker {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Error> {
        Ok(Box::new(MemoryPublisher {
            shared: self.shared.clone(),
        }))
    }

    async fn subscribe(
        &self,
        group: &Group,
        partition: Partition,
    ) -> Result<Box<dyn Subscription>, Error> {
        group.check()?;
        let queue = lock(&self.shared.queues)
            .entry(partition)
            .or_default()
            .entry(group.clone())
            .or_insert_with(|| Arc::new(Queue::new(self.shared.max_length)))
            .clone();
        let me = queue.join();
        Ok(Box::new(MemorySubscription {
            queue,
            me,
            next_tag: 1,
            unacknowledged: VecDeque::new(),
        }))
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

struct MemoryPublisher {
    shared: Arc<Shared>,
}

#[async_trait]
impl Publisher for MemoryPublisher {
    async fn publish(&mut self, batch: Vec<Envelope>) -> Result<(), Error> {
        for envelope in batch {
            let Some(partition) = partition_of_key(&envelope.routing_key) else {
                continue;
            };
            let envelope = Arc::new(envelope);
            if let Some(groups) = lock(&self.shared.queues).get(&partition) {
                for queue in groups.values() {
                    queue.push(envelope.clone());
                }
            }
        }
        Ok(())
    }
}

/// One group's queue of one partition.
struct Queue {
    max_length: usize,
    state: Mutex<QueueState>,
    changed: Notify,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Arc<Envelope>>,
    /// The first is active, the others stand by in the order they came.
    subscribers: VecDeque<u64>,
    last_subscriber: u64,
}

impl Queue {
    fn new(max_length: usize) -> Self {
        Self {
            max_length,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn push(&self, envelope: Arc<Envelope>) {
        let mut state = lock(&self.state);
        state.waiting.push_back(envelope);
        drop_oldest(&mut state.waiting, self.max_length);
        drop(state);
        self.changed.notify_waiters();
    }

    fn join(&self) -> u64 {
        let mut state = lock(&self.state);
        state.last_subscriber += 1;
        let me = state.last_subscriber;
        state.subscribers.push_back(me);
        me
    }

    /// Up to `max` waiting messages, if `me` is the active subscriber.
    fn take(&self, me: u64, max: usize) -> Vec<Arc<Envelope>> {
        let mut state = lock(&self.state);
        if state.subscribers.front() != Some(&me) {
            return Vec::new();
        }
        let count = max.min(state.waiting.len());
        state.waiting.drain(..count).collect()
    }

    /// Ends `me`: what it did not acknowledge goes back in front, in order, and the next in line is active.
    fn leave(&self, me: u64, unacknowledged: VecDeque<(u64, Arc<Envelope>)>) {
        let mut state = lock(&self.state);
        for (_, envelope) in unacknowledged.into_iter().rev() {
            state.waiting.push_front(envelope);
        }
        drop_oldest(&mut state.waiting, self.max_length);
        state.subscribers.retain(|subscriber| *subscriber != me);
        drop(state);
        self.changed.notify_waiters();
    }
}

fn drop_oldest(waiting: &mut VecDeque<Arc<Envelope>>, max_length: usize) {
    let surplus = waiting.len().saturating_sub(max_length);
    waiting.drain(..surplus);
}

struct MemorySubscription {
    queue: Arc<Queue>,
    me: u64,
    next_tag: u64,
    unacknowledged: VecDeque<(u64, Arc<Envelope>)>,
}

impl MemorySubscription {
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let room = PREFETCH.saturating_sub(self.unacknowledged.len());
        let taken = self.queue.take(self.me, max.max(1).min(room));
        taken
            .into_iter()
            .map(|envelope| {
                let tag = self.next_tag;
                self.next_tag += 1;
                let delivery = Delivery {
                    tag,
                    routing_key: envelope.routing_key.clone(),
                    traceparent: envelope.traceparent.clone(),
                    body: envelope.body.clone(),
                };
                self.unacknowledged.push_back((tag, envelope));
                delivery
            })
            .collect()
    }
}

#[async_trait]
impl Subscription for MemorySubscription {
    async fn next_batch(&mut self, max: usize, patience: Duration) -> Result<Vec<Delivery>, Error> {
        let deadline = Instant::now() + patience;
        let queue = self.queue.clone();
        loop {
            // Registered before looking, so that a message in between wakes it.
            let mut changed = std::pin::pin!(queue.changed.notified());
            changed.as_mut().enable();
            let batch = self.take(max);
            if !batch.is_empty() || timeout_at(deadline, changed).await.is_err() {
                return Ok(batch);
            }
        }
    }

    async fn acknowledge(&mut self, tag: u64) -> Result<(), Error> {
        let settled = self
            .unacknowledged
            .partition_point(|(unsettled, _)| *unsettled <= tag);
        self.unacknowledged.drain(..settled);
        Ok(())
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        self.queue
            .leave(self.me, std::mem::take(&mut self.unacknowledged));
    }
}
