//! The relay between a real event store and both brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::{
    Broker, Delivery, LEASE, MemoryBroker, RabbitMqBroker, Relay, RelayOptions, RelayStatus,
    Subscription,
};
use event_store::{Append, EventStore, Expected, RelayCheckpoint};
use events::{
    CommandId, Digest, Heartbeat, LogIdentity, Message, NewEvent, Partition, Position,
    RecordedEvent, StreamId, partition_of,
};
use test_support::{Postgres, RabbitMq, TempDir, eventually, temp_dir};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{DEADLINE, group};

/// A log of one's own, with what must outlive it.
struct Log {
    store: Arc<dyn EventStore>,
    commands: std::ops::RangeFrom<u128>,
    _folder: Option<TempDir>,
}

impl Log {
    async fn fresh() -> Self {
        let folder = temp_dir();
        let url = format!("sqlite:{}", folder.path().join("events.db").display());
        Self {
            _folder: Some(folder),
            ..Self::at(&url).await
        }
    }

    async fn at(url: &str) -> Self {
        let store = event_store::open(url, event_store::Options::default()).await;
        Self {
            store: store.expect("a log"),
            commands: 1..,
            _folder: None,
        }
    }

    /// Appends `count` events to 40 streams, in runs of 25.
    async fn append(&mut self, count: usize) {
        for first in (0..count).step_by(25) {
            let command = CommandId(Uuid::from_u128(self.commands.next().expect("endless")));
            let stream = StreamId::new("test", &(first / 25 % 40).to_string()).expect("a stream");
            let events = (0..25.min(count - first)).map(|index| NewEvent {
                id: command.event_id(index),
                type_name: "Happened".into(),
                schema_version: 1,
                data: format!(r#"{{"n":{first}}}"#),
                metadata: r#"{"traceparent":"00-aa-bb-01"}"#.into(),
            });
            let append = Append {
                stream,
                expected: Expected::Any,
                command_id: command,
                events: events.collect(),
            };
            self.store.append(append).await.expect("appended");
        }
    }

    /// What every partition must get: the events in order, and the digest after the last.
    async fn partitions(&self) -> BTreeMap<Partition, (Vec<RecordedEvent>, Digest)> {
        let count = self.store.identity().partitions;
        let mut partitions: BTreeMap<_, _> = (0..count)
            .map(|number| (Partition(number), (Vec::new(), Digest::default())))
            .collect();
        let mut after = Position::ZERO;
        loop {
            let page = self
                .store
                .read_all(after, &event_store::Filter::default(), 1_000)
                .await
                .expect("a page");
            if page.events.is_empty() {
                return partitions;
            }
            after = page.through;
            for event in page.events {
                let (events, digest) = partitions
                    .get_mut(&partition_of(&event.stream, count))
                    .expect("in range");
                *digest = digest.then(&event.hash);
                events.push(event);
            }
        }
    }

    async fn head(&self) -> Position {
        self.store.head().await.expect("the head")
    }
}

/// A relay that runs.
struct Running {
    status: watch::Receiver<RelayStatus>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(log: &Log, broker: &Arc<dyn Broker>, holder: u128, options: RelayOptions) -> Self {
        let relay = Relay::new(
            log.store.clone(),
            broker.clone(),
            Uuid::from_u128(holder),
            options,
        );
        let (status, shutdown) = (relay.status(), CancellationToken::new());
        let task = tokio::spawn(relay.run(shutdown.clone()));
        Self {
            status,
            shutdown,
            task,
        }
    }

    async fn until(&mut self, condition: impl FnMut(&RelayStatus) -> bool) {
        let reached = timeout(2 * DEADLINE, self.status.wait_for(condition)).await;
        reached
            .expect("the relay gets there")
            .expect("the relay runs");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.task)
            .await
            .expect("it ends")
            .expect("without a panic");
    }

