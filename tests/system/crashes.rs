//! The embedded server, ended under load again and again: what was acknowledged is there, and nothing is doubled.

use std::sync::Arc;
use std::time::Duration;

use test_support::eventually;
use tokio::task::JoinSet;

use crate::client::{Client, ME};
use crate::load::{Crowd, Marked};
use crate::world::Embedded;

const CLIENTS: usize = 16;
/// How many commands are acknowledged before each end, at least.
const BEFORE_AN_END: usize = 100;
const WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_load_lose_and_double_no_command() {
    survives(10, "kill", async |embedded| embedded.server.kill().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_under_load_exits_with_0_and_loses_no_command() {
    survives(3, "end", async |embedded| {
        assert_eq!(
            embedded.server.terminate().await,
            0,
            "{}",
            embedded.server.logs()
        );
    })
    .await;
}

async fn survives(times: usize, name: &str, end: impl AsyncFn(&Embedded)) {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let crowd = Crowd::gather(&client, CLIENTS, name).await;
    for time in 1..=times {
        let before = crowd.acknowledged();
        let clients = until_it_ends(&crowd, &client);
        let enough = before + BEFORE_AN_END;
        eventually(WITHIN, || async { crowd.acknowledged() >= enough }).await;
        end(&embedded).await;
        let unknown = clients.join_all().await;
        embedded.server.restart().await;
        // With the same key, each is carried out if it was not before.
        for command in &unknown {
            crowd.insist(&client, command).await;
        }
        println!(
            "{name} {time}: {} acknowledged",
            crowd.acknowledged() - before
        );
    }
    crowd.assert_in_log_once(&embedded.events_url()).await;
    let tokens = crowd.tokens();
    for person in crowd.people() {
        client.read(ME, person, &tokens[&person.account]).await;
    }
    embedded.verify().await;
}

/// Each client sends until an answer fails to come, or the server says that it is going, and gives the command that nobody
/// knows the outcome of.
fn until_it_ends(crowd: &Arc<Crowd>, client: &Client) -> JoinSet<Marked> {
    let mut clients = JoinSet::new();
    for person in 0..CLIENTS {
        let (crowd, client) = (Arc::clone(crowd), client.clone());
        clients.spawn(async move {
            loop {
                let command = crowd.next(person);
                match crowd.attempt(&client, &command).await {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) if answer.status != 503 => panic!("{command:?}: {}", answer.text),
                    Ok(_) | Err(_) => return command,
                }
            }
        });
    }
    clients
}
