//! What is declared in RabbitMQ, and its names. A name carries a version: whatever of a declaration changes, its version
//! is raised, since RabbitMQ refuses to redeclare under the old name.

use std::sync::Arc;

use events::Partition;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};

use super::RabbitMqOptions;
use super::link::Link;
use crate::port::{Error, Group, QueueDepth};

/// The topic exchange that every message is published to.
pub const EXCHANGE: &str = "showcaller.events.v1";

/// The queue of a partition for a projector group.
pub fn queue_name(group: &Group, partition: Partition) -> String {
    format!("showcaller.{}.{partition}.v1", group.name)
}

/// Declares the exchange.
pub(super) async fn declare_exchange(link: &Link, channel: &Channel) -> Result<(), Error> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let declared = channel.exchange_declare(
        EXCHANGE.into(),
        ExchangeKind::Topic,
        options,
        FieldTable::default(),
    );
    link.ask("declare the exchange", declared).await
}

/// Declares a partition's queue and binds it; returns its name.
pub(super) async fn declare_queue(
    link: &Link,
    channel: &Channel,
    options: &RabbitMqOptions,
    group: &Group,
    partition: Partition,
) -> Result<String, Error> {
    let name = queue_name(group, partition);
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert("x-single-active-consumer".into(), true.into());
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("drop-head".into()),
    );
    arguments.insert(
        "x-max-length".into(),
        AMQPValue::LongLongInt(options.max_length.into()),
    );
    arguments.insert(
        "x-max-length-bytes".into(),
        AMQPValue::LongLongInt(options.max_length_bytes.into()),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(name.as_str().into(), durable, arguments);
    link.ask("declare the queue", declared).await?;
    let bound = channel.queue_bind(
        name.as_str().into(),
        EXCHANGE.into(),
        format!("{partition}.#").into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    link.ask("bind the queue", bound).await?;
    Ok(name)
}

/// How a group's queues stand. Asking for one that is not there costs a channel, and it is left out.
pub(super) async fn queues(
    link: &Arc<Link>,
    group: &Group,
    partitions: u16,
) -> Result<Vec<QueueDepth>, Error> {
    let mut channel = link.channel().await?;
    let mut found = Vec::with_capacity(partitions.into());
    for partition in (0..partitions).map(Partition) {
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = queue_name(group, partition);
        let asked = channel.queue_declare(name.as_str().into(), passive, FieldTable::default());
        match link.ask("look at a queue", asked).await {
            Ok(queue) => found.push(QueueDepth {
                partition,
                ready: queue.message_count().into(),
                consumers: queue.consumer_count().into(),
            }),
            Err(error) => {
                // RabbitMQ answers by closing the channel; anything else is a fault.
                link.check()?;
                if channel.status().connected() {
                    return Err(error);
                }
                channel = link.channel().await?;
            }
        }
    }
    Arc::clone(link).close_channel(channel, ());
    Ok(found)
}
