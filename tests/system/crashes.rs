//! The embedded server, killed under load again and again: what was acknowledged is there, and nothing is doubled.

use std::sync::Arc;
use std::time::Duration;

use test_support::eventually;
use tokio::task::JoinSet;

use crate::load::{Crowd, Marked};
use crate::world::Embedded;

const KILLS: usize = 10;
const CLIENTS: usize = 16;
/// How many commands are acknowledged before each kill, at least.
const BEFORE_A_KILL: usize = 100;
const WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_under_load_lose_and_double_no_command() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let crowd = Crowd::gather(&client, CLIENTS, "crash").await;
    for kill in 1..=KILLS {
        let before = crowd.acknowledged();
        let mut clients: JoinSet<Marked> = JoinSet::new();
        for person in 0..CLIENTS {
            let (crowd, client) = (Arc::clone(&crowd), client.clone());
            // Sends until an answer fails to come, and gives the command that nobody knows the outcome of.
            clients.spawn(async move {
                loop {
                    let command = crowd.next(person);
                    match crowd.attempt(&client, &command).await {
                        Ok(answer) if answer.status == 200 => {}
                        Ok(answer) => panic!("{command:?}: {} {}", answer.status, answer.text),
                        Err(_) => return command,
                    }
                }
            });
        }
        eventually(WITHIN, || async {
            crowd.acknowledged() >= before + BEFORE_A_KILL
        })
        .await;
        embedded.server.kill().await;
        let unknown = clients.join_all().await;
        embedded.server.restart().await;
        // With the same key, each is carried out if it was not before.
        for command in &unknown {
            crowd.insist(&client, command).await;
        }
        println!(
            "kill {kill}: {} acknowledged",
            crowd.acknowledged() - before
        );
    }
    crowd.assert_in_log_once(&embedded.events_url()).await;
    let tokens = crowd.tokens();
    for person in crowd.people() {
        client
            .profile(person, &tokens[&person.account])
            .await
            .expect(200);
    }
    embedded.verify().await;
}
