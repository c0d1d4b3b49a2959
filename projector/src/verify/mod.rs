//! `verify`: proves that every read model took in each event once, in order, and that its rows are what the log says.
//!
//! Refuses: to write or mend anything, and to stop those who serve. It reads checkpoints and rows in snapshots, and compares
//! each with the log up to that very point, so commits meanwhile raise no false alarm.

mod digests;
mod log;
mod moved;
mod report;
mod rows;

use async_recursion::async_recursion as boxed;
use event_store::{EventStore, Filter};
use events::Position;
use read_models::{ProjectionStore, ReadModel, Status};

use digests::Digests;
use log::LogCheck;
pub use report::{LogReport, Problems, ReadModelReport, Report};
pub(crate) use rows::{differing, shown};

/// Events read at once.
const PAGE: usize = 5_000;

/// Whether to compare rows too: it folds one partition of one read model at a time in memory, stored rows beside folded
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Digests alone.
    No,
    /// Digests, and every row with a fold of the log.
    Yes,
}

/// How far a verification is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being verified: the log, or the rows of a read model.
    pub stage: String,
    /// How far the log was read for it.
    pub position: Position,
    /// How far it will be read.
    pub head: Position,
}

/// Why no verdict was reached.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The event store failed.
    #[error(transparent)]
    Log(#[from] event_store::Error),
    /// The database of read models failed.
    #[error(transparent)]
    Store(#[from] read_models::Error),
}

/// Verifies the log (versions, hash chains, gapless positions) and the live generation of each read model. May run while
/// everything serves. Holds the last version and hash of every stream in memory, about 150 bytes each.
#[boxed]
pub async fn verify(
    log: &dyn EventStore,
    store: &dyn ProjectionStore,
    models: &[ReadModel],
    rows: Rows,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Fault> {
    let mut subjects = Vec::with_capacity(models.len());
    for model in models {
        let status = standing(store, model).await?;
        subjects.push(Subject::new(model, status, log));
    }
    // After the checkpoints: a log that goes on meanwhile is never behind them.
    let head = log.head().await?;
    let log_report = read_log(log, head, &mut subjects, progress).await?;
    if rows == Rows::Yes {
        for subject in &mut subjects {
            rows::compare(log, store, subject, progress).await?;
        }
    }
    let read_models = subjects.into_iter().map(|subject| subject.report).collect();
    Ok(Report {
        head,
        log: log_report,
        read_models,
    })
}

/// How the live generation stands, and how many events were left out of it. What is parked between the two looks lies beyond the checkpoints, and is not judged.
async fn standing(
    store: &dyn ProjectionStore,
    model: &ReadModel,
) -> Result<Option<(Status, u64)>, Fault> {
    let Some(generation) = store.live(&model.name).await? else {
        return Ok(None);
    };
    let (log, checkpoints) = store.checkpoints(&generation).await?;
    let parked = store.parked(&generation).await?;
    let discarded = store.discarded(&generation).await?.len() as u64;
    let status = Status {
        generation,
        log,
        checkpoints,
        parked,
    };
    Ok(Some((status, discarded)))
}

/// A read model that is looked at.
struct Subject<'m> {
    model: &'m ReadModel,
    /// `None`: there is nothing that can be compared with this log.
    status: Option<Status>,
    report: ReadModelReport,
}

impl<'m> Subject<'m> {
    fn new(model: &'m ReadModel, standing: Option<(Status, u64)>, log: &dyn EventStore) -> Self {
        let mut report = ReadModelReport::new(&model.name);
        let status = match standing.filter(|_| !model.observed) {
            None if model.observed => {
                let note = "not made of events: the projector writes it about itself";
                report.notes.push(note.into());
                None
            }
            None => {
                report.notes.push("not built yet".into());
                None
            }
            Some((status, _)) if status.log != log.identity() => {
                report
                    .problems
                    .add("its checkpoints speak of another log: rebuild it");
                None
            }
            Some((status, discarded)) => {
                report.discarded = discarded;
                report.generation = Some(status.generation.number);
                report.parked_streams = status.parked.len() as u64;
                Some(status)
            }
        };
        Self {
            model,
            status,
            report,
        }
    }
}

/// One pass over the whole log, for its own sake and for the digests of every read model.
async fn read_log(
    log: &dyn EventStore,
    head: Position,
    subjects: &mut [Subject<'_>],
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<LogReport, Fault> {
    let mut chains = LogCheck::new(log.gapless());
    let mut digests = Digests::new(log.identity().partitions, subjects);
    let mut after = Position::ZERO;
    while after < head {
        let page = log.read_all(after, &Filter::default(), PAGE).await?;
        for event in page
            .events
            .iter()
            .take_while(|event| event.position <= head)
        {
            chains.take(event);
            digests.take(event, subjects);
        }
        if page.through <= after {
            break;
        }
        after = page.through;
        progress(Progress {
            stage: "the log".into(),
            position: after.min(head),
            head,
        });
    }
    digests.finish(head, subjects);
    Ok(chains.finish())
}
