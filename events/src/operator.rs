//! What operators did at a terminal, where no token says who they are: the record that they looked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DomainEvent, EventTypes};

/// The category of these streams: `operator-{name of the system's user}`.
pub const CATEGORY: &str = "operator";

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// Personal data was opened for somebody's eyes. Written before anything is shown.
    PersonalDataRevealed {
        /// The system's user, by name if it has one.
        os_user: String,
        /// Its number.
        uid: u32,
        /// The number of the user who logged in to the machine, where it is another (`sudo`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login_uid: Option<u32>,
        /// The verb that was given, like `streams show`.
        verb: String,
        /// What it was given for: a stream, or a selection of the log.
        subject: String,
    },
}

impl DomainEvent for Event {
    fn described() -> Option<EventTypes> {
        Some(EventTypes::of::<Self>())
    }
}
