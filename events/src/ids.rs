//! Identifiers and counters, parsed at the edge into types that cannot be wrong. Nothing here draws a random id.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest stream name accepted, in bytes.
const STREAM_BYTES: usize = 250;
/// The longest category accepted, in bytes: it is one word of an AMQP routing key, which ends at 255.
const CATEGORY_BYTES: usize = 64;

/// Why a text is not the id it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub(crate) String);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// From a number as stored; SQL's signed integers never exceed `i64::MAX`.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number itself.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The number as SQL stores it.
            pub const fn as_i64(self) -> i64 {
                self.0 as i64
            }

            /// From SQL's signed integer; a negative one (never written) reads as zero.
            pub const fn from_i64(number: i64) -> Self {
                Self(if number < 0 { 0 } else { number as u64 })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Where an event stands in the whole log: a total order. 0 is before the first. Gapless in SQL stores, sparse in
    /// EventStoreDB: only order may be relied on, so nobody adds or subtracts 1.
    Position
}
counter! {
    /// Where an event stands in its stream: 1 for the first, without gaps. 0 is an empty stream.
    Version
}

impl Version {
    /// The version `n` events later.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

/// One of the log's partitions, from 0. A stream belongs to one for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// An event's own id.
    EventId
}
uuid_id! {
    /// The id of the command that an append carries out; a store appends it once.
    CommandId
}

impl CommandId {
    /// The id of the command's `index`-th event: the same command always makes the same event ids.
    pub fn event_id(self, index: usize) -> EventId {
        EventId(self.derive(&format!("event/{index}")))
    }

    /// An id derived from this one for `purpose`, for example that of the stream it begins.
    pub fn derive(self, purpose: &str) -> Uuid {
        let hash = crate::hash::sha256(&[self.0.as_bytes(), purpose.as_bytes()]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// A stream's category: what stands before the first `-` of its name. It holds neither `-` nor `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Category(Arc<str>);

impl Category {
    /// Checks and takes a category name.
    pub fn new(name: &str) -> Result<Self, InvalidId> {
        if name.is_empty() || name.len() > CATEGORY_BYTES {
            return Err(InvalidId(format!(
                "a category has 1 to {CATEGORY_BYTES} bytes; {:?} has {}",
                name,
                name.len()
            )));
        }
        if let Some(bad) = name
            .chars()
            .find(|c| matches!(c, '-' | '.' | '*' | '#') || c.is_control() || c.is_whitespace())
        {
            return Err(InvalidId(format!(
                "the category {name:?} holds {bad:?}; '-', '.', '*', '#', spaces and control characters are not allowed"
            )));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stream's name: `{category}-{id}`. The id may hold any Unicode but control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId {
    name: Arc<str>,
    category_len: usize,
}

impl StreamId {
    /// The stream of `id` in `category`.
    pub fn new(category: &str, id: &str) -> Result<Self, InvalidId> {
        Self::parse(&format!("{category}-{id}"))
    }

    /// Checks and takes a whole stream name.
    pub fn parse(name: &str) -> Result<Self, InvalidId> {
        let Some((category, id)) = name.split_once('-') else {
            return Err(InvalidId(format!(
                "the stream name {name:?} has no '-': write {{category}}-{{id}}"
            )));
        };
        Category::new(category)?;
        if id.is_empty() || id.chars().any(char::is_control) {
            return Err(InvalidId(format!(
                "the id in the stream name {name:?} is empty or holds a control character"
            )));
        }
        if name.len() > STREAM_BYTES {
            return Err(InvalidId(format!(
                "a stream name has at most {STREAM_BYTES} bytes; this one has {}",
                name.len()
            )));
        }
        Ok(Self {
            name: name.into(),
            category_len: category.len(),
        })
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What stands before the first `-`.
    pub fn category(&self) -> &str {
        &self.name[..self.category_len]
    }

    /// What stands after the first `-`.
    pub fn id(&self) -> &str {
        &self.name[self.category_len + 1..]
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl TryFrom<String> for StreamId {
    type Error = InvalidId;

    fn try_from(name: String) -> Result<Self, InvalidId> {
        Self::parse(&name)
    }
}

impl From<StreamId> for String {
    fn from(stream: StreamId) -> Self {
        stream.name.as_ref().to_owned()
    }
}

/// Which log this is. Checkpoints, tokens and messages carry it: what was said of one log says nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct LogIdentity {
    /// Drawn when the log is made.
    pub log: Uuid,
    /// Drawn anew by restore and import.
    pub epoch: Uuid,
    /// How many partitions the log has; fixed when it is made.
    pub partitions: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_splits_at_its_first_dash() {
        let stream = StreamId::parse("account-0b5e-77-ü").unwrap();
        assert_eq!((stream.category(), stream.id()), ("account", "0b5e-77-ü"));
    }

    #[test]
    fn names_that_would_break_routing_or_storage_are_refused() {
        for name in [
            "",
            "account",
            "-1",
            "a.b-1",
            "a*-1",
            "a-",
            "a-x\u{0}y",
            "a b-1",
        ] {
            assert!(StreamId::parse(name).is_err(), "{name:?}");
        }
        assert!(StreamId::parse(&format!("a-{}", "x".repeat(300))).is_err());
    }

    #[test]
    fn a_command_always_derives_the_same_event_ids() {
        let command = CommandId(Uuid::from_u128(7));
        assert_eq!(command.event_id(0), command.event_id(0));
        assert_ne!(command.event_id(0), command.event_id(1));
    }
}
