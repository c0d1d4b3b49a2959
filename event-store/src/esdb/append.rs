//! How a batch goes in. EventStoreDB knows streams and their revisions, but no commands and no appends to several streams
//! together. So each command first claims its stream, by beginning a stream of the command's own, which only one can;
//! then its events are appended at an exact revision. Both go through the batch session, all at once: two round trips a
//! batch. It refuses to guess: whatever is not answered with success is read back.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use ::eventstore::{BatchAppendClient, BatchWriteResult, EventData, StreamState};
use async_trait::async_trait;
use events::{CommandId, Position, StreamId, Version};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use tokio::time::timeout;
use uuid::Uuid;

use super::connection::{Connection, PATIENCE, Trouble, in_time};
use super::lanes::{Lane, lanes, state};
use super::read;
use super::records::{self, Claim, Kind};
use crate::backend::{Backend, Batch, Failure, Known, Landed, Outcome};
use crate::tails::Tail;

/// How many reads are under way at once.
const READS: usize = 64;
/// How often what was not answered is sent again before its fate is called unknown.
const ROUNDS: usize = 3;

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lasting(why) => Self::Refused(why),
            Trouble::Passing(why) => Self::Unknown(why),
            Trouble::Missing | Trouble::Conflict => {
                Self::Unknown("EventStoreDB gave an answer that fits no question".into())
            }
        }
    }
}

/// Appends to EventStoreDB.
pub(super) struct EsdbBackend {
    connection: Arc<Connection>,
    session: Option<(u64, BatchAppendClient)>,
}

impl EsdbBackend {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            session: None,
        }
    }

    /// Sends appends all at once, in this order.
    async fn send(
        &mut self,
        appends: Vec<(String, StreamState, Vec<EventData>)>,
    ) -> Result<Vec<Result<BatchWriteResult, Trouble>>, Failure> {
        if self.session.is_none() {
            let (number, client) = self.connection.client()?;
            let options = self.connection.batch_options();
            match in_time(client.batch_append(&options)).await {
                Ok(session) => self.session = Some((number, session)),
                Err(error) => {
                    self.connection.broken(number);
                    return Err(Trouble::from(error).into());
                }
            }
        }
        let Some((number, session)) = &self.session else {
            return Ok(vec![]);
        };
        let number = *number;
        let names = self.connection.names();
        let sent = appends
            .into_iter()
            .map(|(stream, state, events)| async move {
                let there = names.there(&stream);
                session.append_to_stream(there, state, events).await
            });
        let answers = answers(sent).await;
        let failures = || answers.iter().filter_map(|answer| answer.as_ref().err());
        if failures().next().is_some() {
            // One failure ends the session for all. If it has a reason of its own, the connection is still good.
            self.session = None;
            if failures().all(|trouble| matches!(trouble, Trouble::Passing(_))) {
                self.connection.broken(number);
            }
        }
        Ok(answers)
    }

    /// Claims each command's stream for it. Gives the claims that stood before, by command.
    async fn claim(
        &mut self,
        claims: &HashMap<usize, (CommandId, Claim)>,
    ) -> Result<HashMap<usize, Claim>, Failure> {
        let mut stood = HashMap::new();
        let ids: HashMap<usize, Uuid> = claims
            .keys()
            .map(|command| (*command, records::random_id()))
            .collect();
        let mut open: Vec<usize> = claims.keys().copied().collect();
        open.sort_unstable();
        for _ in 0..ROUNDS {
            let mut appends = Vec::with_capacity(open.len());
            for command in &open {
                let (id, claim) = &claims[command];
                let event = Kind::Command.event(ids[command], claim)?;
                appends.push((records::claim_of(*id), StreamState::NoStream, vec![event]));
            }
            let answers = self.send(appends).await?;
            let mut unanswered = vec![];
            for (command, answer) in open.iter().zip(answers) {
                match answer {
                    Ok(_) => {}
                    Err(Trouble::Lasting(why)) => return Err(Failure::Refused(why)),
                    Err(_) => unanswered.push(*command),
                }
            }
            let asked = unanswered.iter().map(|command| claims[command].0).collect();
            let found = self.standing(asked).await?;
            open.clear();
            for (command, found) in unanswered.into_iter().zip(found) {
                match found {
                    Some(claim) => _ = stood.insert(command, claim),
                    None => open.push(command),
                }
            }
            if open.is_empty() {
                return Ok(stood);
            }
        }
        Err(Failure::Unknown("EventStoreDB does not answer".into()))
    }

    /// Sends what the lanes hold until every append is in, or cannot go in.
    async fn carry_out(
        &mut self,
        lanes: &mut [Lane<'_>],
        refused: &mut Vec<(usize, String)>,
    ) -> Result<(), Failure> {
        let mut idle = 0;
        while idle < ROUNDS {
            let (mut places, mut appends) = (vec![], vec![]);
            for (place, lane) in lanes.iter().enumerate() {
                let next = lane.next();
                let Some(first) = next.first() else { continue };
                let mut events = vec![];
                for sending in next {
                    events.extend(sending.events(self.connection.names())?);
                }
                places.push(place);
                appends.push((lane.stream.as_str().to_owned(), state(first.after), events));
            }
            if appends.is_empty() {
                return Ok(());
            }
            let before = settled(lanes);
            let answers = self.send(appends).await?;
            let mut doubtful: Vec<usize> = vec![];
            for (place, answer) in places.into_iter().zip(answers) {
                if !lanes[place].take(answer, refused) {
                    doubtful.push(place);
                }
            }
            let mut reads = Vec::with_capacity(doubtful.len());
            for place in &doubtful {
                let lane = &lanes[*place];
                let rows: usize = lane.sendings.iter().map(|sending| sending.rows.len()).sum();
                let (stream, after) = (lane.stream.as_str(), lane.sendings[0].after);
                reads.push(read::stored(&self.connection, stream, after, rows).boxed());
            }
            let seen = together(reads).await?;
            for (place, seen) in doubtful.into_iter().zip(seen) {
                lanes[place].compare(self.connection.names(), &seen);
            }
            idle = if settled(lanes) > before { 0 } else { idle + 1 };
        }
        Err(Failure::Unknown("EventStoreDB does not answer".into()))
    }
}

