//! The courier between the log and the projector: a port, its adapters (in-process and RabbitMQ), and the relay that
//! follows the log and publishes. It refuses to be a store: whatever it loses is read from the log.

pub mod asyncapi;

mod memory;
pub mod metrics;
mod port;
mod rabbitmq;
mod relay;

use std::sync::Arc;

pub use memory::MemoryBroker;
pub use port::{Broker, Delivery, Depth, Envelope, Error, Group, Publisher, Subscription, Target};
pub use rabbitmq::{EXCHANGE, RabbitMqBroker, RabbitMqOptions, queue_name};
pub use relay::{LEASE, Relay, RelayOptions, RelayStatus};

/// The broker a URL names: `memory:`, `amqp://…` or `amqps://…`. Connects only when it is used, so it fails on a wrong
/// setting alone, never because the broker is down.
#[expect(
    clippy::unused_async,
    reason = "opening a store is async everywhere; another adapter may need it"
)]
pub async fn open(url: &str) -> Result<Arc<dyn Broker>, Error> {
    // Only the scheme is ever repeated: the rest may hold a password.
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(MemoryBroker::new())),
        Some(("memory", _)) => Err(Error::Invalid(
            "the in-process broker takes no address: write memory:".into(),
        )),
        Some(("amqp" | "amqps", _)) => Ok(Arc::new(RabbitMqBroker::new(url)?)),
        other => Err(Error::Invalid(format!(
            "the broker {:?} is not known: write memory:, amqp://USER:PASSWORD@HOST:5672 or amqps://USER:PASSWORD@HOST:5671",
            other.map_or("", |(scheme, _)| scheme),
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_setting_is_refused_with_what_to_write_and_without_the_password() {
        for url in [
            "",
            "localhost",
            "redis://u:secret@h",
            "memory://x",
            "amqp://u:secret@host:99999",
            "amqp://u:secret@host:5672/",
        ] {
            match open(url).await {
                Err(Error::Invalid(message)) => {
                    assert!(message.contains("write"), "{message}");
                    assert!(!message.contains("secret"), "{message}");
                }
                Err(other) => panic!("{url}: {other}"),
                Ok(_) => panic!("{url} was accepted"),
            }
        }
    }

    #[tokio::test]
    async fn opening_does_not_need_the_broker_to_be_up() {
        for url in [
            "memory:",
            "amqp://127.0.0.1:1",
            "amqps://user:secret@127.0.0.1:1/%2f?heartbeat=5",
        ] {
            assert!(open(url).await.is_ok(), "{url}");
        }
    }
}
