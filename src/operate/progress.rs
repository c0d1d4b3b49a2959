//! How far something long has come, on stderr: a line that is written over on a terminal, else a line now and then.

use std::io::IsTerminal;
use std::time::Duration;

use tokio::time::Instant;

/// How often it is told on a terminal, and elsewhere.
const TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Counts towards a total, if there is one.
pub struct Progress {
    what: &'static str,
    total: Option<u64>,
    began: Instant,
    told: Instant,
    terminal: bool,
    count: u64,
}

impl Progress {
    /// Begins to count.
    pub fn new(what: &'static str, total: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            what,
            total,
            began: now,
            told: now,
            terminal: std::io::stderr().is_terminal(),
            count: 0,
        }
    }

    /// So many are done.
    pub fn at(&mut self, count: u64) {
        self.count = count;
        let pause = if self.terminal { TERMINAL } else { ELSEWHERE };
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let rate = self.rate();
        let left = match self.total {
            Some(total) if rate > 0.0 && total >= count => {
                format!(" of {total}, {:.0} s left", (total - count) as f64 / rate)
            }
            _ => String::new(),
        };
        let text = format!("{count} {}{left} ({rate:.0}/s)", self.what);
        if self.terminal {
            eprint!("\r\x1b[K{text}");
        } else {
            eprintln!("{text}");
        }
    }

    /// All are done: says how many and how fast.
    pub fn finish(self) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!(
            "{clear}{} {} in {:.1} s ({:.0}/s)",
            self.count,
            self.what,
            self.began.elapsed().as_secs_f64(),
            self.rate()
        );
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.began.elapsed().as_secs_f64().max(0.001)
    }
}