    /// Ends it as SIGKILL would: nothing is said or stored any more.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

fn quick() -> RelayOptions {
    RelayOptions {
        lease_ttl: Duration::from_secs(1),
        lease_renewal: Duration::from_millis(200),
        standby_interval: Duration::from_millis(50),
        ..RelayOptions::default()
    }
}

async fn subscribe_all(broker: &dyn Broker) -> Vec<Box<dyn Subscription>> {
    let mut subscriptions = Vec::new();
    for partition in 0..8 {
        subscriptions.push(
            broker
                .subscribe(&group("relay"), Partition(partition))
                .await
                .expect("subscribed"),
        );
    }
    subscriptions
}

async fn next(subscription: &mut dyn Subscription) -> Vec<Delivery> {
    let batch = timeout(DEADLINE, subscription.next_batch(500, DEADLINE))
        .await
        .expect("in time")
        .expect("subscribed");
    subscription
        .acknowledge(batch.last().expect("one").tag)
        .await
        .expect("acknowledged");
    batch
}

/// Takes a partition's messages until a heartbeat names its last event. Messages may repeat, but each that is new must
/// follow on the one before, byte for byte as it stands in the log.
async fn follow(
    subscription: &mut dyn Subscription,
    events: &[RecordedEvent],
    digest: Digest,
    log: LogIdentity,
) -> usize {
    let last = events.last().map_or(Position::ZERO, |event| event.position);
    let (mut at, mut received) = (0, 0);
    loop {
        for delivery in next(subscription).await {
            if delivery.is_heartbeat() {
                let heartbeat: Heartbeat =
                    serde_json::from_slice(&delivery.body).expect("a heartbeat");
                if heartbeat.position == last && at == events.len() {
                    assert_eq!((heartbeat.digest, heartbeat.log), (digest, log));
                    return received;
                }
                continue;
            }
            received += 1;
            let message = Message::from_json(&delivery.body).expect("a CloudEvent");
            let before = at
                .checked_sub(1)
                .map_or(Position::ZERO, |before| events[before].position);
            if message.event.position > before {
                assert_eq!(message.previous, before);
                assert_eq!(message.event, events[at]);
                assert_eq!(delivery.traceparent.as_deref(), Some("00-aa-bb-01"));
                at += 1;
            }
        }
    }
}

/// Every partition's messages are all there and in order; returns how many messages came, repeated ones included.
async fn follow_all(log: &Log, subscriptions: &mut [Box<dyn Subscription>]) -> usize {
    let mut received = 0;
    for (partition, (events, digest)) in log.partitions().await {
        let subscription = subscriptions[usize::from(partition.0)].as_mut();
        received += follow(subscription, &events, digest, log.store.identity()).await;
    }
    received
}

async fn publishes_everything(broker: Arc<dyn Broker>) {
    let mut log = Log::fresh().await;
    log.append(3_000).await;
    let mut subscriptions = subscribe_all(broker.as_ref()).await;
    let running = Running::start(&log, &broker, 1, quick());
    assert_eq!(follow_all(&log, &mut subscriptions).await, 3_000);
    // And what comes while it runs.
    log.append(10).await;
    let mut more = 0;
    while more < 10 {
        for subscription in &mut subscriptions {
            let batch = subscription
                .next_batch(10, Duration::from_millis(20))
                .await
                .expect("subscribed");
            more += batch
                .iter()
                .filter(|delivery| !delivery.is_heartbeat())
                .count();
        }
    }
    running.stop().await;
    drop(subscriptions);
    broker.close().await;
}

#[tokio::test]
async fn every_event_goes_to_the_memory_broker_in_the_order_of_its_partition() {
    publishes_everything(Arc::new(MemoryBroker::new())).await;
}

#[tokio::test]
async fn every_event_goes_to_rabbitmq_in_the_order_of_its_partition() {
    let url = RabbitMq::shared().await.fresh_vhost().await;
    publishes_everything(broker::open(&url).await.expect("a URL")).await;
}

#[tokio::test]
async fn a_relay_that_was_shut_down_goes_on_where_it_was_and_gives_the_lease_up_at_once() {
    let mut log = Log::fresh().await;
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let mut subscriptions = subscribe_all(broker.as_ref()).await;
    log.append(500).await;
    // A lease this long would outlast the test.
    let options = RelayOptions {
        lease_ttl: Duration::from_hours(1),
        ..quick()
    };
    let mut first = Running::start(&log, &broker, 1, options.clone());
    let head = log.head().await;
    first.until(|status| status.position == head).await;
    first.stop().await;
    log.append(500).await;
    let second = Running::start(&log, &broker, 2, options);
    assert_eq!(
        follow_all(&log, &mut subscriptions).await,
        1_000,
        "nothing is published twice"
    );
    second.stop().await;
}

#[tokio::test]
async fn one_of_two_relays_leads_and_the_other_takes_over_when_it_dies() {
    let mut log = Log::fresh().await;
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let mut subscriptions = subscribe_all(broker.as_ref()).await;
    log.append(1_000).await;
    let mut first = Running::start(&log, &broker, 1, quick());
    first.until(|status| status.leading).await;
    let mut second = Running::start(&log, &broker, 2, quick());
    let head = log.head().await;
    first.until(|status| status.position == head).await;
    // Longer than the lease lasts: it was renewed.
    let leads_alone = timeout(
        Duration::from_secs(2),
        second.status.wait_for(|status| status.leading),
    )
    .await
    .is_err();
    assert!(leads_alone, "both lead");
    first.kill().await;
    log.append(1_000).await;
    second.until(|status| status.leading).await;
    assert!(follow_all(&log, &mut subscriptions).await >= 2_000);
    second.stop().await;
}

#[tokio::test]
async fn a_checkpoint_of_another_log_or_beyond_the_head_is_not_believed() {
    let mut log = Log::fresh().await;
    log.append(100).await;
    let identity = log.store.identity();
    let other = LogIdentity {
        epoch: Uuid::from_u128(77),
        ..identity
    };
    for (log_of_it, position) in [(other, 50), (identity, 1_000)] {
        let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
        let mut subscriptions = subscribe_all(broker.as_ref()).await;
        let me = Uuid::from_u128(9);
        let fence = log
            .store
            .acquire_lease(LEASE, me, Duration::from_mins(1))
            .await
            .unwrap()
            .expect("free");
        let wrong = RelayCheckpoint {
            position: Position::new(position),
            ..RelayCheckpoint::start(log_of_it)
        };
        log.store
            .save_relay_checkpoint(LEASE, fence, &wrong)
            .await
            .unwrap();
        log.store.release_lease(LEASE, me).await.unwrap();
        let running = Running::start(&log, &broker, 1, quick());
        assert_eq!(follow_all(&log, &mut subscriptions).await, 100);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_lost_last_message_is_told_by_the_next_heartbeat() {
    let mut log = Log::fresh().await;
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    log.append(200).await;
    let mut running = Running::start(&log, &broker, 1, quick());
    let head = log.head().await;
    running.until(|status| status.position == head).await;
    // Nobody was subscribed: all messages are lost. The heartbeats that follow still name the last event of each.
    let mut subscriptions = subscribe_all(broker.as_ref()).await;
    for (partition, (events, digest)) in log.partitions().await {
        let first = next(subscriptions[usize::from(partition.0)].as_mut()).await;
        assert!(first[0].is_heartbeat());
        let heartbeat: Heartbeat = serde_json::from_slice(&first[0].body).unwrap();
        let last = events.last().map_or(Position::ZERO, |event| event.position);
        assert_eq!(
            (heartbeat.partition, heartbeat.position, heartbeat.digest),
            (partition, last, digest)
        );
    }
    running.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_killed_under_the_relay_costs_no_event() {
    let server = RabbitMq::start().await;
    let broker: Arc<dyn Broker> = Arc::new(RabbitMqBroker::new(&server.url()).expect("a URL"));
    drop(subscribe_all(broker.as_ref()).await);
    // RabbitMQ 3.10 loses a queue that is killed within a second of being declared; an orderly stop puts it on disk.
    server.stop_app().await;
    server.start_app().await;
    let mut log = Log::fresh().await;
    log.append(20_000).await;
    // Small pages: the broker is killed in the middle.
    let mut running = Running::start(
        &log,
        &broker,
        1,
        RelayOptions {
            page: 50,
            ..quick()
        },
    );
    running
        .until(|status| status.position > Position::ZERO)
        .await;
    server.kill().await;
    running.until(|status| status.last_error.is_some()).await;
    let at = running.status.borrow().position;
    assert!(
        at < log.head().await,
        "it was killed too late to show anything"
    );
    server.restart().await;
    log.append(1_000).await;
    let mut subscriptions = subscribe_all(broker.as_ref()).await;
    assert!(follow_all(&log, &mut subscriptions).await >= 21_000);
    running.stop().await;
    drop(subscriptions);
    broker.close().await;
}

#[tokio::test]
async fn an_event_store_that_is_killed_under_the_relay_costs_no_event() {
    let server = Postgres::start().await;
    let mut log = Log::at(&server.fresh_database().await).await;
    let broker: Arc<dyn Broker> = Arc::new(MemoryBroker::new());
    let mut subscriptions = subscribe_all(broker.as_ref()).await;
    log.append(5_000).await;
    let mut running = Running::start(
        &log,
        &broker,
        1,
        RelayOptions {
            page: 10,
            ..quick()
        },
    );
    running
        .until(|status| status.position > Position::ZERO)
        .await;
    server.kill().await;
    running.until(|status| status.last_error.is_some()).await;
    server.restart().await;
    eventually(DEADLINE, || log.store.head()).await;
    log.append(500).await;
    assert!(follow_all(&log, &mut subscriptions).await >= 5_500);
    running.stop().await;
    log.store.close().await;
}
