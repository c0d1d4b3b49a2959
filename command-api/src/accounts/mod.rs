//! The built-in domain: accounts and the sessions their owners log in with. The decider is pure; what registering, logging
//! in and closing do around it (hashing, claims, tokens, ending sessions) stands in files of their own.

use events::StreamId;
use uuid::Uuid;

use crate::{Aggregate, CommandError};

pub mod decider;
pub(crate) mod host;
pub(crate) mod log_in;
mod parse;
pub(crate) mod register;
mod sessions;

pub use decider::{Account, Command, Refusal, Status};

/// The stream of one of the built-in aggregates.
fn stream_of<A: Aggregate>(id: Uuid) -> Result<StreamId, CommandError> {
    StreamId::new(A::CATEGORY, &id.to_string()).map_err(CommandError::fault)
}
