//! RabbitMQ that is down, goes away, blocks, or loses a queue.

use std::time::Duration;

use broker::{Broker, Error, RabbitMqBroker, RabbitMqOptions, Subscription, queue_name};
use events::Partition;
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use test_support::{RabbitMq, eventually};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::{
    DEADLINE, assert_quiet, consume, group, message, messages, number, publish, subscribe, take,
};

/// A little more than the longest bound on connecting.
const CONNECT_BOUND: Duration = Duration::from_secs(7);

/// Waits until the subscription says that it is over.
async fn fails(subscription: &mut dyn Subscription) -> Error {
    let failing = async {
        loop {
            match subscription.next_batch(1_000, Duration::from_mins(1)).await {
                Ok(batch) => drop(batch),
                Err(error) => return error,
            }
        }
    };
    timeout(DEADLINE, failing)
        .await
        .expect("the subscription fails")
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_a_bounded_time_and_no_connection() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let broker = RabbitMqBroker::new(&url).unwrap();
    let attempt = tokio::spawn(async move {
        timeout(CONNECT_BOUND, broker.publisher())
            .await
            .map(Result::err)
    });
    let (mut socket, _) = silent.accept().await.unwrap();
    let error = attempt.await.unwrap().expect("within the bound");
    assert!(matches!(error, Some(Error::Unavailable(_))), "{error:?}");
    // The client hung up: no thread and no socket is left behind.
    let mut sent = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut sent))
        .await
        .expect("closed")
        .unwrap();
    assert_eq!(&sent[..4], b"AMQP");
}

