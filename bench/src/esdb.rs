//! The log behind EventStoreDB's protocol: a process of the release binary serves it from PostgreSQL, beside PostgreSQL
//! itself. What is compared says what the wire costs, whether appends wait for each other's round trips, and what the
//! adapter's claim of each command's id costs.
//!
//! Refuses: to say anything about EventStoreDB, whose commits are its own.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use event_store::{Append, EventStore, Expected, Options};
use events::{CommandId, NewEvent, StreamId, Version};
use eventstore::{BatchAppendClient, BatchAppendOptions, Client, EventData, StreamState};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use test_support::{Showcaller, free_port};

use crate::command;
use crate::load::measured;
use crate::meter::Meter;
use crate::table::{Key, Table};
use crate::world::World;

/// How many appends are on their way at once: as many as the writer commits together.
const UNDER_WAY: usize = 512;

/// A log served by a process of its own.
struct Served {
    _process: Showcaller,
    url: String,
}

impl Served {
    async fn start(world: &World) -> Self {
        let events = world.postgres.fresh_database().await;
        let address = format!("127.0.0.1:{}", free_port());
        let process = Showcaller::launch(&world.showcaller)
            .args(["--role", "event-store", "--insecure", "--events", &events])
            .args(["--event-store-listen", &address])
            .start()
            .await;
        Self {
            _process: process,
            url: format!("esdb://{address}?tls=false"),
        }
    }
}

/// One round; `PostgreSQL` itself is measured in the same.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    let served = Served::start(world).await;
    command::on_eventstore(world, table, &served.url).await?;

    let served = Served::start(world).await;
    let log = event_store::open(&served.url, Options::default()).await?;
    world.settle().await;
    one_by_one(world, table, &log).await?;
    world.settle().await;
    pipelined(world, table, &log).await?;
    log.close().await;
    world.settle().await;
    bare(world, table, &served.url).await
}

/// Of about the size of an account's.
fn event(command_id: CommandId) -> NewEvent {
    NewEvent {
        id: command_id.event_id(0),
        type_name: "ThingDone".into(),
        schema_version: 1,
        data: json!({"text": "x".repeat(180)}).to_string(),
        metadata: json!({"command_id": command_id}).to_string(),
    }
}

/// Begins a stream of its own.
async fn append(log: &Arc<dyn EventStore>) -> Result<()> {
    let command_id = CommandId(vault::random_uuid());
    let append = Append {
        stream: StreamId::parse(&format!("thing-{command_id}"))?,
        expected: Expected::Exact(Version::ZERO),
        command_id,
        events: vec![event(command_id)],
    };
    log.append(append).await?;
    Ok(())
}

async fn one_by_one(world: &World, table: &mut Table, log: &Arc<dyn EventStore>) -> Result<()> {
    let (began, meter, mut count) = (Instant::now(), Meter::start(), 0);
    while began.elapsed() < world.scale.rate {
        append(log).await?;
        count += 1;
    }
    table.note(Key::EsdbOneByOne, meter.rate(count));
    Ok(())
}

async fn pipelined(world: &World, table: &mut Table, log: &Arc<dyn EventStore>) -> Result<()> {
    let (began, meter) = (Instant::now(), Meter::start());
    let took = stream::repeat(())
        .take_while(|()| std::future::ready(began.elapsed() < world.scale.rate))
        .map(|()| async {
            let started = Instant::now();
            append(log).await?;
            anyhow::Ok(crate::load::micros(started))
        })
        .buffer_unordered(UNDER_WAY)
        .try_collect()
        .await?;
    table.note(Key::EsdbPipelined, measured(&meter, took));
    Ok(())
}

/// The same events through the client's own batches, with no claims and no hashes: what the wire and the server take.
async fn bare(world: &World, table: &mut Table, url: &str) -> Result<()> {
    let client = Client::new(url.parse().context("a connection string")?)
        .map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let session = client.batch_append(&BatchAppendOptions::default()).await?;
    let (began, meter) = (Instant::now(), Meter::start());
    let took = stream::repeat(())
        .take_while(|()| std::future::ready(began.elapsed() < world.scale.rate))
        .map(|()| send(&session))
        .buffer_unordered(UNDER_WAY)
        .try_collect()
        .await?;
    table.note(Key::EsdbBare, measured(&meter, took));
    Ok(())
}

async fn send(session: &BatchAppendClient) -> Result<u32> {
    let started = Instant::now();
    let id = vault::random_uuid();
    let event = EventData::json("ThingDone", &json!({"text": "x".repeat(180)}))?.id(id);
    session
        .append_to_stream(format!("bare-{id}"), StreamState::NoStream, vec![event])
        .await?;
    Ok(crate::load::micros(started))
}
