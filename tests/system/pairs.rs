//! Two instances of every role at once: nothing is doubled, and when the half of them is killed the others go on.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use test_support::{Postgres, RabbitMq, eventually};

use crate::client::{Client, ME};
use crate::load::Crowd;
use crate::world::{Cluster, Settings, read_log};

const PEOPLE: usize = 8;
const ROUNDS: usize = 10;
const WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn two_of_each_role_double_nothing_and_one_of_each_is_enough() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let mut settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    // The log and the read models may share a database.
    settings.database.clone_from(&settings.events);
    // All eight find empty databases, and make their tables at the same time.
    let (one, two) = tokio::join!(Cluster::start(&settings), Cluster::start(&settings));
    let (first, second) = (one.client(), two.client());
    let crowd = Crowd::gather(&first, PEOPLE, "pair").await;

    // Each command goes to both at the same time, with one key: the same answer, or "ask again".
    for _ in 0..ROUNDS {
        let commands: Vec<_> = (0..PEOPLE).map(|person| crowd.next(person)).collect();
        let both = commands.iter().flat_map(|command| {
            [
                crowd.insist(&first, command),
                crowd.insist(&second, command),
            ]
        });
        join_all(both).await;
    }
    // Two commands at once on one stream, by two processes: both are carried out, one after the other.
    let rivals: Vec<_> = (0..20).map(|_| crowd.next(0)).collect();
    join_all(rivals.iter().enumerate().map(|(number, command)| {
        crowd.insist(if number % 2 == 0 { &first } else { &second }, command)
    }))
    .await;
    assert_eq!(crowd.acknowledged(), 2 * PEOPLE * ROUNDS + rivals.len());
    crowd.assert_in_log_once(&settings.events).await;
    seen_by_all(&crowd, &[&first, &second]).await;
    settings.verify().await;

    // Whichever of the two leads, publishes or consumes: without it the other does.
    for (_, process) in one.processes() {
        process.kill().await;
    }
    let commands: Vec<_> = (0..PEOPLE).map(|person| crowd.next(person)).collect();
    join_all(
        commands
            .iter()
            .map(|command| crowd.insist(&second, command)),
    )
    .await;
    seen_by_all(&crowd, &[&second]).await;
    // The first ones come back, and the second ones go.
    for (_, process) in one.processes() {
        process.restart().await;
    }
    for (_, process) in two.processes() {
        process.kill().await;
    }
    let commands: Vec<_> = (0..PEOPLE).map(|person| crowd.next(person)).collect();
    join_all(commands.iter().map(|command| crowd.insist(&first, command))).await;
    seen_by_all(&crowd, &[&first]).await;
    crowd.assert_in_log_once(&settings.events).await;
    settings.verify().await;
}

/// Every row is at the version that was acknowledged, by whichever query API.
async fn seen_by_all(crowd: &Crowd, clients: &[&Client]) {
    let tokens = crowd.tokens();
    for (person, client) in crowd
        .people()
        .iter()
        .flat_map(|person| clients.iter().map(move |client| (person, client)))
    {
        let token = &tokens[&person.account];
        client.read(ME, person, token).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_registration_sent_to_two_processes_is_one_account() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let (one, two) = tokio::join!(
        settings.role("command-api").start(),
        settings.role("command-api").start()
    );
    let body = crate::client::registration("both@example.org", "Ada");
    let answers = join_all([&one, &two, &one, &two].map(|process| {
        let client = Client::new(&process.url());
        let body = body.clone();
        async move {
            eventually(WITHIN, || async {
                let answer = client
                    .post("/v1/accounts")
                    .json(&body)
                    .key("r-1")
                    .send()
                    .await;
                if answer.status == 201 {
                    Ok(answer)
                } else {
                    Err(answer.text)
                }
            })
            .await
        }
    }))
    .await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.header("location") == answers[0].header("location"))
    );
    assert_eq!(read_log(&settings.events).await.len(), 1);
    let logins = join_all([&one, &two].map(|process| {
        let client = Client::new(&process.url());
        async move { client.returning("both@example.org").await }
    }))
    .await;
    // A token of one process is good at the other.
    for (process, person) in [&two, &one].into_iter().zip(&logins) {
        let client = Client::new(&process.url());
        client
            .command(person, "change-settings", &json!({"theme": "dark"}))
            .expect(200)
            .await;
    }
}
