//! The courier between the log and the projector: a port, its adapters (in-process and RabbitMQ), and the relay that
//! follows the log and publishes. It refuses to be a store: whatever it loses is read from the log.

mod port;

pub use port::{Broker, Delivery, Error, Envelope, Group, Publisher, Subscription};
