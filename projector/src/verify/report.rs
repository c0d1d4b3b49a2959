//! What a verification found, in words for operators.
//!
//! Refuses: to show what rows or events hold. It names positions, streams, keys and columns.

use std::fmt;

use events::Position;

/// How many problems of one kind are spelled out.
pub(super) const SPELLED_OUT: usize = 20;

/// What is wrong: how much, and the first of it in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The first ones, at most 20.
    pub first: Vec<String>,
    /// All of them.
    pub count: u64,
}

impl Problems {
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        self.count += 1;
        if self.first.len() < SPELLED_OUT {
            self.first.push(problem.into());
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.first {
            writeln!(f, "  WRONG: {problem}")?;
        }
        let rest = self.count - self.first.len() as u64;
        if rest > 0 {
            writeln!(f, "  WRONG: {rest} more")
        } else {
            Ok(())
        }
    }
}

/// The verdict on the log itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogReport {
    /// Events read.
    pub events: u64,
    /// Streams they belong to.
    pub streams: u64,
    /// What is wrong.
    pub problems: Problems,
}

/// The verdict on one read model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadModelReport {
    /// Its name.
    pub name: String,
    /// The live generation.
    pub generation: Option<u32>,
    /// Events up to its checkpoints.
    pub events: u64,
    /// Partitions whose digest proves that each of those events was taken in once, in order.
    pub proven: u64,
    /// Streams that are parked.
    pub parked_streams: u64,
    /// Events up to the checkpoints that wait in them.
    pub parked_events: u64,
    /// Events that an operator has discarded.
    pub discarded: u64,
    /// Rows compared with a fold of the log, if they were.
    pub rows: Option<u64>,
    /// What is no problem, but worth knowing.
    pub notes: Vec<String>,
    /// What is wrong.
    pub problems: Problems,
}

impl ReadModelReport {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            generation: None,
            events: 0,
            proven: 0,
            parked_streams: 0,
            parked_events: 0,
            discarded: 0,
            rows: None,
            notes: Vec::new(),
            problems: Problems::default(),
        }
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The log's head when it began.
    pub head: Position,
    /// The log.
    pub log: LogReport,
    /// The read models, in the order they were given.
    pub read_models: Vec<ReadModelReport>,
}

impl Report {
    /// Nothing is wrong. Parked streams are not wrong: they wait for an operator, and are counted.
    pub fn is_clean(&self) -> bool {
        self.log.problems.count == 0
            && self
                .read_models
                .iter()
                .all(|model| model.problems.count == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogReport {
            events,
            streams,
            problems,
        } = &self.log;
        let verdict = if problems.count == 0 {
            "every hash and version in place"
        } else {
            "BROKEN"
        };
        writeln!(
            f,
            "log: {events} events in {streams} streams up to position {}: {verdict}",
            self.head
        )?;
        problems.write(f)?;
        self.read_models.iter().try_for_each(|model| model.fmt(f))?;
        writeln!(
            f,
            "{}",
            if self.is_clean() {
                "clean"
            } else {
                "NOT CLEAN"
            }
        )
    }
}

impl fmt::Display for ReadModelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(generation) = self.generation {
            let skipped = if self.problems.count == 0 {
                "0"
            } else {
                "perhaps some"
            };
            let Self {
                events,
                proven,
                parked_events,
                parked_streams,
                discarded,
                ..
            } = self;
            write!(
                f,
                " (generation {generation}): {events} events, digests right in {proven} partitions: {skipped} skipped, \
                 {parked_events} parked in {parked_streams} streams, {discarded} discarded"
            )?;
        }
        if let Some(rows) = self.rows {
            write!(f, "; {rows} rows compared")?;
        }
        writeln!(f)?;
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        self.problems.write(f)
    }
}
