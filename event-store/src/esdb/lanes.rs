//! A batch, by stream: what is to be appended where, and what of it is in. It refuses to believe a stored event to be the
//! one that was sent unless its hash says so.

use std::collections::HashMap;

use ::eventstore::{BatchWriteResult, EventData, RecordedEvent as Stored, StreamState};
use bytes::Bytes;
use events::{CommandId, Position, StreamId, Version};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::connection::Trouble;
use super::names::Names;
use super::read;
use crate::backend::{Batch, Failure, Row};
use crate::check;
use crate::envelope::Envelope;

/// How much of several commands goes into one append: with their envelopes, well below EventStoreDB's default of 1 MiB.
const TOGETHER_EVENTS: usize = 500;
const TOGETHER_BYTES: usize = 256 << 10;

/// One command's events on their way.
pub(super) struct Sending<'a> {
    pub command: usize,
    /// The revision its stream must have, as a version.
    pub after: Version,
    pub rows: Vec<&'a Row<'a>>,
    pub position: Option<Position>,
}

/// What is to be appended to one stream, in this order.
pub(super) struct Lane<'a> {
    pub claim: usize,
    pub stream: &'a StreamId,
    pub sendings: Vec<Sending<'a>>,
    /// Send one command at a time: together something was refused, and it must be found out which.
    pub singly: bool,
    /// It has another tail than it was planned on, or something of it was refused.
    pub over: bool,
}

impl Lane<'_> {
    /// What goes out next: commands in a row, as one append. Were each an append of its own, one could go in though the one
    /// before it did not, because another process had put something else in that place.
    pub(super) fn next(&self) -> &[Sending<'_>] {
        let open = self
            .sendings
            .iter()
            .position(|sending| sending.position.is_none());
        let Some(first) = open.filter(|_| !self.over) else {
            return &[];
        };
        let (mut events, mut bytes) = (0, 0);
        let fits = self.sendings[first..].iter().take_while(|sending| {
            events += sending.rows.len();
            bytes += sending.bytes();
            events <= TOGETHER_EVENTS && bytes <= TOGETHER_BYTES
        });
        let most = if self.singly { 1 } else { fits.count().max(1) };
        &self.sendings[first..first + most]
    }

    /// Takes the answer to what went out; `false` if it has to be read back what became of it.
    pub(super) fn take(
        &mut self,
        answer: Result<BatchWriteResult, Trouble>,
        refused: &mut Vec<(usize, String)>,
    ) -> bool {
        let (sent, first) = match self.next() {
            [] => return true,
            next => (next.len(), next[0].after),
        };
        let sent = self
            .sendings
            .iter_mut()
            .filter(|sending| sending.after >= first)
            .take(sent);
        let mut sent: Vec<_> = sent.collect();
        match (answer, &mut sent[..]) {
            // Of several, only the last one's position is told.
            (Ok(result), [only]) if only.is_in_place(&result) => {
                let position = result.current_position();
                only.position = position.map(|position| Position::new(position.commit));
                true
            }
            (Err(Trouble::Lasting(why)), [only]) => {
                refused.push((only.command, why));
                self.over = true;
                false
            }
            (Err(Trouble::Lasting(_)), _) => {
                self.singly = true;
                true
            }
            _ => false,
        }
    }

    /// Finds out what of it is in, by what stands in its place.
    pub(super) fn compare(&mut self, names: &Names, stored: &[Stored]) {
        let mut rest = stored;
        for sending in &mut self.sendings {
            let here = &rest[..rest.len().min(sending.rows.len())];
            let same = here.iter().zip(&sending.rows).all(|(stored, row)| {
                read::recorded(names, stored).is_some_and(|stored| stored.hash == row.hash)
            });
            if !same {
                self.over = true;
                return;
            }
            let Some(last) = here.last().filter(|_| here.len() == sending.rows.len()) else {
                // Nothing has taken its place yet.
                return;
            };
            sending.position = Some(Position::new(last.position.commit));
            rest = &rest[here.len()..];
        }
    }
}

impl Sending<'_> {
    fn bytes(&self) -> usize {
        self.rows.iter().map(|row| check::bytes(row.event)).sum()
    }

    pub(super) fn events(&self, names: &Names) -> Result<Vec<EventData>, Failure> {
        self.rows.iter().map(|row| event(names, row)).collect()
    }

    /// Whether this is the answer to the append itself, with everything in it.
    pub(super) fn is_in_place(&self, result: &BatchWriteResult) -> bool {
        let last = self.after.plus(self.rows.len() as u64);
        result.current_revision() == Some(last.get() - 1)
            && result
                .current_position()
                .is_some_and(|position| position.commit > 0)
    }
}

/// The state of a stream at a version.
pub(super) fn state(version: Version) -> StreamState {
    match version.get() {
        0 => StreamState::NoStream,
        version => StreamState::StreamRevision(version - 1),
    }
}

fn event(names: &Names, row: &Row<'_>) -> Result<EventData, Failure> {
    let refused =
        |why: String| Failure::Refused(format!("{} cannot be stored: {why}", row.event.type_name));
    let envelope = Envelope {
        id: row.event.id,
        schema_version: row.event.schema_version,
        hash: row.hash,
        command_id: row.command.map(|(command, _)| CommandId(command)),
        metadata: row.event.metadata.clone(),
    };
    let metadata = envelope.to_user_metadata(names.key()).map_err(refused)?;
    let data: Box<RawValue> = serde_json::from_str(&row.event.data)
        .map_err(|error| refused(format!("its data is not JSON: {error}")))?;
    if data.get().len() != row.event.data.len() {
        return Err(refused("its data has spaces around it".into()));
    }
    let event =
        EventData::json(&row.event.type_name, &data).map_err(|error| refused(error.to_string()))?;
    Ok(event
        .id(envelope.stored_id())
        .metadata(Bytes::from(metadata)))
}

/// The batch's rows by stream and command, in their order.
pub(super) fn lanes<'a>(batch: &'a Batch<'a>) -> Vec<Lane<'a>> {
    let commands: HashMap<Uuid, usize> = batch
        .commands
        .iter()
        .enumerate()
        .map(|(index, (id, _))| (*id, index))
        .collect();
    let mut by_claim: HashMap<usize, usize> = HashMap::new();
    let mut lanes: Vec<Lane<'a>> = vec![];
    for row in &batch.rows {
        let lane = *by_claim.entry(row.claim).or_insert_with(|| {
            lanes.push(Lane {
                claim: row.claim,
                stream: batch.claims[row.claim].stream,
                sendings: vec![],
                singly: false,
                over: false,
            });
            lanes.len() - 1
        });
        let sendings = &mut lanes[lane].sendings;
        if let Some((command, _)) = row.command {
            sendings.push(Sending {
                command: commands[&command],
                after: Version::new(row.version.get() - 1),
                rows: vec![],
                position: None,
            });
        }
        if let Some(sending) = sendings.last_mut() {
            sending.rows.push(row);
        }
    }
    lanes
}
