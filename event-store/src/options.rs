//! How an event store is opened. Every number is a bound; none changes what is promised.

/// Settings of an event store. Defaults suit production.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many partitions a log gets when it is made, at least 1. An existing log keeps its own number.
    pub partitions: u16,
    /// The id that a log gets when it is made; `None`: one is drawn. Whoever restores a log keeps its id. Its epoch is
    /// always drawn.
    pub log: Option<uuid::Uuid>,
    /// How many appends commit together at most.
    pub max_batch: usize,
    /// How many appends may wait for the writer; more are refused after a short wait.
    pub queue: usize,
    /// How many connections readers share. The writer has one of its own, and so has the listener.
    pub connections: u32,
    /// Of how many streams the writer remembers the last version and hash (about 200 bytes each, twice that at most).
    pub cached_streams: usize,
    /// Only read: nothing is made or migrated, appends and leases are refused.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: 8,
            log: None,
            max_batch: 512,
            queue: 4_096,
            connections: 8,
            cached_streams: 65_536,
            read_only: false,
        }
    }
}

impl Options {
    /// For operators' verbs that must change nothing.
    pub fn read_only() -> Self {
        Self {
            read_only: true,
            ..Self::default()
        }
    }
}

/// What an append through a store that was opened to read gets.
pub(crate) fn read_only_refusal() -> crate::Error {
    crate::Error::Invalid("the event store was opened to read only".into())
}

/// The same for each of several.
pub(crate) fn read_only_refusals(count: usize) -> Vec<Result<crate::Appended, crate::AppendError>> {
    (0..count)
        .map(|_| Err(read_only_refusal().into()))
        .collect()
}
