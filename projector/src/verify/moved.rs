//! Where a worker must have stood that a wrong digest comes from: which events it passed over, or took twice.
//!
//! Refuses: to search without a bound. A digest tells where only to who tries the places.

use std::collections::VecDeque;
use std::fmt;

use events::{Digest, Hash, Position};

/// How many of a partition's last events are looked at.
const EVENTS: usize = 1_000;
/// How many digests are tried at most.
const TRIED: usize = 1_000_000;

/// The last events of a partition.
#[derive(Default)]
pub(super) struct Lately {
    /// Where each stands, its hash, and the partition's digest before it.
    events: VecDeque<(Position, Hash, Digest)>,
}

/// Events that stand together in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: Position,
    pub(super) count: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "1 event, at position {}", self.first),
            count => write!(f, "{count} events, the first at position {}", self.first),
        }
    }
}

/// What a worker did with a run of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// It passed over them.
    Skipped(Run),
    /// It took them in twice.
    Doubled(Run),
}

impl Lately {
    pub(super) fn take(&mut self, position: Position, hash: Hash, before: Digest) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back((position, hash, before));
    }

    /// What makes this digest of the events, instead of the `right` one, if one run of them was skipped or doubled: the
    /// latest such run.
    pub(super) fn explain(&self, digest: Digest, right: Digest) -> Option<Moved> {
        let events = &self.events;
        let mut tried = 0;
        // It stood before the event at `from`, and went on with the one at `to`.
        for to in (0..=events.len()).rev() {
            let rest = events.len() - to;
            for from in (0..=events.len()).rev().filter(|from| *from != to) {
                tried += 1 + rest;
                if tried > TRIED {
                    return None;
                }
                let before = events.get(from).map_or(right, |(_, _, before)| *before);
                let made = events
                    .range(to..)
                    .fold(before, |digest, (_, hash, _)| digest.then(hash));
                if made == digest {
                    let run = |first: usize, end: usize| Run {
                        first: events[first].0,
                        count: (end - first) as u64,
                    };
                    return Some(if from < to {
                        Moved::Skipped(run(from, to))
                    } else {
                        Moved::Doubled(run(to, from))
                    });
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events at the positions 1 to 300, the digest of those in this order, and the right one.
    fn made_of(order: impl IntoIterator<Item = u64>) -> (Lately, Digest, Digest) {
        let hash = |n: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Hash::from_bytes(&bytes).unwrap()
        };
        let (mut lately, mut right) = (Lately::default(), Digest::ZERO);
        for n in 1..=300 {
            lately.take(Position::new(n), hash(n), right);
            right = right.then(&hash(n));
        }
        let digest = order
            .into_iter()
            .fold(Digest::ZERO, |digest, n| digest.then(&hash(n)));
        (lately, digest, right)
    }

    fn run(first: u64, count: u64) -> Run {
        Run {
            first: Position::new(first),
            count,
        }
    }

    #[test]
    fn a_run_that_was_skipped_or_doubled_is_found_by_the_digest() {
        for (order, moved) in [
            (
                (1..=260).chain(263..=300).collect::<Vec<_>>(),
                Moved::Skipped(run(261, 2)),
            ),
            (
                (1..=300).filter(|n| *n != 300).collect(),
                Moved::Skipped(run(300, 1)),
            ),
            ((1..=250).collect(), Moved::Skipped(run(251, 50))),
            (
                (1..=280).chain(271..=300).collect(),
                Moved::Doubled(run(271, 10)),
            ),
            (
                (1..=300).chain(299..=300).collect(),
                Moved::Doubled(run(299, 2)),
            ),
        ] {
            let (lately, digest, right) = made_of(order);
            assert_eq!(lately.explain(digest, right), Some(moved));
        }
    }

    #[test]
    fn what_no_single_run_explains_is_not_explained() {
        let (lately, digest, right) = made_of((1..=300).filter(|n| n % 100 != 0));
        assert_eq!(lately.explain(digest, right), None);
    }
}
