//! Live answers: a thousand idle listeners on one query API, what they take in memory, and how long one write takes to reach
//! each of them.
//!
//! Refuses: to count a write that did not reach everybody.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::http;
use crate::query::{Rows, query_api};
use crate::table::{Key, Table, Value, p99_ms};
use crate::world::World;

const LISTENERS: usize = 1_000;
/// Fewer than so many of one account are let in.
const AN_ACCOUNT: usize = 100;
const WRITES: usize = 20;
/// Between two writes, so that each is one of its own.
const PAUSE: Duration = Duration::from_millis(200);
const WITHIN: Duration = Duration::from_secs(30);

/// One round on new read models.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    let mut rows = Rows::prepare(world).await?;
    let server = query_api(world, &rows.database, "64").await;
    let callers = &world.people[..LISTENERS / AN_ACCOUNT];
    let callers = http::authorised(world, callers, &["read:accounts"]).await?;
    let watched = world.people[0].id;
    let (heard, mut receiver) = mpsc::channel(LISTENERS);
    let mut listeners = JoinSet::new();
    for number in 0..LISTENERS {
        let (_, authorization) = &callers[number / AN_ACCOUNT];
        let request = format!(
            "GET /v1/accounts?account_id=eq.{watched}&select=account_id,version HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Accept: text/event-stream\r\n{authorization}\r\n"
        );
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).await?;
        stream.write_all(request.as_bytes()).await?;
        let heard = heard.clone();
        listeners.spawn(async move { listen(stream, heard).await });
    }
    // Each begins with its row.
    for _ in 0..LISTENERS {
        hear(&mut receiver).await?;
    }
    table.note(Key::ListenersMemory, resident_mb(&server)?);
    let mut took = Vec::new();
    for _ in 0..WRITES {
        let written = Instant::now();
        rows.write(&[watched]).await?;
        for _ in 0..LISTENERS {
            let at = hear(&mut receiver).await?;
            took.push(u32::try_from((at - written).as_micros())?);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let p99 = p99_ms(took).context("everybody heard")?;
    table.note(Key::ListenersDelay, Value::from(p99));
    listeners.abort_all();
    http::stop(server).await
}

async fn hear(receiver: &mut mpsc::Receiver<Instant>) -> Result<Instant> {
    let heard = tokio::time::timeout(WITHIN, receiver.recv()).await;
    heard
        .context("a listener heard nothing")?
        .context("all listeners ended")
}

/// Tells when a row came, for each.
async fn listen(mut stream: TcpStream, heard: mpsc::Sender<Instant>) -> Result<()> {
    let mut text = Vec::new();
    loop {
        if stream.read_buf(&mut text).await? == 0 {
            bail!("a stream ended: {}", String::from_utf8_lossy(&text));
        }
        let mark = b"event: row\n";
        while let Some(at) = text.windows(mark.len()).position(|bytes| bytes == mark) {
            text.drain(..at + mark.len());
            heard.send(Instant::now()).await?;
        }
        // A mark may come in two parts.
        let kept = text.len().min(mark.len() - 1);
        text.drain(..text.len() - kept);
    }
}

/// What the server takes, in 10^6 bytes.
fn resident_mb(server: &test_support::Showcaller) -> Result<f64> {
    let pid = server.pid().context("the server runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("the system tells what a process takes")?
        .parse()?;
    Ok(kib * 1_024.0 / 1e6)
}
