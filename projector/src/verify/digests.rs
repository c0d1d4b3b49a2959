//! The no-skip proof: each partition's running digest, compared where each read model says it stands.
//!
//! Refuses: to guess which event was skipped or taken twice. A digest says that it happened, not where.

use std::collections::{HashMap, VecDeque};

use events::{Digest, Partition, Position, RecordedEvent, StreamId, partition_of};
use read_models::Checkpoint;

use super::Subject;

pub(super) struct Digests {
    partitions: Vec<Running>,
    /// For each read model, its parked streams with the first event that waits.
    parked: Vec<HashMap<StreamId, Position>>,
}

#[derive(Default)]
struct Running {
    digest: Digest,
    events: u64,
    /// Where read models stand, the earliest first.
    waiting: VecDeque<(usize, Checkpoint)>,
}

impl Digests {
    pub(super) fn new(partitions: u16, subjects: &[Subject<'_>]) -> Self {
        let mut running: Vec<Running> = (0..partitions).map(|_| Running::default()).collect();
        let mut parked = Vec::with_capacity(subjects.len());
        for (index, subject) in subjects.iter().enumerate() {
            let checkpoints = subject.status.iter().flat_map(|status| &status.checkpoints);
            for (partition, checkpoint) in running.iter_mut().zip(checkpoints) {
                partition.waiting.push_back((index, *checkpoint));
            }
            let streams = subject.status.iter().flat_map(|status| &status.parked);
            parked.push(streams.map(|p| (p.stream.clone(), p.position)).collect());
        }
        for partition in &mut running {
            partition
                .waiting
                .make_contiguous()
                .sort_by_key(|(_, checkpoint)| checkpoint.position);
        }
        Self {
            partitions: running,
            parked,
        }
    }

    pub(super) fn take(&mut self, event: &RecordedEvent, subjects: &mut [Subject<'_>]) {
        let partition = partition_of(&event.stream, self.partitions.len() as u16);
        let running = &mut self.partitions[usize::from(partition.0)];
        // Those who stand before this event are judged by the digest before it.
        running.judge(partition, event.position, subjects);
        running.digest = running.digest.then(&event.hash);
        running.events += 1;
        if let Some((_, checkpoint)) = running.waiting.front()
            && checkpoint.position == event.position
        {
            running.judge_here(partition, event.position, subjects);
        }
        for ((parked, subject), index) in self.parked.iter().zip(subjects).zip(0..) {
            if parked.is_empty()
                || parked
                    .get(&event.stream)
                    .is_none_or(|first| event.position < *first)
            {
                continue;
            }
            // Beyond its checkpoint nothing waits for this read model yet.
            if running.waiting.iter().any(|(waiting, _)| *waiting == index)
                || subject.stands_at(partition) == event.position
            {
                subject.report.parked_events += 1;
            }
        }
    }

    pub(super) fn finish(mut self, head: Position, subjects: &mut [Subject<'_>]) {
        for (partition, running) in (0..).map(Partition).zip(&mut self.partitions) {
            for (index, checkpoint) in std::mem::take(&mut running.waiting) {
                let (report, position) = (&mut subjects[index].report, checkpoint.position);
                if position == Position::ZERO {
                    compare(report, partition, checkpoint, Digest::ZERO);
                } else if position > head {
                    report.problems.add(format!(
                        "partition {partition}: its checkpoint {position} is beyond the log's head {head}"
                    ));
                } else {
                    not_an_event(report, partition, position);
                }
            }
        }
    }
}

impl Running {
    /// Judges everyone who stands before `position`.
    fn judge(&mut self, partition: Partition, position: Position, subjects: &mut [Subject<'_>]) {
        while let Some((index, checkpoint)) = self
            .waiting
            .pop_front_if(|(_, checkpoint)| checkpoint.position < position)
        {
            let report = &mut subjects[index].report;
            if checkpoint.position == Position::ZERO {
                compare(report, partition, checkpoint, Digest::ZERO);
            } else {
                not_an_event(report, partition, checkpoint.position);
            }
        }
    }

    /// Judges everyone who stands at the event just taken in.
    fn judge_here(
        &mut self,
        partition: Partition,
        position: Position,
        subjects: &mut [Subject<'_>],
    ) {
        while let Some((index, checkpoint)) = self
            .waiting
            .pop_front_if(|(_, checkpoint)| checkpoint.position == position)
        {
            subjects[index].report.events += self.events;
            compare(
                &mut subjects[index].report,
                partition,
                checkpoint,
                self.digest,
            );
        }
    }
}

fn compare(
    report: &mut super::ReadModelReport,
    partition: Partition,
    checkpoint: Checkpoint,
    digest: Digest,
) {
    if checkpoint.digest == digest {
        report.proven += 1;
    } else {
        report.problems.add(format!(
            "partition {partition}: its digest at position {} is not that of the log's events: one was skipped, taken \
             twice, or changed",
            checkpoint.position
        ));
    }
}

fn not_an_event(report: &mut super::ReadModelReport, partition: Partition, position: Position) {
    report.problems.add(format!(
        "partition {partition}: its checkpoint {position} is not the position of an event of this partition"
    ));
}

impl Subject<'_> {
    fn stands_at(&self, partition: Partition) -> Position {
        let checkpoint = self
            .status
            .as_ref()
            .and_then(|status| status.checkpoints.get(usize::from(partition.0)));
        checkpoint
            .map(|checkpoint| checkpoint.position)
            .unwrap_or_default()
    }
}
