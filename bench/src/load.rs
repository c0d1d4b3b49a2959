//! A closed loop: so many tasks, each doing one operation after the other until the time or the numbers are up.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::meter::Meter;
use crate::table::{self, Value};

/// No end but that of the numbers.
pub const NO_LIMIT: Duration = Duration::MAX;

/// Does an operation for each of `numbers`, `tasks` at once, for `time` at most.
pub async fn closed_loop<F, A>(
    tasks: usize,
    numbers: Range<u64>,
    time: Duration,
    operation: F,
) -> Result<Value>
where
    F: Fn(u64) -> A + Clone + Send + 'static,
    A: Future<Output = Result<()>> + Send + 'static,
{
    let (began, meter) = (Instant::now(), Meter::start());
    let mut loops = JoinSet::new();
    for first in numbers.clone().take(tasks) {
        let (operation, mine) = (operation.clone(), (first..numbers.end).step_by(tasks));
        loops.spawn(async move {
            let mut took = Vec::new();
            for number in mine {
                let started = Instant::now();
                if started - began >= time {
                    break;
                }
                operation(number).await?;
                took.push(micros(started));
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = loops.join_next().await {
        all.append(&mut took??);
    }
    Ok(measured(&meter, all))
}

/// The rate of operations that took so many microseconds each.
pub fn measured(meter: &Meter, took: Vec<u32>) -> Value {
    let rate = meter.rate(took.len());
    Value {
        p99_ms: table::p99_ms(took),
        ..rate
    }
}

/// Microseconds since then, as far as 32 bits go.
pub fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// Spreads numbers over a range: neighbours land far apart, and every place is as likely as any other.
pub fn scatter(number: u64, range: usize) -> usize {
    // splitmix64's finaliser.
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % range as u64) as usize
}
