//! Commands over HTTP with tokens: the release binary as `--role command-api`, and a client as light as can be on one
//! thread, since it shares the cores: keep-alive connections, each writing one request and reading its answer.
//!
//! Refuses: to count an answer that is not 200.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use chrono::TimeDelta;
use command_api::{Clock, SystemClock};
use futures::future::try_join_all;
use test_support::Showcaller;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use uuid::Uuid;
use vault::{NewSession, Seen};
use web::{Grant, TokenSettings, Tokens};

use crate::account::{self, Person};
use crate::load::{NO_LIMIT, measured, micros, scatter};
use crate::meter::Meter;
use crate::table::{Key, Table, Value};
use crate::world::{ACCOUNTS, World};

const CONNECTIONS: usize = 64;
/// The issuer and audience that the server has by default.
const ISSUER: &str = "showcaller";
/// An answer is far smaller.
const ANSWER_BYTES: usize = 16 * 1024;

/// One round on a new log.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    let events = world.postgres.fresh_database().await;
    let log = event_store::open(&events, event_store::Options::default()).await?;
    account::register(&log, &world.people).await?;
    log.close().await;
    let server = command_api(world, &events).await;
    let clients = Arc::new(Clients {
        port: server.port(),
        accounts: authorised(world, &world.people, &[]).await?,
    });
    world.settle().await;
    let each_once = 0..ACCOUNTS as u64;
    clients
        .run(each_once, NO_LIMIT, |number| number as usize)
        .await?;
    world.settle().await;
    let all_over = |number| scatter(number, ACCOUNTS);
    let rate = clients
        .run(1 << 32..2 << 32, world.scale.rate, all_over)
        .await?;
    table.note(Key::Http64, rate);
    stop(server).await
}

/// Ends a server, which must end well.
pub async fn stop(server: Showcaller) -> Result<()> {
    let status = server.terminate().await;
    anyhow::ensure!(
        status == 0,
        "the server ended with status {status}:\n{}",
        server.logs()
    );
    Ok(())
}

/// The release binary as command-api, on this log.
pub async fn command_api(world: &World, events: &str) -> Showcaller {
    let keys = world.keys_file();
    Showcaller::launch(&world.showcaller)
        .args([
            "--role",
            "command-api",
            "--events",
            events,
            "--vault",
            &world.vault_url,
        ])
        // A single role wants a broker's URL; this one never connects to it.
        .args([
            "--broker",
            "amqp://127.0.0.1:1/%2f",
            "--keys",
            &keys.to_string_lossy(),
        ])
        .start()
        .await
}

/// Accounts and the start of a request by the owner of each, who is logged in, with these scopes.
pub async fn authorised(
    world: &World,
    people: &[Person],
    scopes: &[&str],
) -> Result<Vec<(Uuid, String)>> {
    let settings = TokenSettings {
        issuer: ISSUER.to_owned(),
        audience: ISSUER.to_owned(),
    };
    let tokens = Tokens::new(Arc::clone(&world.keys), settings);
    let now = SystemClock.now();
    let mut authorised = Vec::with_capacity(people.len());
    for people in people.chunks(CONNECTIONS) {
        let sessions = people.iter().map(|person| async {
            let session = vault::random_uuid();
            let new = NewSession {
                id: session,
                account: person.id,
                started_at: now,
                expires_at: now + TimeDelta::days(1),
                second_factor: false,
                seen: Seen::default(),
            };
            world.vault.begin_session(new).await?;
            let grant = Grant {
                account: person.id,
                session,
                scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
                authenticated_at: now,
                second_factor: false,
            };
            let token = tokens.issue(&grant, now).token;
            anyhow::Ok((person.id, format!("Authorization: Bearer {token}\r\n")))
        });
        authorised.extend(try_join_all(sessions).await?);
    }
    Ok(authorised)
}

struct Clients {
    port: u16,
    accounts: Vec<(Uuid, String)>,
}

impl Clients {
    /// Sends commands of these numbers, each number to an account, until the time is up.
    async fn run(
        self: &Arc<Self>,
        numbers: Range<u64>,
        time: Duration,
        account: impl Fn(u64) -> usize + Copy + Send + 'static,
    ) -> Result<Value> {
        let this = Arc::clone(self);
        rate(self.port, numbers, time, move |number| {
            command(&this.accounts[account(number)], number)
        })
        .await
    }
}

pub fn command((account, authorization): &(Uuid, String), number: u64) -> String {
    let body = account::change_settings(number);
    format!(
        "POST /v1/accounts/{account}/change-settings HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}\
         Content-Type: application/json\r\nIdempotency-Key: key-{number}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends the requests of these numbers, 64 at once from one thread, until the time is up. Each must be answered with 200.
pub async fn rate(
    port: u16,
    numbers: Range<u64>,
    time: Duration,
    request: impl Fn(u64) -> String + Clone + Send + 'static,
) -> Result<Value> {
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(loops(port, numbers, time, request))
    })
    .await?
}

async fn loops(
    port: u16,
    numbers: Range<u64>,
    time: Duration,
    request: impl Fn(u64) -> String + Clone + Send + 'static,
) -> Result<Value> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(port).await?);
    }
    let (began, meter) = (Instant::now(), Meter::start());
    let mut loops = JoinSet::new();
    for (first, mut connection) in numbers.clone().zip(connections) {
        let (request, mine) = (request.clone(), (first..numbers.end).step_by(CONNECTIONS));
        loops.spawn(async move {
            let mut took = Vec::new();
            for number in mine {
                let started = Instant::now();
                if started - began >= time {
                    break;
                }
                connection.expect(&request(number), b"200").await?;
                took.push(micros(started));
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = loops.join_next().await {
        all.append(&mut took??);
    }
    Ok(measured(&meter, all))
}

/// A keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub async fn open(port: u16) -> Result<Self> {
        Self::open_from(Ipv4Addr::LOCALHOST, port).await
    }

    /// As a client of this network address.
    pub async fn open_from(address: Ipv4Addr, port: u16) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            answer: Vec::with_capacity(ANSWER_BYTES),
        })
    }

    /// Sends a request, and reads an answer that must have this status.
    pub async fn expect(&mut self, request: &str, status: &[u8; 3]) -> Result<()> {
        if self.ask(request).await? == *status {
            return Ok(());
        }
        Err(anyhow!(
            "an answer has another status: {}",
            String::from_utf8_lossy(&self.answer)
        ))
    }

    /// The last answer, head and body.
    pub fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// Sends a request, and gives the status of the answer.
    pub async fn ask(&mut self, request: &str) -> Result<[u8; 3]> {
        self.stream.write_all(request.as_bytes()).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!(
                    "the server hung up: {}",
                    String::from_utf8_lossy(&self.answer)
                );
            }
            if let Some(length) = whole(&self.answer)?
                && self.answer.len() >= length
            {
                break;
            }
            anyhow::ensure!(self.answer.len() < ANSWER_BYTES, "the answer has no end");
        }
        let status = self
            .answer
            .get(9..12)
            .context("an answer without a status")?;
        Ok(status.try_into()?)
    }
}

/// How long the whole answer is, once its head is there.
fn whole(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..head])?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            value.trim().parse::<usize>().ok()
        } else {
            None
        }
    });
    Ok(Some(
        head + 4 + length.context("an answer without Content-Length")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is_there() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Len").unwrap(), None);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(whole(answer).unwrap(), Some(answer.len()));
        assert!(whole(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
