//! What is declared in RabbitMQ, and its names. A name carries a version: whatever of a declaration changes, its version
//! is raised, since RabbitMQ refuses to redeclare under the old name.

use std::sync::Arc;

use events::Partition;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind, Queue};

use super::RabbitMqOptions;
use super::link::Link;
use crate::port::{Depth, Error, Group, Target};

/// The topic exchange that every message is published to.
pub const EXCHANGE: &str = "showcaller.events.v1";

/// The queue of a partition for a projector group.
pub fn queue_name(group: &Group, partition: Partition) -> String {
    format!("showcaller.{}.{partition}.v1", group.name)
}

/// How a group's queue stands, by a passive declaration: it changes nothing. One that is missing closes its channel.
pub(super) async fn depth(
    link: Arc<Link>,
    group: &Group,
    partition: Partition,
) -> Result<Option<Depth>, Error> {
    let channel = link.channel().await?;
    let seen = seen_queue(&link, &channel, &queue_name(group, partition)).await;
    link.clone().close_channel(channel, ());
    match seen {
        Ok(queue) => Ok(Some(Depth {
            messages: queue.message_count(),
            consumers: queue.consumer_count(),
        })),
        Err(error) => link.check().map_err(|_| error).map(|()| None),
    }
}

/// Refuses a place that nobody declared: messages sent there would be confirmed and lost.
pub(super) async fn must_exist(
    link: &Link,
    channel: &Channel,
    target: &Target,
) -> Result<(), Error> {
    let seen = match target {
        Target::Queue(name) => seen_queue(link, channel, name).await.map(drop),
        Target::Exchange(name) => {
            let passive = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let kind = ExchangeKind::Topic;
            let name = short(name)?;
            let declared = channel.exchange_declare(name, kind, passive, FieldTable::default());
            link.ask("see the exchange", declared).await
        }
    };
    seen.map_err(|error| match link.check() {
        Ok(()) => Error::Invalid(format!(
            "RabbitMQ shows no {} to this user; declare it, or correct the name ({error})",
            match target {
                Target::Exchange(name) => format!("exchange {name:?}"),
                Target::Queue(name) => format!("queue {name:?}"),
            }
        )),
        Err(_) => error,
    })
}

/// A name as AMQP sends it.
pub(super) fn short(text: &str) -> Result<ShortString, Error> {
    ShortString::try_new(text)
        .map_err(|error| Error::Invalid(format!("the name {text:?} cannot be sent: {error}")))
}

async fn seen_queue(link: &Link, channel: &Channel, name: &str) -> Result<Queue, Error> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(short(name)?, passive, FieldTable::default());
    link.ask("see the queue", declared).await
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