/// How much is decided of what the lanes hold.
fn settled(lanes: &[Lane<'_>]) -> usize {
    let decided = |lane: &Lane<'_>| {
        let placed = lane.sendings.iter().filter(|s| s.position.is_some());
        placed.count() + usize::from(lane.over) + usize::from(lane.singly)
    };
    lanes.iter().map(decided).sum()
}

#[async_trait]
impl Backend for EsdbBackend {
    async fn tails(&mut self, streams: &[StreamId]) -> Result<Vec<Tail>, Failure> {
        let mut reads = Vec::with_capacity(streams.len());
        for stream in streams {
            reads.push(read::tail(&self.connection, stream).boxed());
        }
        Ok(together(reads).await?)
    }

    async fn commit(&mut self, batch: &Batch<'_>) -> Result<Outcome, Failure> {
        let mut lanes = lanes(batch);
        let stood = self.claim(&Self::claims(batch, &lanes)).await?;
        let mut known = self.find(batch, &stood).await?;
        for lane in &mut lanes {
            let is_known = |known: &Known| batch.commands[known.command].1 == lane.claim;
            lane.over = known.iter().any(is_known);
        }
        let mut refused = vec![];
        self.carry_out(&mut lanes, &mut refused).await?;

        let mut landed = vec![None; batch.commands.len()];
        let mut stopped = vec![];
        for lane in &lanes {
            for sending in &lane.sendings {
                landed[sending.command] = sending.position;
            }
            if lane.over {
                stopped.push(lane.claim);
            }
        }
        // Those that are only asked for have no lane.
        let asked = (0..batch.claims.len()).filter(|claim| batch.claims[*claim].tail.is_none());
        stopped.extend(asked);
        let streams: Vec<StreamId> = stopped
            .iter()
            .map(|claim| batch.claims[*claim].stream.clone())
            .collect();
        let tails = self.tails(&streams).await?;
        // Only now: what was not in the log when the tails were read may be refused for what they say.
        let settled: HashSet<usize> = known.iter().map(|known| known.command).collect();
        let open = |command: &usize| landed[*command].is_none() && !settled.contains(command);
        let open: Vec<usize> = (0..batch.commands.len()).filter(open).collect();
        let ids = open
            .iter()
            .map(|command| CommandId(batch.commands[*command].0));
        let claims = self.standing(ids.collect()).await?;
        let claims = open.into_iter().zip(claims);
        let claims = claims.filter_map(|(command, claim)| Some((command, claim?)));
        known.extend(self.find(batch, &claims.collect()).await?);
        Ok(Outcome {
            landed: Landed::Each(landed),
            known,
            moved: stopped.into_iter().zip(tails).collect(),
            refused,
        })
    }
}

