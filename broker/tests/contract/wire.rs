//! What a consumer of one's own sees, with nothing but an AMQP client.

use broker::{Broker, EXCHANGE, Envelope, Error, RabbitMqBroker, Target, queue_name};
use events::Partition;
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use test_support::RabbitMq;
use tokio::time::timeout;

use crate::support::{DEADLINE, consume, group, message, publish, subscribe};

#[tokio::test]
async fn a_foreign_consumer_binds_by_category_and_gets_a_persistent_cloudevent() {
    let url = RabbitMq::shared().await.fresh_vhost().await;
    let broker = RabbitMqBroker::new(&url).unwrap();
    publish(&broker, vec![]).await; // declares the exchange
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await
        .unwrap();
    let name = queue.name().clone();
    let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(
            name.clone(),
            EXCHANGE.into(),
            "*.test.*".into(),
            bind,
            none.clone(),
        )
        .await
        .unwrap();
    let consume = channel
        .basic_consume(name, "".into(), BasicConsumeOptions::default(), none)
        .await;
    let mut consumer = consume.unwrap();

    let heartbeat = Envelope {
        routing_key: "0.heartbeat".into(),
        ..message(0, 1)
    };
    let other = Envelope {
        routing_key: "0.account.Opened".into(),
        ..message(0, 2)
    };
    let traced = Envelope {
        traceparent: Some("00-aa-bb-01".into()),
        ..message(7, 3)
    };
    publish(&broker, vec![heartbeat, other, traced]).await;

    let delivery = timeout(DEADLINE, consumer.next())
        .await
        .expect("in time")
        .expect("one")
        .unwrap();
    assert_eq!(delivery.routing_key.as_str(), "7.test.Happened");
    let properties = &delivery.properties;
    assert_eq!(
        properties.content_type().as_ref().unwrap().as_str(),
        "application/cloudevents+json"
    );
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "7-3");
    assert_eq!(*properties.delivery_mode(), Some(2));
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(
        headers.get("traceparent"),
        Some(&AMQPValue::LongString("00-aa-bb-01".into()))
    );
    connection.close(200, "done".into()).await.unwrap();
    broker.close().await;
}

#[tokio::test]
async fn a_projector_queue_is_a_durable_quorum_queue_that_drops_its_oldest() {
    let server = RabbitMq::shared().await;
    let url = server.fresh_vhost().await;
    let vhost = url.rsplit_once('/').unwrap().1;
    let broker = RabbitMqBroker::new(&url).unwrap();
    let subscription = subscribe(&broker, "projector", 3).await;
    let columns = ["name", "durable", "type", "arguments"];
    let printed = server
        .rabbitmqctl(&[&["list_queues", "-p", vhost], &columns[..]].concat())
        .await;
    assert!(
        printed.contains(&queue_name(&group("projector"), Partition(3))),
        "{printed}"
    );
    for part in [
        "showcaller.projector.3.v1",
        "true",
        "quorum",
        "x-single-active-consumer",
        "drop-head",
        "x-max-length",
    ] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    assert!(!printed.contains("dead-letter"), "{printed}");
    let bindings = server
        .rabbitmqctl(&["list_bindings", "-p", vhost, "source_name", "routing_key"])
        .await;
    assert!(bindings.contains("3.#"), "{bindings}");
    drop(subscription);
    broker.close().await;
}

#[tokio::test]
async fn a_queue_or_exchange_of_others_is_published_to_if_it_exists_and_its_depth_is_seen() {
    let url = RabbitMq::shared().await.fresh_vhost().await;
    let broker = RabbitMqBroker::new(&url).unwrap();
    for missing in [Target::Queue("q".into()), Target::Exchange("x".into())] {
        match broker.publisher_to(&missing).await {
            Err(Error::Invalid(why)) => assert!(why.contains("declare it"), "{why}"),
            Err(other) => panic!("{missing:?}: {other}"),
            Ok(_) => panic!("{missing:?} was taken"),
        }
    }
    let projectors = group("projector");
    assert_eq!(broker.depth(&projectors, Partition(2)).await.unwrap(), None);
    let mut subscription = subscribe(&broker, "projector", 2).await;
    let queue = Target::Queue(queue_name(&projectors, Partition(2)));
    let mut publisher = broker.publisher_to(&queue).await.unwrap();
    // The key is another partition's: the queue gets it all the same.
    publisher.publish(vec![message(5, 1)]).await.unwrap();
    let exchange = Target::Exchange(EXCHANGE.into());
    let mut publisher = broker.publisher_to(&exchange).await.unwrap();
    let batch = vec![message(5, 2), message(2, 3)];
    publisher.publish(batch).await.unwrap();
    assert_eq!(consume(subscription.as_mut(), 2).await, [1, 3]);
    let depth = broker.depth(&projectors, Partition(2)).await.unwrap();
    assert_eq!(depth.map(|depth| depth.consumers), Some(1));
    broker.close().await;
}