/// Publishes the numbers one batch at a time, each until it is confirmed, with a new publisher after each failure.
async fn publish_through_faults(broker: &RabbitMqBroker, numbers: std::ops::Range<usize>) {
    let mut publisher = None;
    for first in numbers.clone().step_by(100) {
        let batch = messages(0, first..(first + 100).min(numbers.end));
        loop {
            if publisher.is_none() {
                publisher = broker.publisher().await.ok();
            }
            match &mut publisher {
                Some(open) => match open.publish(batch.clone()).await {
                    Ok(()) => break,
                    Err(_) => publisher = None,
                },
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// Subscribes and consumes until every number was seen, over faults.
async fn consume_through_faults(broker: &RabbitMqBroker, numbers: std::ops::Range<usize>) {
    let mut missing: std::collections::BTreeSet<usize> = numbers.collect();
    while !missing.is_empty() {
        let Ok(mut subscription) = broker.subscribe(&group("group"), Partition(0)).await else {
            continue;
        };
        while let Ok(batch) = subscription.next_batch(100, Duration::from_secs(1)).await {
            let Some(last) = batch.last() else { continue };
            if subscription.acknowledge(last.tag).await.is_err() {
                break;
            }
            for delivery in &batch {
                missing.remove(&number(delivery));
            }
            if missing.is_empty() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_down_at_start_is_used_when_it_comes_up() {
    let server = RabbitMq::start().await;
    server.stop().await;
    let broker = RabbitMqBroker::new(&server.url()).unwrap();
    for _ in 0..2 {
        let down = timeout(CONNECT_BOUND, broker.publisher())
            .await
            .expect("within the bound")
            .err();
        assert!(matches!(down, Some(Error::Unavailable(_))), "{down:?}");
    }
    let down = timeout(CONNECT_BOUND, broker.check())
        .await
        .expect("within the bound");
    assert!(matches!(down, Err(Error::Unavailable(_))), "{down:?}");
    server.restart().await;
    broker.check().await.expect("up");
    let mut subscription = subscribe(&broker, "group", 0).await;
    publish(&broker, messages(0, 0..10)).await;
    assert_eq!(
        consume(subscription.as_mut(), 10).await,
        (0..10).collect::<Vec<_>>()
    );
    broker.close().await;
}

#[tokio::test]
async fn no_confirmed_message_is_lost_when_the_broker_is_killed_stopped_and_cut_off_under_load() {
    let server = RabbitMq::start().await;
    let broker = RabbitMqBroker::new(&server.url()).unwrap();
    let mut idle = subscribe(&broker, "idle", 1).await;
    drop(subscribe(&broker, "group", 0).await);
    let numbers = 0..20_000;
    let publishing = tokio::spawn({
        let (broker, numbers) = (broker.clone(), numbers.clone());
        async move { publish_through_faults(&broker, numbers).await }
    });
    let consuming = tokio::spawn({
        let (broker, numbers) = (broker.clone(), numbers.clone());
        async move { consume_through_faults(&broker, numbers).await }
    });
    server.drop_connections().await;
    fails(idle.as_mut()).await;
    server.stop_app().await;
    server.start_app().await;
    // Killed last: RabbitMQ 3.10 loses a queue that is killed within a second of being declared, and an orderly stop
    // puts the declaration on disk.
    server.kill().await;
    server.restart().await;
    timeout(2 * DEADLINE, publishing)
        .await
        .expect("all confirmed")
        .unwrap();
    timeout(2 * DEADLINE, consuming)
        .await
        .expect("all seen")
        .unwrap();
    broker.close().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_fails_every_subscription_on_it_and_none_of_another_handle() {
    let server = RabbitMq::start().await;
    let broker = RabbitMqBroker::new(&server.url()).unwrap();
    let mut one = subscribe(&broker, "group", 0).await;
    let mut two = subscribe(&broker, "group", 1).await;
    let mut publisher = broker.publisher().await.unwrap();
    server.drop_connections().await;
    fails(one.as_mut()).await;
    fails(two.as_mut()).await;
    assert!(one.acknowledge(1).await.is_err());
    publisher
        .publish(vec![message(0, 1)])
        .await
        .expect_err("its connection is gone");
    // What is built anew works beside the failed handles.
    let mut again = subscribe(&broker, "group", 0).await;
    publish(&broker, messages(0, 0..3)).await;
    assert_eq!(consume(again.as_mut(), 3).await, [0, 1, 2]);
    broker.close().await;
}

#[tokio::test]
async fn a_blocked_publisher_fails_in_time_and_recovers_while_consumers_go_on() {
    let server = RabbitMq::start().await;
    let confirm_timeout = Duration::from_secs(2);
    let options = RabbitMqOptions {
        confirm_timeout,
        ..RabbitMqOptions::default()
    };
    let broker = RabbitMqBroker::with_options(&server.url(), options).unwrap();
    let mut subscription = subscribe(&broker, "group", 0).await;
    let mut publisher = broker.publisher().await.unwrap();
    publisher.publish(messages(0, 0..1_000)).await.unwrap();
    server.block().await;
    for _ in 0..3 {
        let blocked = timeout(DEADLINE, publisher.publish(vec![message(0, 5_000)]))
            .await
            .expect("in time");
        assert!(
            matches!(&blocked, Err(Error::Unavailable(why)) if why.contains("block")),
            "{blocked:?}"
        );
        // The rebuilt publisher is blocked as well.
        publisher = broker.publisher().await.expect("connecting is not blocked");
    }
    assert_eq!(
        consume(subscription.as_mut(), 1_000).await,
        (0..1_000).collect::<Vec<_>>()
    );
    drop(publisher);
    // The blocked ones left nothing behind: what is left is the consumer's connection.
    eventually(DEADLINE, || async {
        server
            .rabbitmqctl(&["list_connections", "pid"])
            .await
            .lines()
            .filter(|line| line.starts_with('<'))
            .count()
            == 1
    })
    .await;
    server.unblock().await;
    publish(&broker, messages(0, 1_000..1_010)).await;
    // What was on its way when the alarm was raised may have arrived, too.
    while number(&take(subscription.as_mut(), 1).await[0]) != 1_009 {}
    broker.close().await;
}

#[tokio::test]
async fn a_purged_queue_goes_on_with_what_comes_next() {
    let server = RabbitMq::shared().await;
    let url = server.fresh_vhost().await;
    let broker = RabbitMqBroker::new(&url).unwrap();
    drop(subscribe(&broker, "group", 0).await);
    publish(&broker, messages(0, 0..100)).await;
    assert_eq!(server.purge_all_queues(&url).await, 1);
    let mut subscription = subscribe(&broker, "group", 0).await;
    assert_quiet(subscription.as_mut()).await;
    publish(&broker, messages(0, 100..105)).await;
    assert_eq!(
        consume(subscription.as_mut(), 5).await,
        (100..105).collect::<Vec<_>>()
    );
    broker.close().await;
}

#[tokio::test]
async fn a_deleted_queue_ends_its_subscription_alone_and_is_made_anew() {
    let url = RabbitMq::shared().await.fresh_vhost().await;
    let broker = RabbitMqBroker::new(&url).unwrap();
    let mut deleted = subscribe(&broker, "group", 0).await;
    let mut other = subscribe(&broker, "group", 1).await;
    let admin = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = admin.create_channel().await.unwrap();
    let name = queue_name(&group("group"), Partition(0));
    channel
        .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    admin.close(200, "done".into()).await.unwrap();

    let error = fails(deleted.as_mut()).await;
    assert!(error.to_string().contains(&name), "{error}");
    assert!(deleted.acknowledge(1).await.is_err());
    let mut anew = subscribe(&broker, "group", 0).await;
    publish(&broker, [messages(0, 0..3), messages(1, 0..3)].concat()).await;
    assert_eq!(consume(anew.as_mut(), 3).await, [0, 1, 2]);
    assert_eq!(consume(other.as_mut(), 3).await, [0, 1, 2]);
    broker.close().await;
}

#[tokio::test]
async fn a_queue_that_does_not_answer_fails_its_own_subscription_alone() {
    let server = RabbitMq::start().await;
    let broker = RabbitMqBroker::new(&server.url()).unwrap();
    drop(subscribe(&broker, "group", 0).await);
    let mut other = subscribe(&broker, "group", 1).await;
    let process = "{N, _} <- ra_directory:list_registered(quorum_queues), \
                   string:find(atom_to_list(N), \"group.0\") =/= nomatch";
    server
        .rabbitmqctl(&["eval", &format!("[sys:suspend(N) || {process}].")])
        .await;
    let name = group("group");
    let silent = timeout(CONNECT_BOUND, broker.subscribe(&name, Partition(0))).await;
    let silent = silent.expect("within the bound").err();
    assert!(matches!(silent, Some(Error::Unavailable(_))), "{silent:?}");
    publish(&broker, messages(1, 0..3)).await;
    assert_eq!(consume(other.as_mut(), 3).await, [0, 1, 2]);

    server
        .rabbitmqctl(&["eval", &format!("[sys:resume(N) || {process}].")])
        .await;
    let mut answers = eventually(DEADLINE, || broker.subscribe(&name, Partition(0))).await;
    publish(&broker, messages(0, 0..3)).await;
    assert_eq!(consume(answers.as_mut(), 3).await, [0, 1, 2]);
    broker.close().await;
}

#[tokio::test]
async fn a_closed_broker_leaves_no_connection_and_gives_no_new_handle() {
    let server = RabbitMq::start().await;
    let broker = RabbitMqBroker::new(&server.url()).unwrap();
    let subscription = subscribe(&broker, "group", 0).await;
    let publisher = broker.publisher().await.unwrap();
    broker.close().await;
    eventually(DEADLINE, || async {
        !server
            .rabbitmqctl(&["list_connections", "pid"])
            .await
            .contains('<')
    })
    .await;
    assert!(broker.publisher().await.is_err());
    drop((subscription, publisher));
}
