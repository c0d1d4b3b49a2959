//! The contract: each test runs on every adapter.

use std::time::Duration;

use broker::{Broker, Envelope, Error, Group};
use events::Partition;
use tokio::time::{Instant, timeout};

use crate::support::{assert_quiet, consume, message, messages, number, publish, subscribe, take};

/// How many messages wait in a queue of these tests.
const MAX_LENGTH: usize = 2_000;

macro_rules! on_every_broker {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&broker::MemoryBroker::with_max_length(super::MAX_LENGTH)).await;
            })+
        }

        mod rabbitmq {
            $(#[tokio::test]
            async fn $test() {
                let url = test_support::RabbitMq::shared().await.fresh_vhost().await;
                let options =
                    broker::RabbitMqOptions { max_length: super::MAX_LENGTH as u32, ..Default::default() };
                let broker = broker::RabbitMqBroker::with_options(&url, options).expect("a URL");
                super::$test(&broker).await;
                broker::Broker::close(&broker).await;
            })+
        }
    };
}

on_every_broker![
    every_group_gets_every_message,
    a_partition_gets_its_own_messages_only,
    order_within_a_partition_is_kept,
    acknowledging_one_acknowledges_all_before_it,
    the_standby_gets_what_was_not_acknowledged_first_and_in_order,
    a_full_queue_drops_its_oldest,
    publishing_where_nobody_listens_is_confirmed,
    a_queue_keeps_messages_while_nobody_is_subscribed,
    trace_context_and_heartbeats_arrive_as_such,
    an_idle_subscription_waits_as_long_as_it_was_told,
    a_batch_is_no_larger_than_asked_for,
    a_wait_that_is_given_up_loses_no_message,
    a_group_name_unfit_for_a_queue_is_refused,
    a_broker_that_is_up_passes_its_check,
];

async fn every_group_gets_every_message(broker: &dyn Broker) {
    let mut one = subscribe(broker, "one", 0).await;
    let mut two = subscribe(broker, "two", 0).await;
    publish(broker, messages(0, 0..50)).await;
    assert_eq!(consume(one.as_mut(), 50).await, (0..50).collect::<Vec<_>>());
    assert_eq!(consume(two.as_mut(), 50).await, (0..50).collect::<Vec<_>>());
}

async fn a_partition_gets_its_own_messages_only(broker: &dyn Broker) {
    // 1 is a prefix of 11, which a careless binding would mix up.
    let mut one = subscribe(broker, "group", 1).await;
    let mut eleven = subscribe(broker, "group", 11).await;
    let batch = (0..40)
        .map(|n| message(if n % 2 == 0 { 1 } else { 11 }, n))
        .collect();
    publish(broker, batch).await;
    assert_eq!(
        consume(one.as_mut(), 20).await,
        (0..40).step_by(2).collect::<Vec<_>>()
    );
    assert_eq!(
        consume(eleven.as_mut(), 20).await,
        (1..40).step_by(2).collect::<Vec<_>>()
    );
    assert_quiet(one.as_mut()).await;
    assert_quiet(eleven.as_mut()).await;
}

async fn order_within_a_partition_is_kept(broker: &dyn Broker) {
    let mut subscriptions = [
        subscribe(broker, "group", 0).await,
        subscribe(broker, "group", 1).await,
    ];
    let mut publisher = broker.publisher().await.expect("a publisher");
    // More than are on their way at a time, and in batches of several sizes.
    let mut from = 0;
    for size in [1, 499, 1_400] {
        let batch = (from..from + size)
            .flat_map(|n| [message(0, n), message(1, n)])
            .collect();
        publisher.publish(batch).await.expect("published");
        from += size;
    }
    for subscription in &mut subscriptions {
        assert_eq!(
            consume(subscription.as_mut(), 1_900).await,
            (0..1_900).collect::<Vec<_>>()
        );
    }
}

async fn acknowledging_one_acknowledges_all_before_it(broker: &dyn Broker) {
    let mut first = subscribe(broker, "group", 0).await;
    publish(broker, messages(0, 0..10)).await;
    let taken = take(first.as_mut(), 10).await;
    assert!(taken.is_sorted_by_key(|delivery| delivery.tag));
    first.acknowledge(taken[6].tag).await.expect("acknowledged");
    drop(first);
    let mut second = subscribe(broker, "group", 0).await;
    assert_eq!(consume(second.as_mut(), 3).await, [7, 8, 9]);
    assert_quiet(second.as_mut()).await;
}

