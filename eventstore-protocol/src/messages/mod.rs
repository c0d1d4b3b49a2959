//! The messages of EventStoreDB's gRPC protocol that are spoken here, with their field numbers. Written for this crate
//! from the protocol's facts; what is not served has no message. It refuses to interpret them.

pub(crate) mod append;
pub(crate) mod batch;
pub(crate) mod node;
pub(crate) mod read;

use std::collections::HashMap;

use prost::{Message, Oneof};
use uuid::Uuid;

/// An id: as two numbers or as text, as the client likes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Id {
    #[prost(oneof = "IdForm", tags = "1, 2")]
    pub form: Option<IdForm>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum IdForm {
    #[prost(message, tag = "1")]
    Numbers(IdNumbers),
    #[prost(string, tag = "2")]
    Text(String),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct IdNumbers {
    #[prost(int64, tag = "1")]
    pub most_significant: i64,
    #[prost(int64, tag = "2")]
    pub least_significant: i64,
}

impl Id {
    pub fn text(id: Uuid) -> Self {
        Self {
            form: Some(IdForm::Text(id.to_string())),
        }
    }

    pub fn numbers(id: Uuid) -> Self {
        let (most, least) = id.as_u64_pair();
        Self {
            form: Some(IdForm::Numbers(IdNumbers {
                most_significant: most as i64,
                least_significant: least as i64,
            })),
        }
    }

    /// The id, if it is one.
    pub fn uuid(&self) -> Option<Uuid> {
        match self.form.as_ref()? {
            IdForm::Text(text) => text.parse().ok(),
            IdForm::Numbers(numbers) => Some(Uuid::from_u64_pair(
                numbers.most_significant as u64,
                numbers.least_significant as u64,
            )),
        }
    }
}

/// A stream's name, as bytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StreamName {
    #[prost(bytes = "vec", tag = "3")]
    pub name: Vec<u8>,
}

impl From<&str> for StreamName {
    fn from(name: &str) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
        }
    }
}

/// A place in the whole log.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct LogPosition {
    #[prost(uint64, tag = "1")]
    pub commit: u64,
    #[prost(uint64, tag = "2")]
    pub prepare: u64,
}

impl LogPosition {
    /// Without transactions, both are the same.
    pub fn at(position: u64) -> Self {
        Self {
            commit: position,
            prepare: position,
        }
    }
}

/// An event that a client wants appended.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProposedEvent {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Id>,
    /// `type` and `content-type`.
    #[prost(map = "string, string", tag = "2")]
    pub properties: HashMap<String, String>,
    #[prost(bytes = "vec", tag = "3")]
    pub metadata: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub data: Vec<u8>,
}

/// The property that names an event's type.
pub(crate) const TYPE: &str = "type";
/// The property that names the form of an event's data.
pub(crate) const CONTENT_TYPE: &str = "content-type";
/// The property that tells when an event was recorded: 100 ns since 1970.
pub(crate) const CREATED: &str = "created";
/// The one form of data that is served.
pub(crate) const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_goes_there_and_back_in_both_forms() {
        let id = Uuid::from_u128(0xfedc_ba98_7654_3210_8899_aabb_ccdd_eeff);
        assert_eq!(Id::text(id).uuid(), Some(id));
        assert_eq!(Id::numbers(id).uuid(), Some(id));
        assert_eq!(Id { form: None }.uuid(), None);
    }
}
