//! Projection through RabbitMQ: relay and projector as processes of the release binary, the read models that ship on PostgreSQL.
//! Events are appended all the while, never more than a few ahead of the read models, for a projector that is far behind
//! would read the log instead of its queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use command_api::{Clock, SystemClock};
use event_store::{Append, EventStore, Expected};
use events::{CommandId, NewEvent, Partition, Position, partition_of};
use futures::future::try_join_all;
use read_models::{Generation, ReadStore};
use test_support::{Showcaller, eventually};

use crate::account;
use crate::lag;
use crate::meter::Meter;
use crate::table::{Key, Table, Value};
use crate::world::World;

/// How far the log may be ahead of the read models, in events; and how often is looked.
const LEAD: u64 = 20_000;
const LOOK: Duration = Duration::from_millis(20);
/// Appends of one group commit, and events of one append.
const APPENDS: usize = 50;
const EVENTS: usize = 20;
/// Of so many appends, one registers somebody: sign-ups count too.
const REGISTERS: usize = 10;
/// How long the read models may take to catch up at the beginning and at the end.
const PATIENCE: Duration = Duration::from_mins(1);

/// One round on a new log, new queues and new read models.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    let rabbitmq = world
        .rabbitmq
        .as_ref()
        .context("RabbitMQ was not started")?;
    let (events, database) = (
        world.postgres.fresh_database().await,
        world.postgres.fresh_database().await,
    );
    let broker = rabbitmq.fresh_vhost().await;
    let log = event_store::open(&events, event_store::Options::default()).await?;
    account::register(&log, &world.people).await?;
    let role = |role| {
        let settings = [
            "--events",
            &events,
            "--database",
            &database,
            "--broker",
            &broker,
        ];
        Showcaller::launch(&world.showcaller)
            .args(["--role", role])
            .args(settings)
            .start()
    };
    let relay = role("relay").await;
    let projector = role("projector").await;
    let mut feed = Feed::new(world, &log)?;
    let models = Models::open(&database).await?;
    // The read models follow their queues now, and the queues are empty.
    feed.append().await?;
    eventually(PATIENCE, || async { models.have(&feed.last).await }).await;

    world.settle().await;
    let rate = at_full_speed(world.scale.projection, &mut feed, &models).await?;
    table.note(Key::Projection, rate);
    world.settle().await;
    let own = lag::of_read_models(world.scale.lag, &mut feed, &models).await?;
    table.note(Key::ProjectionLag, own);
    for process in [projector, relay] {
        let status = process.terminate().await;
        let logs = process.logs();
        ensure!(status == 0, "a process ended with status {status}:\n{logs}");
        for line in logs
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"))
            .take(5)
        {
            eprintln!("    it said: {line}");
        }
    }
    log.close().await;
    let alone = lag::of_rabbitmq(
        world.scale.lag,
        &rabbitmq.fresh_vhost().await,
        feed.templates(),
    )
    .await?;
    table.note(Key::RabbitMqLag, alone);
    Ok(())
}

