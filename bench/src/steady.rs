//! Commands at a steady rate over HTTP, each followed by a read with its token, while something else goes on.
//!
//! Refuses: to go on after a command or a read that fails, or a read that shows less than its token.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{interval_at, sleep};
use uuid::Uuid;

use crate::http::{Connection, command};
use crate::load::{micros, scatter};
use crate::table::p99_ms;
use crate::world::ACCOUNTS;

/// Commands a second.
pub const RATE: u32 = 500;
/// Clients in turn, so many that one which waits for its read holds up no command.
const CLIENTS: u32 = 128;
/// What a client waits that is told to come again: less than it is told, to be on the hard side.
const AGAIN: Duration = Duration::from_millis(100);

/// Clients that send commands until they are stopped.
pub struct Load {
    seen: Arc<Seen>,
    clients: JoinSet<Result<()>>,
}

struct Seen {
    over: AtomicBool,
    span: Mutex<Span>,
}

/// What clients have seen within some time.
struct Span {
    began: Instant,
    /// How long each took, in microseconds.
    commands: Vec<u32>,
    reads: Vec<u32>,
    /// Commands that were told to come again.
    refused: usize,
    /// Reads that were told so: there was no room, or the projection was not there within 2 s.
    again: usize,
}

impl Load {
    /// Clients of these ports, who act for these people.
    pub async fn start(
        commands: u16,
        queries: u16,
        people: Arc<Vec<(Uuid, String)>>,
    ) -> Result<Self> {
        let (mut clients, began) = (JoinSet::new(), tokio::time::Instant::now());
        let seen = Arc::new(Seen {
            over: AtomicBool::new(false),
            span: Mutex::new(Span::new()),
        });
        for first in 0..CLIENTS {
            let (to_commands, to_queries) = (
                Connection::open(commands).await?,
                Connection::open(queries).await?,
            );
            let client = Client {
                to_commands,
                to_queries,
                people: Arc::clone(&people),
                seen: Arc::clone(&seen),
            };
            let second = Duration::from_secs(1);
            let mut turns = interval_at(began + second * first / RATE, second * CLIENTS / RATE);
            clients.spawn(async move {
                let mut client = client;
                for number in (u64::from(first)..).step_by(CLIENTS as usize) {
                    turns.tick().await;
                    if client.seen.over.load(Ordering::Relaxed) {
                        break;
                    }
                    client.turn(number).await?;
                }
                Ok(())
            });
        }
        Ok(Self { seen, clients })
    }

    /// Says what was seen since the last time, and begins anew.
    pub fn tell(&self, during: &str) {
        let span = std::mem::replace(&mut *self.seen.span(), Span::new());
        let took = span.began.elapsed().as_secs_f64();
        let rate = span.commands.len() as f64 / took;
        let longest = span.reads.iter().max().copied().unwrap_or_default();
        println!(
            "{during}: {took:.1} s; {rate:.0} commands/s, p99 {:.0} ms, {} refused; reads with their tokens p99 {:.0} ms, \
             longest {} ms, {} told to ask again",
            p99_ms(span.commands).unwrap_or_default(),
            span.refused,
            p99_ms(span.reads).unwrap_or_default(),
            longest / 1_000,
            span.again
        );
    }

    /// Lets the clients come to an end; the first failure of one is the answer.
    pub async fn stop(self) -> Result<()> {
        self.seen.over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().collect()
    }
}

impl Seen {
    fn span(&self) -> std::sync::MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Span {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            commands: Vec::new(),
            reads: Vec::new(),
            refused: 0,
            again: 0,
        }
    }
}

struct Client {
    to_commands: Connection,
    to_queries: Connection,
    people: Arc<Vec<(Uuid, String)>>,
    seen: Arc<Seen>,
}

impl Client {
    async fn turn(&mut self, number: u64) -> Result<()> {
        let person = &self.people[scatter(number, ACCOUNTS)];
        let began = Instant::now();
        while self.to_commands.ask(&command(person, number)).await? == *b"503" {
            self.seen.span().refused += 1;
            sleep(AGAIN).await;
        }
        let written = self.to_commands.answer();
        ensure!(succeeded(written), "a command failed: {}", text(written));
        let token = told(written, "\"token\":\"")?;
        let version: u64 = told(written, "\"version\":")?.parse()?;
        self.seen.span().commands.push(micros(began));
        let began = Instant::now();
        let read = format!(
            "GET /v1/accounts/me HTTP/1.1\r\nHost: 127.0.0.1\r\n{}Showcaller-After: {token}\r\n\r\n",
            person.1
        );
        while self.to_queries.ask(&read).await? == *b"503" {
            self.seen.span().again += 1;
            sleep(AGAIN).await;
        }
        let row = self.to_queries.answer();
        ensure!(succeeded(row), "a read failed: {}", text(row));
        let shown: u64 = told(row, "\"version\":")?.parse()?;
        ensure!(shown >= version, "a read shows less than its token");
        self.seen.span().reads.push(micros(began));
        Ok(())
    }
}

fn succeeded(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200")
}

fn text(answer: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(answer)
}

/// What an answer's JSON has after this, up to the value's end.
fn told(answer: &[u8], before: &str) -> Result<String> {
    let text = text(answer);
    let (_, after) = text
        .split_once(before)
        .with_context(|| format!("{before} is missing in {text}"))?;
    let end = after.find(['"', ',', '}']).unwrap_or(after.len());
    Ok(after[..end].to_owned())
}
