//! BatchAppend: many appends in one call, each with an outcome of its own.

use prost::{Message, Oneof};
use prost_types::Any;

use super::append::ExpectedState;
use super::{Id, ProposedEvent, StreamName};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchRequest {
    #[prost(message, optional, tag = "1")]
    pub correlation: Option<Id>,
    /// On an append's first part.
    #[prost(message, optional, tag = "2")]
    pub target: Option<Target>,
    #[prost(message, repeated, tag = "3")]
    pub events: Vec<ProposedEvent>,
    /// This part is the append's last.
    #[prost(bool, tag = "4")]
    pub last: bool,
}

/// The deadline that clients send along (fields 6 and 7) is left out: nothing waits longer than the store's own bounds.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Target {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<StreamName>,
    #[prost(oneof = "ExpectedState", tags = "2, 3, 4, 5")]
    pub expected: Option<ExpectedState>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BatchAnswer {
    #[prost(message, optional, tag = "1")]
    pub correlation: Option<Id>,
    #[prost(oneof = "BatchResult", tags = "2, 3")]
    pub result: Option<BatchResult>,
    #[prost(message, optional, tag = "4")]
    pub stream: Option<StreamName>,
    #[prost(oneof = "WasExpected", tags = "5, 6, 7, 8")]
    pub expected: Option<WasExpected>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum BatchResult {
    #[prost(message, tag = "2")]
    Error(Failure),
    #[prost(message, tag = "3")]
    Success(super::append::Success),
}

/// `google.rpc.Status`, with one detail.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Failure {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, optional, tag = "3")]
    pub detail: Option<Any>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum WasExpected {
    #[prost(uint64, tag = "5")]
    Revision(u64),
    #[prost(message, tag = "6")]
    NoStream(()),
    #[prost(message, tag = "7")]
    Any(()),
    #[prost(message, tag = "8")]
    StreamExists(()),
}

impl From<ExpectedState> for WasExpected {
    fn from(expected: ExpectedState) -> Self {
        match expected {
            ExpectedState::Revision(r) => Self::Revision(r),
            ExpectedState::NoStream(()) => Self::NoStream(()),
            ExpectedState::Any(()) => Self::Any(()),
            ExpectedState::StreamExists(()) => Self::StreamExists(()),
        }
    }
}

/// What the detail of a wrong expected version says.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct WrongVersionDetail {
    #[prost(oneof = "super::append::Revision", tags = "1, 2")]
    pub current: Option<super::append::Revision>,
    #[prost(oneof = "DetailExpected", tags = "3, 4, 5, 6")]
    pub expected: Option<DetailExpected>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum DetailExpected {
    #[prost(uint64, tag = "3")]
    Revision(u64),
    #[prost(message, tag = "4")]
    Any(()),
    #[prost(message, tag = "5")]
    StreamExists(()),
    #[prost(message, tag = "6")]
    NoStream(()),
}

/// What the detail of a malformed append says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct BadRequestDetail {
    #[prost(string, tag = "1")]
    pub message: String,
}

/// What the detail of an append that is too large says.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct TooLargeDetail {
    #[prost(uint32, tag = "1")]
    pub most_bytes: u32,
}

/// A detail without fields, such as that of a refused credential.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct EmptyDetail {}

/// The detail's message under its name in the protocol.
pub(crate) fn detail(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/event_store.client.{name}"),
        value: message.encode_to_vec(),
    }
}

impl From<ExpectedState> for DetailExpected {
    fn from(expected: ExpectedState) -> Self {
        match expected {
            ExpectedState::Revision(r) => Self::Revision(r),
            ExpectedState::NoStream(()) => Self::NoStream(()),
            ExpectedState::Any(()) => Self::Any(()),
            ExpectedState::StreamExists(()) => Self::StreamExists(()),
        }
    }
}
