//! Read: pages of a stream or of the log, once or as a subscription.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};
use prost_types::Timestamp;

use super::{Id, LogPosition, StreamName};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadRequest {
    #[prost(message, optional, tag = "1")]
    pub options: Option<ReadOptions>,
}

/// Fields 4 (links) and 10 (compatibility) change nothing here: there are no links.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadOptions {
    #[prost(oneof = "Source", tags = "1, 2")]
    pub source: Option<Source>,
    #[prost(enumeration = "Direction", tag = "3")]
    pub direction: i32,
    #[prost(oneof = "Extent", tags = "5, 6")]
    pub extent: Option<Extent>,
    #[prost(oneof = "FilterChoice", tags = "7, 8")]
    pub filter: Option<FilterChoice>,
    #[prost(message, optional, tag = "9")]
    pub id_form: Option<IdFormChoice>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Source {
    #[prost(message, tag = "1")]
    Stream(StreamSource),
    #[prost(message, tag = "2")]
    All(AllSource),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamSource {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<StreamName>,
    #[prost(oneof = "FromRevision", tags = "2, 3, 4")]
    pub from: Option<FromRevision>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum FromRevision {
    #[prost(uint64, tag = "2")]
    Revision(u64),
    #[prost(message, tag = "3")]
    Start(()),
    #[prost(message, tag = "4")]
    End(()),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct AllSource {
    #[prost(oneof = "FromPosition", tags = "1, 2, 3")]
    pub from: Option<FromPosition>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum FromPosition {
    #[prost(message, tag = "1")]
    Position(LogPosition),
    #[prost(message, tag = "2")]
    Start(()),
    #[prost(message, tag = "3")]
    End(()),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Direction {
    Forwards = 0,
    Backwards = 1,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum Extent {
    #[prost(uint64, tag = "5")]
    Count(u64),
    #[prost(message, tag = "6")]
    Subscription(()),
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum FilterChoice {
    #[prost(message, tag = "7")]
    Filter(FilterOptions),
    #[prost(message, tag = "8")]
    None(()),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilterOptions {
    #[prost(oneof = "FilterBy", tags = "1, 2")]
    pub by: Option<FilterBy>,
    #[prost(oneof = "Window", tags = "3, 4")]
    pub window: Option<Window>,
    /// After how many windows without a match a checkpoint is sent.
    #[prost(uint32, tag = "5")]
    pub checkpoint_interval: u32,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum FilterBy {
    #[prost(message, tag = "1")]
    Stream(Expression),
    #[prost(message, tag = "2")]
    Type(Expression),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Expression {
    #[prost(string, tag = "1")]
    pub regex: String,
    #[prost(string, repeated, tag = "2")]
    pub prefixes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum Window {
    #[prost(uint32, tag = "3")]
    Most(u32),
    #[prost(message, tag = "4")]
    Usual(()),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct IdFormChoice {
    #[prost(oneof = "WantedIdForm", tags = "1, 2")]
    pub form: Option<WantedIdForm>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum WantedIdForm {
    #[prost(message, tag = "1")]
    Numbers(()),
    #[prost(message, tag = "2")]
    Text(()),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadAnswer {
    #[prost(oneof = "Content", tags = "1, 2, 3, 4, 8")]
    pub content: Option<Content>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Content {
    #[prost(message, tag = "1")]
    Event(ReadEvent),
    #[prost(message, tag = "2")]
    Confirmation(Confirmation),
    #[prost(message, tag = "3")]
    Checkpoint(Checkpoint),
    #[prost(message, tag = "4")]
    StreamNotFound(NotFound),
    #[prost(message, tag = "8")]
    CaughtUp(CaughtUp),
}

impl From<Content> for ReadAnswer {
    fn from(content: Content) -> Self {
        Self {
            content: Some(content),
        }
    }
}

/// Field 2, the link that led to the event, is never set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadEvent {
    #[prost(message, optional, tag = "1")]
    pub event: Option<Recorded>,
    #[prost(oneof = "Commit", tags = "3, 4")]
    pub commit: Option<Commit>,
}

#[derive(Clone, Copy, PartialEq, Oneof)]
pub(crate) enum Commit {
    #[prost(uint64, tag = "3")]
    Position(u64),
    #[prost(message, tag = "4")]
    None(()),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Recorded {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Id>,
    #[prost(message, optional, tag = "2")]
    pub stream: Option<StreamName>,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    #[prost(uint64, tag = "4")]
    pub prepare: u64,
    #[prost(uint64, tag = "5")]
    pub commit: u64,
    #[prost(map = "string, string", tag = "6")]
    pub properties: HashMap<String, String>,
    #[prost(bytes = "vec", tag = "7")]
    pub metadata: Vec<u8>,
    #[prost(bytes = "vec", tag = "8")]
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Confirmation {
    #[prost(string, tag = "1")]
    pub subscription: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Checkpoint {
    #[prost(uint64, tag = "1")]
    pub commit: u64,
    #[prost(uint64, tag = "2")]
    pub prepare: u64,
    #[prost(message, optional, tag = "3")]
    pub at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NotFound {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<StreamName>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct CaughtUp {
    #[prost(message, optional, tag = "1")]
    pub at: Option<Timestamp>,
    #[prost(int64, optional, tag = "2")]
    pub revision: Option<i64>,
    #[prost(message, optional, tag = "3")]
    pub position: Option<LogPosition>,
}
