//! The no-skip proof: each partition's running digest, compared where each read model says it stands; and where a digest is
//! wrong, which events were skipped or taken twice, as far as the digests themselves tell.
//!
//! Refuses: to guess. What is told of events makes the very digest that is stored.

use std::collections::{HashMap, VecDeque};

use events::{Digest, Partition, Position, RecordedEvent, StreamId, partition_of};
use read_models::Checkpoint;

use super::Subject;
use super::moved::{Lately, Moved, Run};

pub(super) struct Digests {
    partitions: Vec<Running>,
    /// For each read model, its parked streams with the first event that waits.
    parked: Vec<HashMap<StreamId, Position>>,
}

#[derive(Default)]
struct Running {
    digest: Digest,
    position: Position,
    events: u64,
    /// Where read models stand, the earliest first.
    waiting: VecDeque<(usize, Checkpoint)>,
    /// The places whose digest is that of some read model's checkpoint.
    places: HashMap<Digest, Place>,
    lately: Lately,
    /// What is wrong: of which read model, where it stands, and what its digest may be made of.
    wrong: Vec<Wrong>,
}

/// A place in a partition.
#[derive(Default, Clone, Copy)]
struct Place {
    /// The event that it comes after; nothing while it was not come by.
    at: Option<Position>,
    /// The event after that one.
    next: Option<Position>,
    /// Events up to it.
    events: u64,
}

struct Wrong {
    subject: usize,
    checkpoint: Checkpoint,
    /// Events up to the checkpoint, and the one after it.
    events: u64,
    next: Option<Position>,
    is_an_event: bool,
    moved: Option<Moved>,
}

impl Digests {
    pub(super) fn new(partitions: u16, subjects: &[Subject<'_>]) -> Self {
        let mut running: Vec<Running> = (0..partitions).map(|_| Running::default()).collect();
        let mut parked = Vec::with_capacity(subjects.len());
        for (index, subject) in subjects.iter().enumerate() {
            let checkpoints = subject.status.iter().flat_map(|status| &status.checkpoints);
            for (partition, checkpoint) in running.iter_mut().zip(checkpoints) {
                partition.waiting.push_back((index, *checkpoint));
                partition.places.entry(checkpoint.digest).or_default();
            }
            let streams = subject.status.iter().flat_map(|status| &status.parked);
            parked.push(streams.map(|p| (p.stream.clone(), p.position)).collect());
        }
        for partition in &mut running {
            partition
                .waiting
                .make_contiguous()
                .sort_by_key(|(_, checkpoint)| checkpoint.position);
            partition.arrive();
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
        running.judge_before(event.position, subjects);
        running.go_on(event);
        let stand_here =
            |(_, checkpoint): &(usize, Checkpoint)| checkpoint.position == event.position;
        if running.waiting.front().is_some_and(stand_here) {
            running.judge_here(subjects);
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
            running.judge_before(head.max(running.position), subjects);
            for (index, checkpoint) in std::mem::take(&mut running.waiting) {
                if checkpoint.position > head {
                    subjects[index].report.problems.add(format!(
                        "partition {partition}: its checkpoint {} is beyond the log's head {head}",
                        checkpoint.position
                    ));
                } else {
                    let stands = checkpoint.position == running.position;
                    running.judge(index, checkpoint, stands, subjects);
                }
            }
            for wrong in std::mem::take(&mut running.wrong) {
                let problem = running.tell(&wrong);
                let report = &mut subjects[wrong.subject].report;
                report
                    .problems
                    .add(format!("partition {partition}: {problem}"));
            }
        }
    }
}

impl Running {
    /// Takes in the next event.
    fn go_on(&mut self, event: &RecordedEvent) {
        let position = event.position;
        if let Some(place) = self.places.get_mut(&self.digest) {
            place.next = Some(position);
        }
        for wrong in &mut self.wrong {
            wrong.next.get_or_insert(position);
        }
        self.lately.take(position, event.hash, self.digest);
        self.digest = self.digest.then(&event.hash);
        self.position = position;
        self.events += 1;
        self.arrive();
    }

    /// Notes the place, if somebody's digest is that of it.
    fn arrive(&mut self) {
        if let Some(place) = self.places.get_mut(&self.digest) {
            (place.at, place.events) = (Some(self.position), self.events);
        }
    }

    /// Judges everyone who stands before `position`.
    fn judge_before(&mut self, position: Position, subjects: &mut [Subject<'_>]) {
        while let Some((index, checkpoint)) = self
            .waiting
            .pop_front_if(|(_, checkpoint)| checkpoint.position < position)
        {
            // Only at the very beginning one may stand where no event does.
            let stands = checkpoint.position == self.position;
            self.judge(index, checkpoint, stands, subjects);
        }
    }

    /// Judges everyone who stands at the event just taken in.
    fn judge_here(&mut self, subjects: &mut [Subject<'_>]) {
        let position = self.position;
        while let Some((index, checkpoint)) = self
            .waiting
            .pop_front_if(|(_, checkpoint)| checkpoint.position == position)
        {
            subjects[index].report.events += self.events;
            self.judge(index, checkpoint, true, subjects);
        }
    }

    /// Judges one by the digest as it is now, `stands` saying whether that is the digest where it says it is.
    fn judge(
        &mut self,
        subject: usize,
        checkpoint: Checkpoint,
        stands: bool,
        subjects: &mut [Subject<'_>],
    ) {
        if stands && checkpoint.digest == self.digest {
            subjects[subject].report.proven += 1;
            return;
        }
        let known = self.places.get(&checkpoint.digest);
        let moved = if stands && known.is_none_or(|place| place.at.is_none()) {
            self.lately.explain(checkpoint.digest, self.digest)
        } else {
            None
        };
        self.wrong.push(Wrong {
            subject,
            checkpoint,
            events: self.events,
            next: None,
            is_an_event: stands,
            moved,
        });
    }

    /// Says what is wrong, in words.
    fn tell(&self, wrong: &Wrong) -> String {
        let position = wrong.checkpoint.position;
        let place = self.places.get(&wrong.checkpoint.digest).copied();
        let place = place.unwrap_or_default();
        let moved = wrong.moved.or_else(|| {
            let at = place.at?;
            let (first, before, after) = if at < position {
                (place.next?, place.events, wrong.events)
            } else {
                (wrong.next?, wrong.events, place.events)
            };
            let run = Run {
                first,
                count: after - before,
            };
            Some(if at < position {
                Moved::Skipped(run)
            } else {
                Moved::Doubled(run)
            })
        });
        let what = if wrong.is_an_event {
            format!("its digest at position {position} is not that of the log's events")
        } else {
            format!("its checkpoint {position} is not the position of an event of this partition")
        };
        match (moved, place.at) {
            (Some(Moved::Doubled(run)), Some(at)) => format!(
                "{what}; it is that of position {at}, so the checkpoint was moved back. Taken twice: {run}"
            ),
            (Some(Moved::Doubled(run)), None) => format!("{what}. Taken twice: {run}"),
            (Some(Moved::Skipped(run)), Some(at)) => format!(
                "{what}; it is that of position {at}, so the checkpoint was moved ahead. Skipped: {run}"
            ),
            (Some(Moved::Skipped(run)), None) => format!("{what}. Skipped: {run}"),
            (None, _) if wrong.is_an_event => format!(
                "{what}: some before were skipped, taken twice, or changed; verify --rows names the rows"
            ),
            (None, _) => what,
        }
    }
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
