//! Append: one call, one stream, one outcome.

use prost::{Message, Oneof};

use super::{LogPosition, ProposedEvent, StreamName};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AppendRequest {
    #[prost(oneof = "AppendPart", tags = "1, 2")]
    pub part: Option<AppendPart>,
}

/// The first part says where, the others what.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum AppendPart {
    #[prost(message, tag = "1")]
    Where(Where),
    #[prost(message, tag = "2")]
    Event(ProposedEvent),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Where {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<StreamName>,
    #[prost(oneof = "ExpectedState", tags = "2, 3, 4, 5")]
    pub expected: Option<ExpectedState>,
}

/// What the stream must be. The batch's counterpart has the same numbers.
#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum ExpectedState {
    #[prost(uint64, tag = "2")]
    Revision(u64),
    #[prost(message, tag = "3")]
    NoStream(()),
    #[prost(message, tag = "4")]
    Any(()),
    #[prost(message, tag = "5")]
    StreamExists(()),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct AppendAnswer {
    #[prost(oneof = "AppendResult", tags = "1, 2")]
    pub result: Option<AppendResult>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum AppendResult {
    #[prost(message, tag = "1")]
    Success(Success),
    #[prost(message, tag = "2")]
    WrongVersion(WrongVersion),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Success {
    #[prost(oneof = "Revision", tags = "1, 2")]
    pub revision: Option<Revision>,
    #[prost(oneof = "Place", tags = "3, 4")]
    pub place: Option<Place>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum Revision {
    #[prost(uint64, tag = "1")]
    Current(u64),
    #[prost(message, tag = "2")]
    NoStream(()),
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum Place {
    #[prost(message, tag = "3")]
    At(LogPosition),
    #[prost(message, tag = "4")]
    Nowhere(()),
}

impl Success {
    pub fn new(revision: u64, position: u64) -> Self {
        Self {
            revision: Some(Revision::Current(revision)),
            place: Some(Place::At(LogPosition::at(position))),
        }
    }
}

/// Says twice what is and what was expected: the first time as servers up to 20.6 did.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct WrongVersion {
    #[prost(oneof = "OldCurrent", tags = "1, 2")]
    pub old_current: Option<OldCurrent>,
    #[prost(oneof = "OldExpected", tags = "3, 4, 5")]
    pub old_expected: Option<OldExpected>,
    #[prost(oneof = "Current", tags = "6, 7")]
    pub current: Option<Current>,
    #[prost(oneof = "WasExpected", tags = "8, 9, 10, 11")]
    pub expected: Option<WasExpected>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum OldCurrent {
    #[prost(uint64, tag = "1")]
    Revision(u64),
    #[prost(message, tag = "2")]
    NoStream(()),
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum OldExpected {
    #[prost(uint64, tag = "3")]
    Revision(u64),
    #[prost(message, tag = "4")]
    Any(()),
    #[prost(message, tag = "5")]
    StreamExists(()),
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum Current {
    #[prost(uint64, tag = "6")]
    Revision(u64),
    #[prost(message, tag = "7")]
    NoStream(()),
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum WasExpected {
    #[prost(uint64, tag = "8")]
    Revision(u64),
    #[prost(message, tag = "9")]
    Any(()),
    #[prost(message, tag = "10")]
    StreamExists(()),
    #[prost(message, tag = "11")]
    NoStream(()),
}

impl WrongVersion {
    /// `current` is the stream's last revision, if it has one.
    pub fn new(current: Option<u64>, expected: ExpectedState) -> Self {
        let (old_expected, expected) = match expected {
            ExpectedState::Revision(r) => {
                (Some(OldExpected::Revision(r)), WasExpected::Revision(r))
            }
            ExpectedState::Any(()) => (Some(OldExpected::Any(())), WasExpected::Any(())),
            ExpectedState::StreamExists(()) => (
                Some(OldExpected::StreamExists(())),
                WasExpected::StreamExists(()),
            ),
            ExpectedState::NoStream(()) => (None, WasExpected::NoStream(())),
        };
        Self {
            old_current: Some(current.map_or(OldCurrent::NoStream(()), OldCurrent::Revision)),
            old_expected,
            current: Some(current.map_or(Current::NoStream(()), Current::Revision)),
            expected: Some(expected),
        }
    }
}
