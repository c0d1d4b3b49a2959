//! Consuming one partition's queue on a channel of its own. It refuses to go on after anything unexpected: a channel that
//! closed, a consumer that was cancelled or a connection that is lost is an error, and the user subscribes anew.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use events::Partition;
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use tokio::time::{Instant, timeout_at};

use super::RabbitMqOptions;
use super::link::Link;
use super::topology::{declare_exchange, declare_queue};
use crate::port::{Delivery, Error, Group, Subscription, TRACEPARENT};

/// How often a subscription that waits looks whether its connection is still up.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct RabbitMqSubscription {
    link: Arc<Link>,
    channel: Channel,
    consumer: Option<Consumer>,
    queue: String,
    /// Why nothing more comes.
    ended: Option<String>,
}

impl RabbitMqSubscription {
    pub(super) async fn open(
        link: Arc<Link>,
        options: &RabbitMqOptions,
        group: &Group,
        partition: Partition,
    ) -> Result<Self, Error> {
        let channel = link.channel().await?;
        match consume(&link, &channel, options, group, partition).await {
            Ok((queue, consumer)) => Ok(Self {
                link,
                channel,
                consumer: Some(consumer),
                queue,
                ended: None,
            }),
            Err(error) => {
                // An answer that comes late would leave a consumer behind that is active and that nobody reads.
                link.close_channel(channel, ());
                Err(error)
            }
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.link.check()?;
        if let Some(reason) = &self.ended {
            return Err(Error::Unavailable(format!(
                "nothing more comes from {}: {reason}",
                self.queue
            )));
        }
        if !self.channel.status().connected() {
            return Err(Error::Unavailable(format!(
                "the channel of {} was closed",
                self.queue
            )));
        }
        Ok(())
    }

    /// Takes in what the consumer yielded; what ends it is kept for the next [`check`](Self::check).
    fn take(
        &mut self,
        item: Option<lapin::Result<lapin::message::Delivery>>,
        batch: &mut Vec<Delivery>,
    ) {
        match item {
            Some(Ok(delivery)) => batch.push(convert(delivery)),
            Some(Err(error)) => self.ended = Some(error.to_string()),
            None => self.ended = Some("the broker cancelled the consumer".into()),
        }
    }

    async fn next(&mut self) -> Option<lapin::Result<lapin::message::Delivery>> {
        match &mut self.consumer {
            Some(consumer) => consumer.next().await,
            None => None,
        }
    }
}

#[async_trait]
impl Subscription for RabbitMqSubscription {
    async fn next_batch(&mut self, max: usize, patience: Duration) -> Result<Vec<Delivery>, Error> {
        let deadline = Instant::now() + patience;
        let mut batch = Vec::new();
        while batch.is_empty() {
            self.check()?;
            let slice = deadline.min(Instant::now() + STATUS_INTERVAL);
            match timeout_at(slice, self.next()).await {
                Ok(item) => self.take(item, &mut batch),
                Err(_) if slice < deadline => {}
                Err(_) => return self.check().map(|()| batch),
            }
        }
        while batch.len() < max && self.ended.is_none() {
            let Some(item) = self.next().now_or_never() else {
                break;
            };
            self.take(item, &mut batch);
        }
        Ok(batch)
    }

    async fn acknowledge(&mut self, tag: u64) -> Result<(), Error> {
        self.check()?;
        let acknowledged = self
            .channel
            .basic_ack(tag, BasicAckOptions { multiple: true });
        self.link.ask("acknowledge", acknowledged).await
    }
}

impl Drop for RabbitMqSubscription {
    fn drop(&mut self) {
        // The channel is closed before the consumer is dropped: a consumer dropped first cancels itself, and after a
        // cancel RabbitMQ does not keep the order of what it gives to the standby.
        self.link
            .clone()
            .close_channel(self.channel.clone(), self.consumer.take());
    }
}

/// Declares the queue and consumes it.
async fn consume(
    link: &Link,
    channel: &Channel,
    options: &RabbitMqOptions,
    group: &Group,
    partition: Partition,
) -> Result<(String, Consumer), Error> {
    declare_exchange(link, channel).await?;
    let queue = declare_queue(link, channel, options, group, partition).await?;
    let limited = channel.basic_qos(options.prefetch, BasicQosOptions::default());
    link.ask("set the prefetch", limited).await?;
    let consuming = channel.basic_consume(
        queue.as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let consumer = link.ask(&format!("consume {queue}"), consuming).await?;
    Ok((queue, consumer))
}

fn convert(delivery: lapin::message::Delivery) -> Delivery {
    let header = delivery
        .properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get(TRACEPARENT));
    let traceparent = match header {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        Some(AMQPValue::ShortString(text)) => Some(text.to_string()),
        _ => None,
    };
    Delivery {
        tag: delivery.delivery_tag,
        routing_key: delivery.routing_key.to_string(),
        traceparent,
        body: delivery.data,
    }
}
