//! How fast a build goes, and how long it will take.
//!
//! Refuses: to order anything by time. It is for people.

use events::Position;
use read_models::{Phase, Progress};
use tokio::time::Instant;

use crate::options::{LOG_PAUSE, NOTE_PAUSE};

/// Measures the passes of one generation over the log.
pub(crate) struct Meter {
    model: String,
    start: Position,
    position: Position,
    head: Position,
    events: u64,
    began: Instant,
    said: Instant,
    noted: Instant,
    due: bool,
}

impl Meter {
    pub(crate) fn new(model: &str) -> Self {
        let now = Instant::now();
        Self {
            model: model.to_owned(),
            start: Position::ZERO,
            position: Position::ZERO,
            head: Position::ZERO,
            events: 0,
            began: now,
            said: now,
            noted: now,
            due: false,
        }
    }

    /// A pass begins here.
    pub(crate) fn start(&mut self, start: Position) {
        if self.events == 0 {
            (self.start, self.began) = (start, Instant::now());
        }
    }

    /// So many events were read, up to here; the log went up to there.
    pub(crate) fn count(&mut self, events: usize, position: Position, head: Position) {
        self.events += events as u64;
        (self.position, self.head) = (position, head.max(position));
        if self.said.elapsed() >= LOG_PAUSE {
            self.said = Instant::now();
            let (model, start, events) = (&self.model, self.start, self.events);
            let rate = self.rate().round();
            tracing::info!(model, %start, %position, events, rate, "catching up");
        }
    }

    /// Whether progress is to be written down now.
    pub(crate) fn is_due(&mut self) -> bool {
        let due = self.noted.elapsed() >= NOTE_PAUSE;
        if due {
            self.noted = Instant::now();
            self.due = true;
        }
        due
    }

    /// Whether it was due before.
    pub(crate) fn was_due(&self) -> bool {
        self.due
    }

    /// What can be told.
    pub(crate) fn progress(&self, phase: Phase) -> Progress {
        let ahead = self.head.get() - self.position.get().min(self.head.get());
        let done = self.position.get().saturating_sub(self.start.get());
        // By positions, which may be sparse: events are not known before they are read.
        let left = (done > 0).then(|| {
            let left = ahead as f64 * self.began.elapsed().as_secs_f64() / done as f64;
            left.ceil() as u64
        });
        Progress {
            phase,
            events: self.events,
            position: self.position,
            head: self.head,
            rate: self.rate().round() as u64,
            left_s: left,
            detail: None,
        }
    }

    fn rate(&self) -> f64 {
        let seconds = self.began.elapsed().as_secs_f64();
        if seconds > 0.0 {
            self.events as f64 / seconds
        } else {
            0.0
        }
    }
}
