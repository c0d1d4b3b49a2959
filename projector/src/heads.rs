//! How far a partition is known to go, and since when: so that being behind can be told in seconds.
//!
//! Refuses: to remember every event. Times are right to a tenth of a second, and coarser the longer a partition is behind.

use std::collections::VecDeque;
use std::time::Duration;

use events::Position;
use tokio::time::Instant;

/// What is heard within this time counts as heard at once, at first.
const GRAIN: Duration = Duration::from_millis(100);
/// Most marks kept; beyond that, two become one, and the time doubles.
const MARKS: usize = 64;

/// What is known of and not taken in.
#[derive(Debug)]
pub(crate) struct Heads {
    reached: Position,
    grain: Duration,
    marks: VecDeque<Mark>,
}

/// Events up to a position, none of them heard of before a moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    up_to: Position,
    since: Instant,
}

impl Default for Heads {
    fn default() -> Self {
        Self {
            reached: Position::ZERO,
            grain: GRAIN,
            marks: VecDeque::new(),
        }
    }
}

impl Heads {
    /// There is an event at this position.
    pub(crate) fn hear(&mut self, position: Position, now: Instant) {
        if position <= self.head() {
            return;
        }
        match self.marks.back_mut() {
            Some(last) if now.duration_since(last.since) < self.grain => last.up_to = position,
            _ => self.marks.push_back(Mark {
                up_to: position,
                since: now,
            }),
        }
        if self.marks.len() > MARKS {
            self.halve();
        }
    }

    /// Everything up to this position is taken in.
    pub(crate) fn reach(&mut self, position: Position) {
        self.reached = position;
        while self
            .marks
            .front()
            .is_some_and(|mark| mark.up_to <= position)
        {
            self.marks.pop_front();
        }
        if self.marks.is_empty() {
            self.grain = GRAIN;
        }
    }

    /// The last event that is known of.
    pub(crate) fn head(&self) -> Position {
        let heard = self.marks.back().map(|mark| mark.up_to);
        heard.unwrap_or_default().max(self.reached)
    }

    /// When the first event was heard of that is not taken in; nothing when none is.
    pub(crate) fn behind_since(&self) -> Option<Instant> {
        self.marks.front().map(|mark| mark.since)
    }

    fn halve(&mut self) {
        let marks: Vec<Mark> = self.marks.drain(..).collect();
        let pairs = marks.chunks(2).filter_map(|pair| {
            let (first, last) = (pair.first()?, pair.last()?);
            Some(Mark {
                up_to: last.up_to,
                since: first.since,
            })
        });
        self.marks = pairs.collect();
        self.grain *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Position {
        Position::new(position)
    }

    #[test]
    fn being_behind_begins_with_the_first_event_that_is_not_in() {
        let (mut heads, start) = (Heads::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        assert_eq!(heads.behind_since(), None);
        for n in 1..=3 {
            heads.hear(at(n * 10), second(n));
        }
        heads.hear(at(5), second(9));
        assert_eq!(
            (heads.head(), heads.behind_since()),
            (at(30), Some(second(1)))
        );
        heads.reach(at(10));
        assert_eq!(heads.behind_since(), Some(second(2)));
        heads.reach(at(29));
        assert_eq!(heads.behind_since(), Some(second(3)));
        heads.reach(at(40));
        assert_eq!((heads.head(), heads.behind_since()), (at(40), None));
    }

    #[test]
    fn a_long_time_behind_needs_no_more_memory_and_is_still_told() {
        let (mut heads, start) = (Heads::default(), Instant::now());
        for n in 1..=10_000 {
            heads.hear(at(n), start + Duration::from_secs(n));
            assert!(heads.marks.len() <= MARKS);
        }
        assert_eq!(heads.head(), at(10_000));
        heads.reach(at(9_000));
        let since = heads.behind_since().expect("it is behind") - start;
        assert!((8_000..=9_001).contains(&since.as_secs()), "{since:?}");
    }
}
