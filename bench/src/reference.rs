//! What PostgreSQL does by itself: pgbench inserting one row a commit, and a binary COPY of the same kind of rows that a
//! log has, into a table with the same indexes.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use command_api::{Clock, SystemClock};
use events::{CommandId, Hash};
use sqlx::{Connection, PgConnection};
use test_support::psql;

use crate::account;
use crate::copy::Rows;
use crate::meter::Meter;
use crate::table::{Key, Table, Value};
use crate::world::World;

/// As long as a command's own event would be without encryption.
const PAYLOAD: &str = r#"{"locale":"de-AT","time_zone":"Europe/Vienna","theme":"dark","custom":{"counter":123456,"note":"sidebar=left;density=compact;start=inbox;shortcuts=on;sounds=off;digest=weekly"}}"#;

const INSERT: &str = "INSERT INTO bench_insert (payload) VALUES (:payload);\n";

/// The columns and indexes of the event store's table.
const LOG_TABLE: &str = r#"CREATE TABLE bench_log (
    position bigint PRIMARY KEY, stream text COLLATE "C" NOT NULL, version bigint NOT NULL, id uuid NOT NULL,
    type text COLLATE "C" NOT NULL, schema_version int NOT NULL, data text COLLATE "C" NOT NULL,
    metadata text COLLATE "C" NOT NULL, hash bytea NOT NULL, partition int NOT NULL, command_id uuid UNIQUE,
    append_size int, UNIQUE (stream, version))"#;

/// One round of it.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    let url = world.postgres.fresh_database().await;
    let insert = "CREATE TABLE bench_insert (id bigserial PRIMARY KEY, payload jsonb NOT NULL)";
    psql(&url, insert).await;
    let script = world.folder.path().join("insert.sql");
    std::fs::write(&script, INSERT)?;
    for (clients, key) in [
        (1, Key::Pgbench1),
        (64, Key::Pgbench64),
        (256, Key::Pgbench256),
    ] {
        world.settle().await;
        let (url, script, time) = (url.clone(), script.clone(), world.scale.rate);
        let rate =
            tokio::task::spawn_blocking(move || pgbench(&url, script, clients, time.as_secs()))
                .await??;
        table.note(key, rate);
    }
    world.settle().await;
    table.note(Key::Copy, copy(world, &url).await?);
    Ok(())
}

/// Transactions a second, connecting not counted.
fn pgbench(url: &str, script: PathBuf, clients: usize, seconds: u64) -> Result<Value> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(clients);
    let mut command = Command::new(binary()?);
    command.args(["--no-vacuum", "--protocol=prepared"]);
    command.args([
        "--client",
        &clients.to_string(),
        "--jobs",
        &threads.to_string(),
    ]);
    command.args([
        "--time",
        &seconds.to_string(),
        "--define",
        &format!("payload={PAYLOAD}"),
    ]);
    command.arg("--file").arg(script).arg(url);
    let meter = Meter::start();
    let output = command.output().context("pgbench cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    match rate {
        // The time for connecting is left out of pgbench's own rate.
        Some(rate) if output.status.success() => {
            let rate: f64 = rate;
            Ok(Value {
                value: rate,
                ..meter.rate((rate * seconds as f64) as usize)
            })
        }
        _ => bail!(
            "pgbench failed: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// Debian keeps it beside the server's programs; the newest version counts.
fn binary() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: apt-get install postgresql")?
    {
        let folder = entry?.path();
        let version = folder
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let program = folder.join("bin/pgbench");
        if let (Some(version), true) = (version, program.exists()) {
            versions.push((version, program));
        }
    }
    let newest = versions
        .into_iter()
        .max()
        .context("there is no pgbench: apt-get install postgresql")?;
    Ok(newest.1)
}

/// Rows a second, encoding not counted.
async fn copy(world: &World, url: &str) -> Result<Value> {
    let (count, now) = (world.scale.copied_rows, SystemClock.now());
    let mut rows = Rows::new();
    for number in 0..count {
        let person = &world.people[number % world.people.len()];
        let command_id = CommandId(vault::random_uuid());
        let version = 1 + number / world.people.len();
        let event = account::seal(
            person,
            &person.stream,
            command_id,
            0,
            &account::event(version as u64),
            now,
        )?;
        rows.row(12)
            .bigint(number as i64 + 1)
            .bytes(person.stream.as_str().as_bytes())
            .bigint(version as i64)
            .uuid(event.id.0)
            .bytes(event.type_name.as_bytes())
            .int(1)
            .bytes(event.data.as_bytes())
            .bytes(event.metadata.as_bytes())
            .bytes(Hash::ZERO.as_bytes())
            .int(0)
            .uuid(command_id.0)
            .int(1);
    }
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query(LOG_TABLE).execute(&mut connection).await?;
    let meter = Meter::start();
    rows.send(&mut connection, "COPY bench_log FROM STDIN (FORMAT binary)")
        .await?;
    let rate = meter.rate(count);
    connection.close().await?;
    Ok(rate)
}
