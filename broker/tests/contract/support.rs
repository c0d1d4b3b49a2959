//! Messages to send, and ways to take them.

use std::time::Duration;

use broker::{Broker, Delivery, Envelope, Group, Subscription};
use events::Partition;
use tokio::time::{Instant, timeout_at};

/// Long enough for a busy machine; a test that waits this long has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Long enough for a message that is on its way to come, where none may come.
pub const QUIET: Duration = Duration::from_millis(300);

pub fn group(name: &str) -> Group {
    Group::new(name).expect("a group name")
}

/// The `number`-th message of a partition.
pub fn message(partition: u16, number: usize) -> Envelope {
    Envelope {
        routing_key: format!("{partition}.test.Happened"),
        message_id: format!("{partition}-{number}"),
        traceparent: None,
        body: number.to_string().into_bytes(),
    }
}

pub fn messages(partition: u16, numbers: impl IntoIterator<Item = usize>) -> Vec<Envelope> {
    numbers
        .into_iter()
        .map(|number| message(partition, number))
        .collect()
}

pub fn number(delivery: &Delivery) -> usize {
    std::str::from_utf8(&delivery.body)
        .expect("text")
        .parse()
        .expect("a number")
}

pub async fn subscribe(broker: &dyn Broker, name: &str, partition: u16) -> Box<dyn Subscription> {
    broker
        .subscribe(&group(name), Partition(partition))
        .await
        .expect("subscribed")
}

pub async fn publish(broker: &dyn Broker, batch: Vec<Envelope>) {
    let mut publisher = broker.publisher().await.expect("a publisher");
    publisher.publish(batch).await.expect("published");
}

/// Takes exactly `count` deliveries, without acknowledging them.
pub async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let deadline = Instant::now() + DEADLINE;
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = timeout_at(
            deadline,
            subscription.next_batch(count - taken.len(), DEADLINE),
        )
        .await
        .unwrap_or_else(|_| panic!("{} of {count} messages came", taken.len()))
        .expect("deliveries");
        taken.extend(batch);
    }
    taken
}

/// Takes `count` deliveries and acknowledges as it goes; returns their numbers.
pub async fn consume(subscription: &mut dyn Subscription, count: usize) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let room = (count - numbers.len()).min(100);
        let batch = take(subscription, room).await;
        subscription
            .acknowledge(batch.last().expect("at least one").tag)
            .await
            .expect("acknowledged");
        numbers.extend(batch.iter().map(number));
    }
    numbers
}

/// Nothing comes for a while.
pub async fn assert_quiet(subscription: &mut dyn Subscription) {
    let batch = subscription
        .next_batch(10, QUIET)
        .await
        .expect("still subscribed");
    assert!(batch.is_empty(), "unexpected: {batch:?}");
}
