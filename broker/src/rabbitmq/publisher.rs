//! Publishing with pipelined confirms. It refuses to guess: a batch is confirmed whole or failed whole, and after a
//! failure the connection is gone.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::timeout;

use super::link::{Link, unavailable};
use super::topology::{EXCHANGE, declare_exchange, must_exist, short};
use crate::port::{Envelope, Error, Publisher, TRACEPARENT, Target, partition_of_key};

/// Channels to publish on: the broker works on them in parallel. A partition stays on one, which keeps its order.
const LANES: usize = 4;
/// The most messages on their way without a confirm.
const WINDOW: usize = 1_000;
/// AMQP's delivery mode for messages that a queue writes to disk.
const PERSISTENT: u8 = 2;

type Confirm<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

pub(super) struct RabbitMqPublisher {
    link: Arc<Link>,
    lanes: Vec<Channel>,
    exchange: ShortString,
    /// The routing key of all messages, where it is not their own: AMQP's nameless exchange takes the name of a queue.
    queue: Option<ShortString>,
    confirm_timeout: Duration,
}

impl RabbitMqPublisher {
    pub(super) async fn open(link: Arc<Link>, confirm_timeout: Duration) -> Result<Self, Error> {
        let publisher = Self::open_at(link, EXCHANGE.into(), None, confirm_timeout).await?;
        declare_exchange(&publisher.link, &publisher.lanes[0]).await?;
        Ok(publisher)
    }

    /// Publishes to a place that is there already.
    pub(super) async fn open_to(
        link: Arc<Link>,
        target: &Target,
        confirm_timeout: Duration,
    ) -> Result<Self, Error> {
        must_exist(&link, &link.channel().await?, target).await?;
        let (exchange, queue) = match target {
            Target::Exchange(name) => (short(name)?, None),
            Target::Queue(name) => ("".into(), Some(short(name)?)),
        };
        Self::open_at(link, exchange, queue, confirm_timeout).await
    }

    async fn open_at(
        link: Arc<Link>,
        exchange: ShortString,
        queue: Option<ShortString>,
        confirm_timeout: Duration,
    ) -> Result<Self, Error> {
        let mut lanes = Vec::with_capacity(LANES);
        for _ in 0..LANES {
            let channel = link.channel().await?;
            let selected = channel.confirm_select(ConfirmSelectOptions::default());
            link.ask("turn on publisher confirms", selected).await?;
            lanes.push(channel);
        }
        Ok(Self {
            link,
            lanes,
            exchange,
            queue,
            confirm_timeout,
        })
    }

    fn check(&self) -> Result<(), Error> {
        self.link.check()?;
        if self
            .lanes
            .iter()
            .all(|channel| channel.status().connected())
        {
            return Ok(());
        }
        Err(Error::Unavailable("a publishing channel was closed".into()))
    }

    async fn publish_all(&self, batch: &[Envelope]) -> Result<(), Error> {
        let mut outstanding = VecDeque::with_capacity(WINDOW.min(batch.len()));
        for envelope in batch {
            if outstanding.len() == WINDOW {
                self.settle_oldest(&mut outstanding).await?;
            }
            let partition =
                partition_of_key(&envelope.routing_key).map_or(0, |partition| partition.0);
            let lane = &self.lanes[usize::from(partition) % self.lanes.len()];
            let mut confirm: Confirm<'_> = Box::pin(self.publish_one(lane, envelope));
            // The first poll hands the message to the connection: done here, in order, and not left to chance.
            match futures::poll!(confirm.as_mut()) {
                Poll::Ready(result) => result?,
                Poll::Pending => outstanding.push_back(confirm),
            }
        }
        while !outstanding.is_empty() {
            self.settle_oldest(&mut outstanding).await?;
        }
        Ok(())
    }

    async fn publish_one(&self, channel: &Channel, envelope: &Envelope) -> Result<(), Error> {
        let mut properties = BasicProperties::default()
            .with_content_type(envelope.content_type().into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(short(&envelope.message_id)?);
        if let Some(traceparent) = &envelope.traceparent {
            let mut headers = FieldTable::default();
            headers.insert(
                TRACEPARENT.into(),
                AMQPValue::LongString(traceparent.as_str().into()),
            );
            properties = properties.with_headers(headers);
        }
        let routing_key = match &self.queue {
            Some(queue) => queue.clone(),
            None => short(&envelope.routing_key)?,
        };
        let sent = channel.basic_publish(
            self.exchange.clone(),
            routing_key,
            BasicPublishOptions::default(),
            &envelope.body,
            properties,
        );
        let confirm = sent
            .await
            .map_err(|error| unavailable("cannot publish", &error))?;
        match confirm
            .await
            .map_err(|error| unavailable("cannot publish", &error))?
        {
            Confirmation::Ack(_) => Ok(()),
            refused => Err(Error::Unavailable(format!(
                "a message was not taken: {refused:?}"
            ))),
        }
    }

    async fn settle_oldest(&self, outstanding: &mut VecDeque<Confirm<'_>>) -> Result<(), Error> {
        let Some(oldest) = outstanding.pop_front() else {
            return Ok(());
        };
        match timeout(self.confirm_timeout, oldest).await {
            Ok(result) => result,
            Err(_) => Err(self.link.blocked().unwrap_or_else(|| {
                Error::Unavailable(format!(
                    "a message was not confirmed within {:?}",
                    self.confirm_timeout
                ))
            })),
        }
    }
}

#[async_trait]
impl Publisher for RabbitMqPublisher {
    async fn publish(&mut self, batch: Vec<Envelope>) -> Result<(), Error> {
        let result = match self.check() {
            Ok(()) => self.publish_all(&batch).await,
            lost => lost,
        };
        // What is still on its way would only come late, and confirms of it would be taken for those of others.
        result.inspect_err(|_| self.link.fail())
    }
}

impl Drop for RabbitMqPublisher {
    fn drop(&mut self) {
        self.link.say_goodbye(std::mem::take(&mut self.lanes));
    }
}
