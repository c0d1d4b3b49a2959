//! The log served over EventStoreDB's gRPC protocol, so that programs in other languages append to it and read it with
//! the clients they have. Served are Streams (Read with subscriptions, Append, BatchAppend), ServerFeatures and Gossip;
//! everything else answers UNIMPLEMENTED. It refuses what the log cannot hold: data that is not JSON, streams without a
//! category, system streams.

#![expect(
    clippy::result_large_err,
    reason = "tonic's Status is what every call answers with; it is made once a refusal"
)]

mod access;
mod appending;
mod batching;
mod filter;
mod form;
mod messages;
mod node;
mod reading;
mod routes;
mod serve;
mod subscribing;

pub use access::{Access, Denied, Gate, OpenGate};
pub use serve::{Identity, Options, ServeError, serve};
