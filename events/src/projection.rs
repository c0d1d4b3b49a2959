//! The events of a read model's operation: what operators asked for, one stream a read model. The projectors follow them
//! and do it; what became of it stands in the database of read models, and nowhere in the log.

use serde::{Deserialize, Serialize};

use crate::{DomainEvent, Position, StreamId};

/// The category of these streams: `projection-{read model}`.
pub const CATEGORY: &str = "projection";

/// What an operator asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// Another build beside the one that is live, to take its place.
    RebuildRequested {
        /// Only if their rows are the same.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        compare: bool,
    },
    /// The build that was asked for is not wanted any more.
    RebuildCancelled {},
    /// The build that was live before is to be live again.
    RollbackRequested {},
    /// Builds that are kept for going back to are not wanted any more.
    KeptBuildsDropped {},
    /// Parked streams are to be tried again: one, those whose error holds a text, or all.
    ParkedRetried {
        /// This one alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stream: Option<StreamId>,
        /// Those whose error holds this text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<String>,
    },
    /// An event that cannot be projected is left out, and those of its stream that follow are not held up by it.
    ParkedDiscarded {
        /// Its stream.
        stream: StreamId,
        /// Where it stands in the log.
        position: Position,
        /// Why, in the operator's words.
        reason: String,
    },
}

impl DomainEvent for Event {}