impl EsdbBackend {
    /// What each command that is to be sent claims: its stream, from the tail on that it was planned on.
    fn claims(batch: &Batch<'_>, lanes: &[Lane<'_>]) -> HashMap<usize, (CommandId, Claim)> {
        let mut claims = HashMap::new();
        for lane in lanes {
            let after = lane
                .sendings
                .first()
                .map_or(Version::ZERO, |first| first.after);
            for sending in &lane.sendings {
                let claim = Claim {
                    stream: lane.stream.clone(),
                    after,
                };
                let id = CommandId(batch.commands[sending.command].0);
                claims.insert(sending.command, (id, claim));
            }
        }
        claims
    }

    /// Which of these commands are in the log, or belong to another stream.
    async fn find(
        &self,
        batch: &Batch<'_>,
        claims: &HashMap<usize, Claim>,
    ) -> Result<Vec<Known>, Failure> {
        let mut known = vec![];
        let mut searches = vec![];
        for (command, claim) in claims {
            let (id, of) = batch.commands[*command];
            if claim.stream == *batch.claims[of].stream {
                searches.push(find(&self.connection, *command, CommandId(id), claim).boxed());
            } else {
                known.push(elsewhere(*command, claim.stream.clone()));
            }
        }
        known.extend(together(searches).await?.into_iter().flatten());
        Ok(known)
    }

    /// The claims of commands, as they stand.
    async fn standing(&self, commands: Vec<CommandId>) -> Result<Vec<Option<Claim>>, Trouble> {
        let mut reads = vec![];
        for command in commands {
            reads.push(standing(&self.connection, command).boxed());
        }
        together(reads).await
    }
}

/// Waits for all answers, as long as one comes after the other in time.
async fn answers<T>(
    sent: impl Iterator<Item = impl Future<Output = ::eventstore::Result<T>>>,
) -> Vec<Result<T, Trouble>> {
    let mut under_way: FuturesUnordered<_> = sent
        .enumerate()
        .map(|(index, sent)| sent.map(move |answer| (index, answer)))
        .collect();
    let silent = || Err(Trouble::Passing("EventStoreDB did not answer".into()));
    let mut answers: Vec<_> = (0..under_way.len()).map(|_| silent()).collect();
    while let Ok(Some((index, answer))) = timeout(PATIENCE, under_way.next()).await {
        answers[index] = answer.map_err(Trouble::from);
    }
    answers
}

/// A few at a time, their results in this order.
async fn together<T>(reads: Vec<BoxFuture<'_, Result<T, Trouble>>>) -> Result<Vec<T>, Trouble> {
    stream::iter(reads).buffered(READS).try_collect().await
}

async fn standing(connection: &Connection, command: CommandId) -> Result<Option<Claim>, Trouble> {
    let newest = records::newest(connection, &records::claim_of(command)).await?;
    Ok(newest.map(|(_, claim)| claim))
}

/// A command that was claimed for its stream before: whether it is there.
async fn find(
    connection: &Connection,
    command: usize,
    id: CommandId,
    claim: &Claim,
) -> Result<Option<Known>, Trouble> {
    let found = read::search(connection, claim, id).await?;
    Ok(found.map(|found| Known {
        command,
        stream: claim.stream.clone(),
        first: found.first,
        last: Tail {
            version: found.last,
            hash: found.hash,
        },
        position: found.position,
    }))
}

/// A command that belongs to another stream. Whether it is there already makes no difference: it may be soon.
fn elsewhere(command: usize, stream: StreamId) -> Known {
    Known {
        command,
        stream,
        first: Version::ZERO,
        last: Tail::EMPTY,
        position: Position::ZERO,
    }
}
