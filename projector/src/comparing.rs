//! Two builds of one definition, row by row: the one that serves, and the one that is to take its place.
//!
//! Refuses: to compare what was not taken in up to the same event, and to show values. It names keys and columns.

use std::collections::BTreeMap;

use events::Partition;
use read_models::{Build, Error, OperatedStore, ReadModel, Row, RowKey};
use tokio::time::Instant;

use crate::clock;
use crate::context::Context;
use crate::options::{COMPARE_PATIENCE, COMPARE_PAUSE, COMPARED_ROWS};
use crate::verify::{differing, shown};

/// How many differences are spelled out.
const SPELLED_OUT: usize = 20;

/// What came out.
pub(crate) enum Verdict {
    /// So many rows, all the same.
    Same(u64),
    /// What is different, in words.
    Different(String),
    /// They could not be seen at the same event for long enough.
    NotYet,
}

#[derive(Default)]
struct Differences {
    rows: u64,
    count: u64,
    first: Vec<String>,
}

/// Compares them, one partition after another. What is compared once stays the same: both take in the same events.
pub(crate) async fn compare(
    context: &Context,
    store: &dyn OperatedStore,
    model: &ReadModel,
    serving: &Build,
    new: &Build,
) -> Result<Verdict, Error> {
    let mut found = Differences::default();
    for partition in (0..context.log.identity().partitions).map(Partition) {
        let mut after = None;
        loop {
            let Some(page) = page(context, store, model, [serving, new], partition, after).await?
            else {
                return Ok(Verdict::NotYet);
            };
            let Page {
                rows: [mut one, mut other],
                through,
            } = page;
            // One of them may have let go of what is due, and the other not yet.
            if let Some(due) = model.due_at(clock::now()) {
                one.retain(|(key, row)| !due.holds(key, &row.values));
                other.retain(|(key, row)| !due.holds(key, &row.values));
            }
            found.take(model, one, other);
            match through {
                Some(key) => after = Some(key),
                None => break,
            }
        }
    }
    if found.count == 0 {
        return Ok(Verdict::Same(found.rows));
    }
    let parked = store.parked(&serving.generation).await?.len();
    let parked_too = store.parked(&new.generation).await?.len();
    let more = found.count - found.first.len() as u64;
    let mut details = found.first;
    if more > 0 {
        details.push(format!("{more} more"));
    }
    if parked + parked_too > 0 {
        details.push(format!(
            "streams parked: {parked} in the live build, {parked_too} in the new one, whose rows may differ for it"
        ));
    }
    Ok(Verdict::Different(details.join("; ")))
}

/// Rows of both, up to the same key.
struct Page {
    rows: [Vec<(RowKey, Row)>; 2],
    /// Up to this key; `None`: these are the last.
    through: Option<RowKey>,
}

/// Rows of both builds at the same event. They are committed together, so that is soon so.
async fn page(
    context: &Context,
    store: &dyn OperatedStore,
    model: &ReadModel,
    builds: [&Build; 2],
    partition: Partition,
    after: Option<RowKey>,
) -> Result<Option<Page>, Error> {
    let pair = builds.map(|build| &build.generation);
    let deadline = Instant::now() + COMPARE_PATIENCE;
    loop {
        let step = context.yielding.step().await;
        let [(at, mut one), (also_at, mut other)] = store
            .scan_pair(model, pair, partition, after.as_ref(), COMPARED_ROWS)
            .await?;
        drop(step);
        if at.position == also_at.position {
            let full = |rows: &[(RowKey, Row)]| {
                let last = rows.last().map(|(key, _)| key.clone());
                last.filter(|_| rows.len() >= COMPARED_ROWS as usize)
            };
            let through = match (full(&one), full(&other)) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if let Some(through) = &through {
                one.retain(|(key, _)| key <= through);
                other.retain(|(key, _)| key <= through);
            }
            let rows = [one, other];
            return Ok(Some(Page { rows, through }));
        }
        if Instant::now() >= deadline || !context.pause(COMPARE_PAUSE).await {
            return Ok(None);
        }
    }
}

impl Differences {
    fn take(&mut self, model: &ReadModel, one: Vec<(RowKey, Row)>, other: Vec<(RowKey, Row)>) {
        self.rows += one.len() as u64;
        let mut other: BTreeMap<RowKey, Row> = other.into_iter().collect();
        for (key, row) in one {
            match other.remove(&key) {
                Some(new) if new == row => {}
                Some(new) => {
                    let columns = differing(model, &row, &new).join(", ");
                    self.add(format!("row {}: {columns}", shown(&key)));
                }
                None => self.add(format!("row {}: not in the new build", shown(&key))),
            }
        }
        for key in other.into_keys() {
            self.add(format!("row {}: only in the new build", shown(&key)));
        }
    }

    fn add(&mut self, difference: String) {
        self.count += 1;
        if self.first.len() < SPELLED_OUT {
            self.first.push(difference);
        }
    }
}
