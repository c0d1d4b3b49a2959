//! Pauses after faults: each twice as long as the one before, up to a bound. It refuses to draw random numbers: one
//! relay leads, so there is nobody to spread out from.

use std::time::Duration;

use super::RelayOptions;

pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(options: &RelayOptions) -> Self {
        Self {
            first: options.first_pause,
            longest: options.longest_pause,
            next: options.first_pause,
        }
    }

    /// The pause after one more fault.
    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// Something succeeded.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(&RelayOptions::default());
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        backoff.reset();
        assert_eq!(backoff.next_pause().as_millis(), 100);
    }
}
