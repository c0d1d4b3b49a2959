//! The built-in domain: accounts, and the sessions and API keys that their owners use. The deciders are pure; what stands
//! around them (hashing, claims, tokens, mail, what must be finished after a crash) is a file a subject.

use std::collections::BTreeMap;

use events::StreamId;
use uuid::Uuid;

use crate::api_key::ApiKey;
use crate::operation::Operation;
use crate::session::Session;
use crate::{Aggregate, CommandError, Decider, Folding, folding};

pub(crate) mod api_keys;
mod bodies;
pub mod decider;
pub(crate) mod describe;
mod email;
mod erasing;
mod errands;
mod exporting;
mod hashing;
pub(crate) mod host;
pub(crate) mod housekeeping;
pub(crate) mod log_in;
pub mod operator;
mod parse;
mod password;
pub(crate) mod people;
pub(crate) mod public;
pub(crate) mod register;
mod second_factor;
mod sessions;
mod shown;
pub(crate) mod throttle;

pub use decider::{Account, Command, Refusal, Status};
pub use housekeeping::UNVERIFIED;
pub use people::AccountSettings;
pub use second_factor::otpauth;

/// Makes an empty state for each category of the built-in domain, for operators who look at streams.
pub fn built_in_states() -> BTreeMap<&'static str, fn() -> Box<dyn Folding>> {
    let mut states: BTreeMap<&'static str, fn() -> Box<dyn Folding>> = BTreeMap::new();
    states.insert(Account::CATEGORY, folding::<Account>);
    states.insert(Session::CATEGORY, folding::<Session>);
    states.insert(ApiKey::CATEGORY, folding::<ApiKey>);
    states.insert(Operation::CATEGORY, folding::<Operation>);
    states
}

/// The stream of one of the built-in aggregates.
fn stream_of<A: Aggregate>(id: Uuid) -> Result<StreamId, CommandError> {
    StreamId::new(A::CATEGORY, &id.to_string()).map_err(CommandError::fault)
}

/// The person whose account stream it is.
fn person_of(stream: &StreamId) -> Option<Uuid> {
    (stream.category() == Account::CATEGORY)
        .then(|| stream.id().parse().ok())
        .flatten()
}