async fn the_standby_gets_what_was_not_acknowledged_first_and_in_order(broker: &dyn Broker) {
    let mut active = subscribe(broker, "group", 0).await;
    let mut standby = subscribe(broker, "group", 0).await;
    publish(broker, messages(0, 0..700)).await;
    let taken = take(active.as_mut(), 300).await;
    active
        .acknowledge(taken[99].tag)
        .await
        .expect("acknowledged");
    assert_quiet(standby.as_mut()).await;
    drop(active);
    assert_eq!(
        consume(standby.as_mut(), 600).await,
        (100..700).collect::<Vec<_>>()
    );
}

async fn a_full_queue_drops_its_oldest(broker: &dyn Broker) {
    drop(subscribe(broker, "group", 0).await);
    publish(broker, messages(0, 0..MAX_LENGTH + 500)).await;
    let mut subscription = subscribe(broker, "group", 0).await;
    assert_eq!(
        consume(subscription.as_mut(), MAX_LENGTH).await,
        (500..MAX_LENGTH + 500).collect::<Vec<_>>()
    );
}

async fn publishing_where_nobody_listens_is_confirmed(broker: &dyn Broker) {
    publish(broker, messages(5, 0..10)).await;
    let mut late = subscribe(broker, "group", 5).await;
    assert_quiet(late.as_mut()).await;
}

async fn a_queue_keeps_messages_while_nobody_is_subscribed(broker: &dyn Broker) {
    drop(subscribe(broker, "group", 0).await);
    publish(broker, messages(0, 0..10)).await;
    let mut subscription = subscribe(broker, "group", 0).await;
    assert_eq!(
        consume(subscription.as_mut(), 10).await,
        (0..10).collect::<Vec<_>>()
    );
}

async fn trace_context_and_heartbeats_arrive_as_such(broker: &dyn Broker) {
    let mut subscription = subscribe(broker, "group", 3).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let traced = Envelope {
        traceparent: Some(traceparent.into()),
        ..message(3, 1)
    };
    let heartbeat = Envelope {
        routing_key: "3.heartbeat".into(),
        ..message(3, 2)
    };
    publish(broker, vec![traced, heartbeat]).await;
    let taken = take(subscription.as_mut(), 2).await;
    assert_eq!(taken[0].traceparent.as_deref(), Some(traceparent));
    assert_eq!(taken[0].routing_key, "3.test.Happened");
    assert!(!taken[0].is_heartbeat());
    assert_eq!(taken[1].traceparent, None);
    assert!(taken[1].is_heartbeat());
}

async fn an_idle_subscription_waits_as_long_as_it_was_told(broker: &dyn Broker) {
    let mut subscription = subscribe(broker, "group", 0).await;
    let began = Instant::now();
    let batch = subscription
        .next_batch(10, Duration::from_millis(1_200))
        .await
        .expect("subscribed");
    assert!(batch.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(1_200));
}

async fn a_batch_is_no_larger_than_asked_for(broker: &dyn Broker) {
    let mut subscription = subscribe(broker, "group", 0).await;
    publish(broker, messages(0, 0..20)).await;
    let batch = subscription
        .next_batch(7, Duration::from_secs(10))
        .await
        .expect("subscribed");
    assert!((1..=7).contains(&batch.len()), "{}", batch.len());
}

async fn a_wait_that_is_given_up_loses_no_message(broker: &dyn Broker) {
    let mut subscription = subscribe(broker, "group", 0).await;
    let mut publisher = broker.publisher().await.expect("a publisher");
    let mut seen = Vec::new();
    for n in 0..100 {
        publisher
            .publish(vec![message(0, n)])
            .await
            .expect("published");
        let wait = subscription.next_batch(10, Duration::from_secs(10));
        if let Ok(batch) = timeout(Duration::from_micros(n as u64 * 20), wait).await {
            seen.extend(batch.expect("subscribed").iter().map(number));
        }
    }
    let missing = 100 - seen.len();
    seen.extend(
        take(subscription.as_mut(), missing)
            .await
            .iter()
            .map(number),
    );
    assert_eq!(seen, (0..100).collect::<Vec<_>>());
}

async fn a_group_name_unfit_for_a_queue_is_refused(broker: &dyn Broker) {
    let group = Group {
        name: "No.Good".into(),
    };
    let refused = broker.subscribe(&group, Partition(0)).await.err();
    assert!(matches!(refused, Some(Error::Invalid(_))), "{refused:?}");
}

async fn a_broker_that_is_up_passes_its_check(broker: &dyn Broker) {
    broker.check().await.expect("up");
}
