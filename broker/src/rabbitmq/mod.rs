//! RabbitMQ through lapin. Publishing and consuming have connections of their own, every wait is bounded, and whatever
//! fails is dropped whole and built anew by its user: lapin's own recovery is not used, and no handle is ever mended.

mod link;
mod publisher;
mod settings;
mod subscription;
mod topology;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use events::Partition;
use lapin::uri::AMQPUri;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::port::{Broker, Depth, Error, Group, Publisher, Subscription, Target};
use link::Link;
use publisher::RabbitMqPublisher;
use subscription::RabbitMqSubscription;
pub use topology::{EXCHANGE, queue_name};

/// The bounds of queues and subscriptions. The default is for production; a test makes them small.
#[derive(Debug, Clone)]
pub struct RabbitMqOptions {
    /// The most messages that wait in a queue; more push out the oldest. Part of a queue's declaration: a queue that
    /// exists with another bound is refused by RabbitMQ until it is deleted.
    pub max_length: u32,
    /// The most bytes that wait in a queue, likewise.
    pub max_length_bytes: u32,
    /// The most unacknowledged messages of a subscription.
    pub prefetch: u16,
    /// How long the broker may take to confirm a message before the publisher fails.
    pub confirm_timeout: Duration,
}

impl Default for RabbitMqOptions {
    fn default() -> Self {
        Self {
            max_length: 50_000,
            max_length_bytes: 128 * 1024 * 1024,
            prefetch: 500,
            confirm_timeout: Duration::from_secs(10),
        }
    }
}

/// How long `close` waits for the goodbyes of all channels, and then of all connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A RabbitMQ server (or cluster, behind one address). Connects when it is used. Cloning is cheap, and clones share the
/// consuming connection.
#[derive(Clone)]
pub struct RabbitMqBroker {
    shared: Arc<Shared>,
}

struct Shared {
    uri: AMQPUri,
    options: RabbitMqOptions,
    /// The connection that all subscriptions of this process are channels of.
    consuming: tokio::sync::Mutex<Option<Arc<Link>>>,
    /// Every connection that may be open, to be closed at the end.
    links: Mutex<Vec<Weak<Link>>>,
    /// Goodbyes under way.
    goodbyes: TaskTracker,
}

impl RabbitMqBroker {
    /// For the server at `url`: `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://` for TLS. Without a path, the
    /// virtual host is `/`. Fails on a wrong URL only.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::with_options(url, RabbitMqOptions::default())
    }

    /// As [`new`](Self::new), with other bounds.
    pub fn with_options(url: &str, options: RabbitMqOptions) -> Result<Self, Error> {
        let shared = Shared {
            uri: settings::parse(url)?,
            options,
            consuming: tokio::sync::Mutex::default(),
            links: Mutex::default(),
            goodbyes: TaskTracker::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    async fn connect(&self, purpose: &str) -> Result<Arc<Link>, Error> {
        if self.shared.goodbyes.is_closed() {
            return Err(Error::Unavailable("this handle was closed".into()));
        }
        let link =
            Arc::new(Link::open(&self.shared.uri, purpose, self.shared.goodbyes.clone()).await?);
        let mut links = self
            .shared
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
        Ok(link)
    }

    /// The connection for subscriptions: the one there is, or a new one. Those that come at once wait for the first.
    async fn consuming(&self) -> Result<Arc<Link>, Error> {
        let mut slot = self.shared.consuming.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.check().is_ok()) {
            return Ok(link.clone());
        }
        *slot = None;
        let link = self.connect("consumer").await?;
        *slot = Some(link.clone());
        Ok(link)
    }

    fn links(&self) -> Vec<Arc<Link>> {
        let links = self
            .shared
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        links.iter().filter_map(Weak::upgrade).collect()
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Error> {
        let link = self.connect("publisher").await?;
        Ok(Box::new(
            RabbitMqPublisher::open(link, self.shared.options.confirm_timeout).await?,
        ))
    }

    async fn publisher_to(&self, target: &Target) -> Result<Box<dyn Publisher>, Error> {
        let link = self.connect("replay").await?;
        let wait = self.shared.options.confirm_timeout;
        Ok(Box::new(
            RabbitMqPublisher::open_to(link, target, wait).await?,
        ))
    }

    async fn depth(&self, group: &Group, partition: Partition) -> Result<Option<Depth>, Error> {
        group.check()?;
        let link = self.consuming().await?;
        topology::depth(link, group, partition).await
    }

    async fn subscribe(
        &self,
        group: &Group,
        partition: Partition,
    ) -> Result<Box<dyn Subscription>, Error> {
        group.check()?;
        let link = self.consuming().await?;
        Ok(Box::new(
            RabbitMqSubscription::open(link, &self.shared.options, group, partition).await?,
        ))
    }

    async fn check(&self) -> Result<(), Error> {
        // A connection that is up has proved it by its heartbeats; without one, the attempt to get one is the proof.
        let links = self.links();
        if let Some(blocked) = links.iter().find_map(|link| link.blocked()) {
            return Err(blocked);
        }
        if links.iter().any(|link| link.check().is_ok()) {
            return Ok(());
        }
        self.consuming().await.map(drop)
    }

    async fn close(&self) {
        // Channels first: a connection that closes under them would make errors of their goodbyes.
        self.shared.goodbyes.close();
        let _ = timeout(CLOSE_TIMEOUT, self.shared.goodbyes.wait()).await;
        self.links().iter().for_each(|link| link.say_goodbye(()));
        self.shared.consuming.lock().await.take();
        let _ = timeout(CLOSE_TIMEOUT, self.shared.goodbyes.wait()).await;
    }
}