/// Appends as fast as the read models follow; events a second until the last is in all of them.
async fn at_full_speed(time: Duration, feed: &mut Feed, models: &Models) -> Result<Value> {
    let (before, began, meter) = (feed.head, Instant::now(), Meter::start());
    let mut looked = Instant::now();
    while began.elapsed() < time {
        if looked.elapsed() >= LOOK {
            while feed
                .head
                .get()
                .saturating_sub(models.least(&feed.last, feed.head).await?.get())
                > LEAD
            {
                tokio::time::sleep(LOOK).await;
            }
            looked = Instant::now();
        }
        feed.append().await?;
    }
    let deadline = Instant::now() + PATIENCE;
    while !models.have(&feed.last).await? {
        ensure!(
            Instant::now() < deadline,
            "the read models do not get to the log's head"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(meter.rate((feed.head.get() - before.get()) as usize))
}

/// Appends events of accounts, quickly: their contents are sealed beforehand and used again and again.
pub struct Feed {
    log: Arc<dyn EventStore>,
    streams: Vec<events::StreamId>,
    registered: NewEvent,
    changed: Vec<NewEvent>,
    next: usize,
    /// The last position of each partition, and of the log.
    pub last: Vec<Position>,
    pub head: Position,
}

impl Feed {
    fn new(world: &World, log: &Arc<dyn EventStore>) -> Result<Self> {
        let now = SystemClock.now();
        let sealed = |person: &account::Person, version| {
            let command_id = CommandId(vault::random_uuid());
            account::seal(
                person,
                &person.stream,
                command_id,
                0,
                &account::event(version),
                now,
            )
        };
        let changed = world.people.iter().take(500).zip(1..);
        Ok(Self {
            log: Arc::clone(log),
            streams: world
                .people
                .iter()
                .map(|person| person.stream.clone())
                .collect(),
            registered: sealed(&world.people[0], 0)?,
            changed: changed
                .map(|(person, version)| sealed(person, version))
                .collect::<Result<_>>()?,
            next: 0,
            last: vec![Position::ZERO; usize::from(log.identity().partitions)],
            head: Position::ZERO,
        })
    }

    /// Contents like those that are appended.
    pub fn templates(&self) -> &[NewEvent] {
        &self.changed
    }

    /// One group commit.
    async fn append(&mut self) -> Result<()> {
        let appends: Vec<_> = (0..APPENDS).map(|_| self.make(EVENTS)).collect();
        self.append_all(appends).await.map(drop)
    }

    /// So many appends of one event each; gives the partition and the position of each.
    pub async fn append_single(&mut self, count: usize) -> Result<Vec<(Partition, Position)>> {
        let appends: Vec<_> = (0..count).map(|_| self.make(1)).collect();
        self.append_all(appends).await
    }

    async fn append_all(&mut self, appends: Vec<Append>) -> Result<Vec<(Partition, Position)>> {
        let partitions = self.last.len() as u16;
        let streams: Vec<_> = appends.iter().map(|append| append.stream.clone()).collect();
        let appended =
            try_join_all(appends.into_iter().map(|append| self.log.append(append))).await?;
        let mut places = Vec::with_capacity(appended.len());
        for (stream, appended) in streams.iter().zip(appended) {
            let partition = partition_of(stream, partitions);
            let last = &mut self.last[usize::from(partition.0)];
            *last = appended.position.max(*last);
            self.head = appended.position.max(self.head);
            places.push((partition, appended.position));
        }
        Ok(places)
    }

    fn make(&mut self, count: usize) -> Append {
        self.next += 1;
        let command_id = CommandId(vault::random_uuid());
        let begins = self.next.is_multiple_of(REGISTERS);
        let stream = match begins {
            true => account::stream_of(command_id.derive("stream")),
            false => self.streams[self.next % self.streams.len()].clone(),
        };
        let events = (0..count).map(|index| {
            let template = match begins && index == 0 {
                true => &self.registered,
                false => &self.changed[(self.next + index) % self.changed.len()],
            };
            NewEvent {
                id: command_id.event_id(index),
                ..template.clone()
            }
        });
        Append {
            events: events.collect(),
            expected: Expected::Any,
            stream,
            command_id,
        }
    }
}

/// The read models that are folded from the log, and how far each has come.
pub struct Models {
    pub store: Arc<dyn ReadStore>,
    generations: Vec<Generation>,
}

impl Models {
    async fn open(url: &str) -> Result<Self> {
        let store = read_models::open(url, read_models::Options::read_only()).await?;
        let mut generations = Vec::new();
        let folded = projector::built_in()
            .into_iter()
            .filter(|model| !model.observed);
        for model in folded {
            let live = || async { store.live(&model.name).await.ok().flatten() };
            generations.push(eventually(PATIENCE, live).await);
        }
        Ok(Self { store, generations })
    }

    /// By partition, the position up to which all of them have everything.
    pub async fn reached(&self) -> Result<Vec<Position>> {
        let mut reached: Vec<Position> = Vec::new();
        for generation in &self.generations {
            let (_, checkpoints) = self.store.checkpoints(generation).await?;
            let positions = checkpoints.iter().map(|checkpoint| checkpoint.position);
            reached = match reached.is_empty() {
                true => positions.collect(),
                false => reached
                    .into_iter()
                    .zip(positions)
                    .map(|(one, other)| one.min(other))
                    .collect(),
            };
        }
        Ok(reached)
    }

    async fn have(&self, last: &[Position]) -> Result<bool> {
        Ok(self
            .reached()
            .await?
            .iter()
            .zip(last)
            .all(|(reached, last)| reached >= last))
    }

    /// The least position that a partition which is behind has reached; the head, if none is.
    async fn least(&self, last: &[Position], head: Position) -> Result<Position> {
        let reached = self.reached().await?;
        let behind = reached
            .into_iter()
            .zip(last)
            .filter(|(reached, last)| reached < last);
        Ok(behind.map(|(reached, _)| reached).min().unwrap_or(head))
    }
}
