//! From waiting appends to one batch, and from the batch's outcome to their answers. Pure: it refuses to do I/O, so the
//! rules of expected versions and command ids stand in one place for every database.

use std::collections::{HashMap, HashSet};

use events::{CommandId, Hash, Partition, Position, StreamId, Version, chain, partition_of};

use crate::backend::{Batch, Claim, Known, Landed, Outcome, Row};
use crate::tails::{Tail, Tails};
use crate::{Append, AppendError, Appended, Error, Expected};

/// What a batch does for one append.
enum Step {
    /// Its events are in the batch, with this answer but for the position.
    Insert(Appended),
    /// It does not fit the tail it was planned on: only its command id and its stream's real tail are asked for.
    Probe,
    /// The same command stands before it in the batch: it waits for that one's outcome.
    Wait,
}

/// A batch's counterpart: what its outcome will mean for each append.
pub(crate) struct Plan {
    steps: Vec<Step>,
    /// By append: the index of its claim.
    claims: Vec<usize>,
    /// By claim: where the stream ends if its rows go in.
    ends: Vec<(StreamId, Option<Tail>)>,
    /// By command of the batch: its append.
    commands: Vec<usize>,
}

/// What is to be told to an append's caller; `None`: it must be tried again.
pub(crate) type Answer = Option<Result<Appended, AppendError>>;

impl Expected {
    fn fits(self, version: Version) -> bool {
        match self {
            Self::Exact(expected) => expected == version,
            Self::Any => true,
            Self::Exists => version > Version::ZERO,
        }
    }

    /// No version from here on will fit.
    fn is_past(self, version: Version) -> bool {
        matches!(self, Self::Exact(expected) if expected < version)
    }
}

/// The streams whose tails must be read before a batch can be planned. One that is to be begun is taken to be empty.
pub(crate) fn missing<'a>(
    appends: impl Iterator<Item = &'a Append>,
    tails: &mut Tails,
) -> Vec<StreamId> {
    let mut missing: Vec<StreamId> = appends
        .filter(|append| {
            append.expected != Expected::Exact(Version::ZERO) && tails.get(&append.stream).is_none()
        })
        .map(|append| append.stream.clone())
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Plans appends in their order, each on the tail that those before it leave.
pub(crate) fn plan<'a>(
    appends: impl Iterator<Item = &'a Append>,
    tails: &mut Tails,
    partitions: u16,
) -> (Batch<'a>, Plan) {
    let mut batch = Batch::default();
    let mut plan = Plan {
        steps: vec![],
        claims: vec![],
        ends: vec![],
        commands: vec![],
    };
    let mut by_stream: HashMap<&StreamId, usize> = HashMap::new();
    let mut partition: Vec<Partition> = vec![];
    let mut seen: HashSet<CommandId> = HashSet::new();
    for (index, append) in appends.enumerate() {
        let begins = append.expected == Expected::Exact(Version::ZERO);
        let claim = *by_stream.entry(&append.stream).or_insert_with(|| {
            batch.claims.push(Claim {
                stream: &append.stream,
                tail: None,
            });
            let tail = tails.get(&append.stream).or(begins.then_some(Tail::EMPTY));
            plan.ends.push((append.stream.clone(), tail));
            partition.push(partition_of(&append.stream, partitions));
            plan.ends.len() - 1
        });
        plan.claims.push(claim);
        if !seen.insert(append.command_id) {
            plan.steps.push(Step::Wait);
            continue;
        }
        batch.commands.push((append.command_id.0, claim));
        plan.commands.push(index);
        let end = &mut plan.ends[claim].1;
        plan.steps.push(match *end {
            Some(tail) if append.expected.fits(tail.version) => {
                batch.claims[claim].tail.get_or_insert(tail);
                let after = push_rows(&mut batch, append, claim, partition[claim], tail);
                *end = Some(after);
                Step::Insert(Appended {
                    first: tail.version.plus(1),
                    last: after.version,
                    position: Position::ZERO,
                    hash: after.hash,
                    repeated: false,
                })
            }
            _ => Step::Probe,
        });
    }
    (batch, plan)
}

fn push_rows<'a>(
    batch: &mut Batch<'a>,
    append: &'a Append,
    claim: usize,
    partition: Partition,
    mut tail: Tail,
) -> Tail {
    let mut command = Some((append.command_id.0, append.events.len()));
    for event in &append.events {
        let version = tail.version.plus(1);
        let hash = chain(
            &tail.hash,
            event.id,
            &append.stream,
            version,
            &event.type_name,
            event.schema_version,
            &event.data,
            &event.metadata,
        );
        batch.rows.push(Row {
            claim,
            partition,
            version,
            event,
            hash,
            command: command.take(),
        });
        tail = Tail { version, hash };
    }
    tail
}

