//! Rows against a fold of the log, one partition at a time.
//!
//! Refuses: to compare with anything but the log up to the checkpoint of the rows' own snapshot, and to show values.

use std::collections::{HashMap, HashSet};

use event_store::{EventStore, Filter};
use events::{Partition, Position, RecordedEvent, StreamId};
use read_models::{
    Checkpoint, EventPlace, ProjectionStore, ReadModel, Row, RowKey, Rows, Status, fold,
};

use crate::clock;

use super::{Fault, PAGE, Problems, Progress, Subject, report::SPELLED_OUT};
use crate::ahead::project;

/// A whole partition in one snapshot.
const ALL: u32 = u32::MAX;

pub(super) async fn compare(
    log: &dyn EventStore,
    store: &dyn ProjectionStore,
    subject: &mut Subject<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Fault> {
    let Some(status) = &subject.status else {
        return Ok(());
    };
    if status.generation.definition_hash != subject.model.definition_hash() {
        subject.report.notes.push(
            "its definition has changed and the live build is of the old one: rows not compared"
                .into(),
        );
        return Ok(());
    }
    let mut compared = 0;
    for partition in (0..log.identity().partitions).map(Partition) {
        let (problems, model) = (&mut subject.report.problems, subject.model);
        compared +=
            compare_partition(log, store, model, status, partition, problems, progress).await?;
    }
    subject.report.rows = Some(compared);
    Ok(())
}

async fn compare_partition(
    log: &dyn EventStore,
    store: &dyn ProjectionStore,
    model: &ReadModel,
    status: &Status,
    partition: Partition,
    problems: &mut Problems,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<u64, Fault> {
    let generation = &status.generation;
    let (checkpoint, stored, parked, discarded) = loop {
        let (checkpoint, stored) = store.scan(model, generation, partition, None, ALL).await?;
        // Later than the rows: what was parked meanwhile lies beyond the checkpoint, and changes nothing here.
        let parked = store.parked(generation).await?;
        let discarded = store.discarded(generation).await?;
        let (_, now) = store.checkpoints(generation).await?;
        let now = now.get(usize::from(partition.0));
        // What was parked before, and went in meanwhile, is another matter: then all of it is looked at again.
        if now.is_none_or(|now| now.amended == checkpoint.amended) {
            break (checkpoint, stored, parked, discarded);
        }
    };
    let mut folded = Folded {
        log,
        model,
        partition,
        checkpoint,
        parked: parked.into_iter().map(|p| (p.stream, p.position)).collect(),
        discarded: discarded
            .into_iter()
            .map(|(_, position)| position)
            .collect(),
    };
    let mut expected = folded.rows(problems, progress).await?;
    let mut wrong = Wrong::default();
    // What is due may have gone, or not yet.
    let due = model.due_at(clock::now());
    let is_due =
        |key: &RowKey, row: &Row| due.as_ref().is_some_and(|due| due.holds(key, &row.values));
    let compared = stored.len() as u64;
    for (key, row) in stored {
        let right = expected.remove(&key);
        let right = right.filter(|right| !is_due(&key, right));
        if right.is_none() && is_due(&key, &row) {
            continue;
        }
        match right {
            Some(right) if right == row => {}
            Some(right) => {
                let columns = differing(model, &right, &row).join(", ");
                wrong.add(key, row.position, format!("{columns} not as the log says"));
            }
            None => wrong.add(key, row.position, "the log knows of no such row".to_owned()),
        }
    }
    let mut missing: Vec<_> = expected
        .into_iter()
        .filter(|(key, row)| row.as_ref().is_some_and(|row| !is_due(key, row)))
        .map(|(key, _)| key)
        .collect();
    missing.sort();
    for key in missing {
        wrong.add(key, Position::ZERO, "missing".to_owned());
    }
    wrong.tell(&folded, problems).await?;
    Ok(compared)
}

/// Rows that are wrong.
#[derive(Default)]
struct Wrong {
    /// The first of them: the last event that each holds, and what is wrong.
    first: Vec<(RowKey, Position, String)>,
    more: u64,
}

impl Wrong {
    fn add(&mut self, key: RowKey, holds: Position, what: String) {
        if self.first.len() < SPELLED_OUT {
            self.first.push((key, holds, what));
        } else {
            self.more += 1;
        }
    }

    /// Says what is wrong, and the first event of those after the last one that the row holds, if there is one.
    async fn tell(self, folded: &Folded<'_>, problems: &mut Problems) -> Result<(), Fault> {
        let Self { first, more } = self;
        let lacking = folded.lacking(&first).await?;
        for ((key, _, what), lacks) in first.iter().zip(lacking) {
            let lacks = lacks.map_or_else(String::new, |lacks| format!("; {lacks}"));
            problems.add(format!("row {}: {what}{lacks}", shown(key)));
        }
        problems.count += more;
        Ok(())
    }
}

struct Folded<'a> {
    log: &'a dyn EventStore,
    model: &'a ReadModel,
    partition: Partition,
    checkpoint: Checkpoint,
    parked: HashMap<StreamId, Position>,
    discarded: HashSet<Position>,
}

impl Folded<'_> {
    /// An event that waits, or was discarded.
    fn leaves_out(&self, event: &RecordedEvent) -> bool {
        let waits = self.parked.get(&event.stream);
        self.discarded.contains(&event.position)
            || waits.is_some_and(|first| event.position >= *first)
    }

    /// For each row, the first event that changes it after the last one that it holds; for those that a projection names by
    /// key. Reads the partition once more, if any row is wrong.
    async fn lacking(
        &self,
        rows: &[(RowKey, Position, String)],
    ) -> Result<Vec<Option<String>>, Fault> {
        let mut lacking = vec![None; rows.len()];
        let filter = Filter {
            partition: Some(self.partition),
            categories: self.model.categories.clone(),
        };
        let holds = rows.iter().map(|(_, holds, _)| *holds);
        let Some(mut after) = holds.min() else {
            return Ok(lacking);
        };
        let end = self.checkpoint.position;
        while after < end && lacking.contains(&None) {
            let page = self.log.read_all(after, &filter, PAGE).await?;
            let events = page.events.iter().filter(|event| event.position <= end);
            for event in events.filter(|event| !self.leaves_out(event)) {
                let Ok(changes) = project(self.model, event) else {
                    continue;
                };
                for ((key, holds, _), lacks) in rows.iter().zip(&mut lacking) {
                    if lacks.is_none()
                        && event.position > *holds
                        && changes.keys().any(|changed| changed == key)
                    {
                        *lacks = Some(format!(
                            "the first event that it lacks is {} at position {}, version {} of {}",
                            event.type_name, event.position, event.version, event.stream
                        ));
                    }
                }
            }
            if page.through <= after {
                break;
            }
            after = page.through;
        }
        Ok(lacking)
    }

    /// The rows that the log makes, up to the checkpoint.
    async fn rows(
        &mut self,
        problems: &mut Problems,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Rows, Fault> {
        let Self {
            log,
            model,
            partition,
            checkpoint,
            ..
        } = *self;
        let filter = Filter {
            partition: Some(partition),
            categories: model.categories.clone(),
        };
        let (mut rows, mut after) = (Rows::new(), Position::ZERO);
        while after < checkpoint.position {
            let page = log.read_all(after, &filter, PAGE).await?;
            for event in page
                .events
                .iter()
                .take_while(|event| event.position <= checkpoint.position)
            {
                if self.leaves_out(event) {
                    continue;
                }
                let folded = project(model, event).and_then(|changes| {
                    for key in changes.keys() {
                        rows.or_absent(key);
                    }
                    fold(&mut rows, changes, EventPlace::of(partition, event))
                        .map_err(|error| error.to_string())
                });
                if let Err(error) = folded {
                    problems.add(format!(
                        "position {}: not parked, though {error}",
                        event.position
                    ));
                    self.parked.insert(event.stream.clone(), event.position);
                }
            }
            if page.through <= after {
                break;
            }
            after = page.through;
            let stage = format!("the rows of {}, partition {partition}", model.name);
            progress(Progress {
                stage,
                position: after.min(checkpoint.position),
                head: checkpoint.position,
            });
        }
        Ok(rows)
    }
}

/// The names of the columns that differ.
pub(crate) fn differing<'m>(model: &'m ReadModel, right: &Row, found: &Row) -> Vec<&'m str> {
    let pairs = right.values.iter().zip(&found.values);
    let named = model
        .columns
        .iter()
        .zip(pairs)
        .filter(|(_, (right, found))| right != found);
    let hidden = [
        ("_partition", right.partition != found.partition),
        ("_position", right.position != found.position),
        ("_updated_at", right.updated_at != found.updated_at),
    ];
    named
        .map(|(column, _)| column.name.as_str())
        .chain(
            hidden
                .into_iter()
                .filter(|(_, differs)| *differs)
                .map(|(name, _)| name),
        )
        .collect()
}

/// A key as text: ids and days, never anything personal in the clear.
pub(crate) fn shown(key: &RowKey) -> String {
    serde_json::to_string(key).unwrap_or_default()
}
