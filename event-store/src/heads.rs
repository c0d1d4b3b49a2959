//! The newest position that this process has heard of, and who waits for a newer one. It is a hint that wakes readers:
//! what they then read comes from the database. It refuses to be asked for the head.

use std::time::Duration;

use events::Position;
use tokio::sync::watch;

/// Wakes those who wait for events.
pub(crate) struct Heads {
    newest: watch::Sender<Position>,
    waiting: watch::Sender<usize>,
}

/// Counts somebody among those who wait until it is dropped, so that a dropped future leaves no trace.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

impl Heads {
    pub(crate) fn new(head: Position) -> Self {
        Self {
            newest: watch::Sender::new(head),
            waiting: watch::Sender::new(0),
        }
    }

    /// Takes note of a committed position.
    pub(crate) fn raise(&self, head: Position) {
        self.newest.send_if_modified(|newest| {
            let newer = head > *newest;
            if newer {
                *newest = head;
            }
            newer
        });
    }

    /// Takes over the head as it was just read. It may be lower, when the log was set back: else those who wait for the
    /// positions that are gone would be woken again and again for nothing.
    pub(crate) fn correct(&self, head: Position) {
        self.newest
            .send_if_modified(|newest| std::mem::replace(newest, head) != head);
    }

    /// Returns when a position beyond `position` is known, or after `patience`.
    pub(crate) async fn wait_beyond(&self, position: Position, patience: Duration) {
        self.waiting.send_modify(|n| *n += 1);
        let _waiting = Waiting(&self.waiting);
        let mut newest = self.newest.subscribe();
        // An error would mean that the sender is gone; `self` holds it.
        let _ = tokio::time::timeout(patience, newest.wait_for(|newest| *newest > position)).await;
    }

    /// Returns when somebody waits: nothing is polled for nobody.
    pub(crate) async fn someone_waits(&self) {
        let _ = self.waiting.subscribe().wait_for(|n| *n > 0).await;
    }
}