impl Plan {
    /// Every append goes in or waits; none is only asked about.
    pub(crate) fn is_whole(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step, Step::Probe))
    }

    /// The hash that an append's last event gets by this plan, if it is to go in.
    pub(crate) fn hash(&self, append: usize) -> Option<Hash> {
        match &self.steps[append] {
            Step::Insert(appended) => Some(appended.hash),
            Step::Probe | Step::Wait => None,
        }
    }

    /// Judges every append by what became of the batch, remembers the real tails, and tells the new head.
    ///
    /// `attempts` has, by append, the hashes of earlier tries whose fate was unknown: if one is found now, that was it.
    pub(crate) fn settle(
        self,
        appends: &[&Append],
        attempts: &[&[Hash]],
        outcome: Outcome,
        tails: &mut Tails,
    ) -> (Vec<Answer>, Position) {
        let mut moved = vec![false; self.ends.len()];
        let mut real: Vec<Tail> = self
            .ends
            .iter()
            .map(|(_, tail)| tail.unwrap_or(Tail::EMPTY))
            .collect();
        for (claim, tail) in outcome.moved {
            moved[claim] = true;
            real[claim] = tail;
        }
        for ((stream, _), tail) in self.ends.into_iter().zip(&real) {
            tails.put(stream, *tail);
        }
        let mut known: Vec<Option<Known>> = appends.iter().map(|_| None).collect();
        for found in outcome.known {
            let append = self.commands[found.command];
            known[append] = Some(found);
        }
        let mut refused: Vec<Option<String>> = appends.iter().map(|_| None).collect();
        for (command, why) in outcome.refused {
            refused[self.commands[command]] = Some(why);
        }
        let mut landed = Positions::new(outcome.landed, &self.commands, appends.len());

        // By stream: where it will be when the appends that are to be tried again went in, and whether there are any.
        let mut ahead: Vec<(Version, bool)> =
            real.iter().map(|tail| (tail.version, false)).collect();
        let mut answers = Vec::with_capacity(appends.len());
        for (index, step) in self.steps.into_iter().enumerate() {
            let (append, claim) = (appends[index], self.claims[index]);
            answers.push(match (known[index].take(), step) {
                (Some(found), _) => Some(repeated(&found, append, attempts[index])),
                (None, Step::Wait) => None,
                (None, Step::Insert(mut appended)) => {
                    if let Some(position) = landed.of(index, append, moved[claim]) {
                        appended.position = position;
                        Some(Ok(appended))
                    } else if let Some(why) = refused[index].take() {
                        Some(Err(Error::Invalid(why).into()))
                    } else {
                        judge(append, real[claim].version, &mut ahead[claim])
                    }
                }
                (None, Step::Probe) => judge(append, real[claim].version, &mut ahead[claim]),
            });
        }
        (answers, landed.head)
    }
}

/// Where appends landed, asked in their order.
struct Positions {
    /// By append; `None`: they landed one after another.
    each: Option<Vec<Option<Position>>>,
    /// The newest so far.
    head: Position,
}

impl Positions {
    fn new(landed: Landed, commands: &[usize], appends: usize) -> Self {
        match landed {
            Landed::After(head) => Self { each: None, head },
            Landed::Each(positions) => {
                let mut each = vec![None; appends];
                for (append, position) in commands.iter().zip(positions) {
                    each[*append] = position;
                }
                Self {
                    each: Some(each),
                    head: Position::ZERO,
                }
            }
        }
    }

    fn of(&mut self, index: usize, append: &Append, moved: bool) -> Option<Position> {
        let position = match &self.each {
            Some(each) => each[index]?,
            None if moved => return None,
            // One call numbers the batch without gaps.
            None => Position::new(self.head.get() + append.events.len() as u64),
        };
        self.head = self.head.max(position);
        Some(position)
    }
}

fn repeated(found: &Known, append: &Append, attempts: &[Hash]) -> Result<Appended, AppendError> {
    if found.stream != append.stream {
        return Err(AppendError::OtherStream);
    }
    Ok(Appended {
        first: found.first,
        last: found.last.version,
        position: found.position,
        hash: found.last.hash,
        repeated: !attempts.contains(&found.last.hash),
    })
}

/// Judges an append that did not go in, now that the stream's real version is known.
fn judge(append: &Append, real: Version, ahead: &mut (Version, bool)) -> Answer {
    let (version, others) = *ahead;
    if append.expected.fits(version) {
        *ahead = (version.plus(append.events.len() as u64), true);
        return None;
    }
    // Appends before this one are tried again first: it may fit after them.
    if others && !append.expected.is_past(real) {
        return None;
    }
    Some(Err(AppendError::WrongVersion { actual: real }))
}
