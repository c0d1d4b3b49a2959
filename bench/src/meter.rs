//! What an operation costs: its share of the CPU time that this process and everything under it took, servers included.
//! Unlike a rate, it says the same on a busy machine.
//!
//! Refuses: to count what others do on the machine.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

use crate::table::Value;

/// Ticks a second in /proc, on every Linux.
const TICKS: f64 = 100.0;

/// A measurement under way.
pub struct Meter {
    began: Instant,
    cpu_s: f64,
}

impl Meter {
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            cpu_s: cpu_s(),
        }
    }

    /// So many operations were done since it was started.
    pub fn rate(&self, operations: usize) -> Value {
        let (elapsed, operations) = (self.began.elapsed().as_secs_f64(), operations as f64);
        let cpu_s = cpu_s() - self.cpu_s;
        Value {
            value: operations / elapsed,
            p99_ms: None,
            cpu_us: Some(cpu_s * 1e6 / operations),
            cores: Some(cpu_s / elapsed),
        }
    }
}

/// CPU seconds of this process and of all below it, those that have ended included.
fn cpu_s() -> f64 {
    let mut processes: HashMap<u32, (u32, u64)> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        processes.extend(read(&stat));
    }
    let own = std::process::id();
    let is_below = |mut pid: u32| {
        // A process that was adopted has another parent for good; no chain is longer than this.
        for _ in 0..16 {
            match processes.get(&pid) {
                _ if pid == own => return true,
                Some((parent, _)) => pid = *parent,
                None => return false,
            }
        }
        false
    };
    let ticks: u64 = processes
        .iter()
        .filter(|(pid, _)| is_below(**pid))
        .map(|(_, (_, ticks))| ticks)
        .sum();
    ticks as f64 / TICKS
}

/// A process with its parent and its ticks, from /proc/PID/stat: its own and those of children that it has buried.
fn read(stat: &str) -> Option<(u32, (u32, u64))> {
    let (pid, rest) = stat.split_once(' ')?;
    // The name may hold anything; what follows its last parenthesis begins with the third field.
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
    let ticks: u64 = ticks.sum::<Result<_, _>>().ok()?;
    Some((pid.parse().ok()?, (fields.get(1)?.parse().ok()?, ticks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_holds() {
        let stat = "42 (a) b (c) S 7 1 1 0 -1 0 0 0 0 0 10 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(read(stat), Some((42, (7, 37))));
        assert_eq!(read("42 (a"), None);
    }
}
