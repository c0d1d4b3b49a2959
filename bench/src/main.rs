//! The bench: measures the main path part by part, with PostgreSQL's own tools beside it in the same round, since figures
//! of a shared machine mean something only as ratios.
//!
//! Refuses: to be a test (nothing fails because it is slow), to use a server that runs on the machine already, and to
//! weaken durability (fsync, synchronous_commit and confirms stay on everywhere).

#![allow(clippy::match_bool, clippy::single_match_else)] // both arms of a choice, one under the other

/// As in the server: the command path is measured in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod account;
mod command;
mod copy;
mod esdb;
mod http;
mod lag;
mod live;
mod load;
mod log_in;
mod meter;
mod operate;
mod overload;
mod projection;
mod query;
mod rebuild;
mod reference;
mod steady;
mod table;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use table::Table;
use world::{Scale, World};

/// Measures the main path and prints medians, ratios and bars.
#[derive(Debug, Parser)]
struct Arguments {
    /// Shorter measurements and a smaller rebuild
    #[arg(long)]
    quick: bool,
    /// How many rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// The release binary that serves
    #[arg(long, value_name = "FILE")]
    showcaller: PathBuf,
    /// Which parts; without any, all. The reference runs beside whatever is compared with it
    parts: Vec<Part>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// pgbench's single-row insert, and a binary COPY of events
    Reference,
    /// Commands, without HTTP
    Command,
    /// Commands and appends over EventStoreDB's protocol, beside the same log in PostgreSQL; only where it is named
    Esdb,
    /// Commands over HTTP, with tokens
    Http,
    /// Log-ins over HTTP, beside the two hashes that each of them takes
    LogIn,
    /// Relay, RabbitMQ, projector
    Projection,
    /// Building `accounts` from the log
    Rebuild,
    /// Rows and lists over HTTP, with and without the cache, beside a constant route
    Query,
    /// Commands at twice the rate that the server can carry; only where it is named
    Overload,
    /// Export, import, backup and restore of a log; only where it is named
    Carry,
    /// Rebuilds under 500 commands a second; only where it is named
    Operate,
    /// Server-sent events: a thousand idle listeners, and how soon all of them hear of a write
    Live,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let wanted = |part| {
        let parts = &arguments.parts;
        let beside = part == Part::Reference
            && (parts.contains(&Part::Command) || parts.contains(&Part::Http));
        parts.is_empty() || parts.contains(&part) || beside
    };
    let scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    let with_rabbitmq = wanted(Part::Projection) || wanted(Part::Carry) || wanted(Part::Operate);
    let world = World::start(&arguments.showcaller, scale, with_rabbitmq).await?;
    let rebuild = match wanted(Part::Rebuild) {
        true => Some(rebuild::Rebuild::prepare(&world).await?),
        false => None,
    };
    let mut table = Table::default();
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        if wanted(Part::Reference) {
            reference::measure(&world, &mut table).await?;
        }
        if wanted(Part::Command) {
            command::measure(&world, &mut table).await?;
        }
        if arguments.parts.contains(&Part::Esdb) {
            if !wanted(Part::Command) {
                command::on_postgres(&world, &mut table).await?;
            }
            esdb::measure(&world, &mut table).await?;
        }
        if wanted(Part::Http) {
            http::measure(&world, &mut table).await?;
        }
        if wanted(Part::LogIn) {
            log_in::measure(&world, &mut table).await?;
        }
        if wanted(Part::Projection) {
            projection::measure(&world, &mut table).await?;
        }
        if wanted(Part::Query) {
            query::measure(&world, &mut table).await?;
        }
        if wanted(Part::Live) {
            live::measure(&world, &mut table).await?;
        }
        if let Some(rebuild) = &rebuild {
            rebuild.measure(&world, &mut table).await?;
        }
    }
    if arguments.parts.contains(&Part::Overload) {
        overload::measure(&world).await?;
    }
    if arguments.parts.contains(&Part::Carry) {
        operate::carry(&world).await?;
    }
    if arguments.parts.contains(&Part::Operate) {
        operate::rebuild(&world).await?;
    }
    println!("{}", world.describe().await);
    if !table.is_empty() {
        println!("\n{table}");
    }
    Ok(())
}
