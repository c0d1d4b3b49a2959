//! The rows that a partition's owner has seen last. Valid because nobody else can commit without fencing the owner.
//!
//! Refuses: to grow beyond its capacity, and to outlive a doubt: its owner drops it whole after any failed commit.

use std::collections::HashMap;
use std::mem;

use read_models::{Row, RowKey};

/// A bounded memory of rows; what was not used for longest goes first, half of the capacity at a time.
#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    complete: bool,
    young: HashMap<RowKey, Option<Row>>,
    old: HashMap<RowKey, Option<Row>>,
}

impl Cache {
    /// Empty. `complete` says that the table is empty too: until something is forgotten, a row that is not here is not
    /// in the table either.
    pub(crate) fn new(capacity: usize, complete: bool) -> Self {
        Self {
            capacity,
            complete,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// Takes a row out: `Some(None)` says that the table has no such row, `None` that only the table knows.
    #[expect(
        clippy::option_option,
        reason = "unknown, known to be absent, and there are three things"
    )]
    pub(crate) fn take(&mut self, key: &RowKey) -> Option<Option<Row>> {
        let found = self.young.remove(key).or_else(|| self.old.remove(key));
        found.or(self.complete.then_some(None))
    }

    /// Remembers how a row stands in the table.
    pub(crate) fn put(&mut self, key: RowKey, row: Option<Row>) {
        if self.young.len() >= self.capacity.div_ceil(2) {
            let forgotten = mem::replace(&mut self.old, mem::take(&mut self.young));
            self.complete &= forgotten.is_empty();
        }
        self.young.insert(key, row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: i64) -> RowKey {
        vec![n.into()]
    }

    #[test]
    fn what_was_never_seen_is_absent_until_something_is_forgotten() {
        let mut cache = Cache::new(4, true);
        assert_eq!(cache.take(&key(9)), Some(None));
        for n in 0..4 {
            cache.put(key(n), None);
        }
        assert_eq!(cache.take(&key(9)), Some(None));
        cache.put(key(4), None);
        assert_eq!(
            cache.take(&key(9)),
            None,
            "rows were forgotten, so only the table knows"
        );
        assert_eq!(cache.take(&key(4)), Some(None));
    }

    #[test]
    fn it_never_holds_more_than_its_capacity() {
        let mut cache = Cache::new(10, true);
        for n in 0..1_000 {
            cache.put(key(n), None);
            assert!(cache.young.len() + cache.old.len() <= 10);
        }
    }
}
