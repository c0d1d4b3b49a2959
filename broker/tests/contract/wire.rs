//! What a consumer of one's own sees, with nothing but an AMQP client.

use broker::{Broker, EXCHANGE, Envelope, RabbitMqBroker, queue_name};
use events::Partition;
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use test_support::RabbitMq;
use tokio::time::timeout;

use crate::support::{DEADLINE, group, message, publish, subscribe};

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
