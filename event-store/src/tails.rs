//! The writer's memory of where streams end: bounded, and only ever a guess, since other processes append too. What it
//! says was true once on the same connection, and is verified in the transaction that relies on it.

use std::collections::HashMap;

use events::{Hash, StreamId, Version};

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Its last event's version.
    pub version: Version,
    /// Its last event's hash.
    pub hash: Hash,
}

impl Tail {
    /// A stream without events.
    pub(crate) const EMPTY: Self = Self {
        version: Version::ZERO,
        hash: Hash::ZERO,
    };
}

/// Two generations of at most `capacity` streams each: when the younger one is full, the older one, which nobody has
/// asked for since, is dropped.
pub(crate) struct Tails {
    capacity: usize,
    young: HashMap<StreamId, Tail>,
    old: HashMap<StreamId, Tail>,
}

impl Tails {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// What is remembered of a stream.
    pub(crate) fn get(&mut self, stream: &StreamId) -> Option<Tail> {
        if let Some(tail) = self.young.get(stream) {
            return Some(*tail);
        }
        let (stream, tail) = self.old.remove_entry(stream)?;
        self.put(stream, tail);
        Some(tail)
    }

    /// Forgets everything: the database may be another one after a failure, set back to an earlier state.
    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Remembers where a stream ends.
    pub(crate) fn put(&mut self, stream: StreamId, tail: Tail) {
        if self.young.len() >= self.capacity && !self.young.contains_key(&stream) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let stream = |n: usize| StreamId::parse(&format!("thing-{n}")).unwrap();
        let mut tails = Tails::new(10);
        tails.put(stream(0), Tail::EMPTY);
        for n in 1..1_000 {
            tails.put(stream(n), Tail::EMPTY);
            assert!(tails.get(&stream(0)).is_some(), "used at {n}");
        }
        assert!(tails.young.len() + tails.old.len() <= 20);
        assert!(tails.get(&stream(1)).is_none());
    }
}
