//! The vocabulary of Showcaller: ids, positions, envelopes, hashes, the form of personal data, and the events of the
//! built-in domain. It is pure: it names no I/O crate, reads no clock and draws no random number.

mod cloudevents;
mod domain;
mod envelope;
mod hash;
mod ids;
mod personal;
mod types;

pub mod account;
pub mod api_key;
pub mod operator;
pub mod projection;
pub mod session;

pub use cloudevents::{Heartbeat, Message, MessageError};
pub use domain::{DecodeError, DomainEvent, without_request};
pub use envelope::{Actor, Metadata, NewEvent, RecordedEvent};
pub use hash::{Digest, Hash, chain, partition_of};
pub use ids::{
    Category, CommandId, EventId, InvalidId, LogIdentity, Partition, Position, StreamId, Version,
};
pub use personal::{Ciphertext, PERSONAL_MARKER, Personal};
pub use types::{EventType, EventTypes, envelope_schemas};
