//! Log-ins over HTTP, and beside them the two Argon2id hashes that each takes: the rest is what Showcaller adds.
//!
//! Refuses: to go round the rate limit by switching it off. Loopback has addresses enough.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::Result;
use test_support::Showcaller;
use tokio::task::JoinSet;

use crate::http::{self, Connection};
use crate::load::{closed_loop, measured, micros};
use crate::meter::Meter;
use crate::table::{Key, Table, Value};
use crate::world::World;

const CLIENTS: usize = 2;
/// Fewer than one network address may try in a minute.
const AN_ADDRESS: usize = 90;
const PASSWORD: &str = "a quiet lighthouse";

/// One round on a new log.
pub async fn measure(world: &World, table: &mut Table) -> Result<()> {
    let vault = world.vault.clone();
    let pairs = closed_loop(CLIENTS, 0..u64::MAX, world.scale.rate, move |_| {
        let vault = vault.clone();
        async move {
            for _ in 0..2 {
                vault.hash_password(PASSWORD.into()).await?;
            }
            Ok(())
        }
    });
    table.note(Key::TwoHashes, pairs.await?);

    let server = http::command_api(world, &world.postgres.fresh_database().await).await;
    for client in 0..CLIENTS {
        register(&server, client).await?;
    }
    world.settle().await;
    let rate = log_ins(world, &server).await?;
    table.note(Key::LogIn, rate);
    http::stop(server).await
}

async fn log_ins(world: &World, server: &Showcaller) -> Result<Value> {
    let (began, meter, time, port) = (
        Instant::now(),
        Meter::start(),
        world.scale.rate,
        server.port(),
    );
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let body = format!(
            r#"{{"email":"{}","password":"{PASSWORD}"}}"#,
            email(client, port)
        );
        let request = post("/v1/sessions", &body);
        clients.spawn(async move {
            let mut took = Vec::new();
            for place in 0..=u8::MAX {
                let address = Ipv4Addr::new(127, 0, 1 + client as u8, place);
                let mut connection = Connection::open_from(address, port).await?;
                for _ in 0..AN_ADDRESS {
                    let started = Instant::now();
                    if started - began >= time {
                        return anyhow::Ok(took);
                    }
                    connection.expect(&request, b"201").await?;
                    took.push(micros(started));
                }
            }
            Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = clients.join_next().await {
        all.append(&mut took??);
    }
    Ok(measured(&meter, all))
}

async fn register(server: &Showcaller, client: usize) -> Result<()> {
    let mut connection = Connection::open_from(Ipv4Addr::LOCALHOST, server.port()).await?;
    let body = format!(
        r#"{{"email":"{}","password":"{PASSWORD}","profile":{{"display_name":"Somebody"}}}}"#,
        email(client, server.port())
    );
    connection
        .expect(&post("/v1/accounts", &body), b"201")
        .await
}

/// The vault stays from round to round: no address is used twice.
fn email(client: usize, port: u16) -> String {
    format!("client-{client}-{port}@example.org")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
