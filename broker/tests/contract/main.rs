//! What every broker promises, on every broker; what RabbitMQ adapters must bear; and the relay between real servers.

mod faults;
mod relay;
mod suite;
mod support;
mod wire;
