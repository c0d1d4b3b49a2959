//! Credentials that are good, or not any more, in every process: keys rotated under a running system, sessions that end.

use std::time::Duration;

use serde_json::json;
use test_support::{Finished, Postgres, RabbitMq, eventually};

use crate::client::{Client, ME, Person, taken_back};
use crate::world::{Cluster, Embedded, Settings};

const SOON: Duration = Duration::from_secs(30);

/// The ids of a ring's keys in this state, with what each wraps, as the verb lists them.
fn listed(list: &Finished, ring: &str, state: &str) -> Vec<(String, String)> {
    assert_eq!(list.status, 0, "{}", list.stderr);
    let rows = list
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[0] == ring && row[2] == state)
        .map(|row| {
            (
                row[1].to_owned(),
                row.last().copied().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// The part of a token that names its key.
fn head(person: &Person) -> &str {
    person.access.split('.').next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_under_a_running_server_and_nobody_is_refused() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let before = client.person("ada@example.org").await;
    for ring in ["signing", "master"] {
        let rotated = embedded.verb(&["keys", "rotate", ring, "--in", "0s"]).await;
        assert_eq!(rotated.status, 0, "{}", rotated.stderr);
    }
    let pending = embedded.verb(&["keys", "rotate", "master"]).await;
    assert_ne!(pending.status, 0, "{}", pending.stdout);

    let after = eventually(SOON, || async {
        let person = client.returning("ada@example.org").await;
        (head(&person) != head(&before)).then_some(person)
    })
    .await;
    for person in [&before, &after] {
        client.read(ME, person, &before.token).await;
    }
    let jwks = client
        .get("/.well-known/jwks.json")
        .send()
        .await
        .expect(200);
    assert_eq!(
        jwks.body["keys"].as_array().map(Vec::len),
        Some(2),
        "{jwks:?}"
    );

    // What the old master key wrapped is wrapped anew by the server itself.
    let old_master = eventually(SOON, || async {
        let list = embedded.verb(&["keys", "list"]).await;
        let old = listed(&list, "master", "old");
        (old.len() == 1 && old[0].1 == "0").then(|| old[0].0.clone())
    })
    .await;
    let early = embedded
        .verb(&["keys", "remove", "master", &old_master, "--yes"])
        .await;
    assert!(
        early.status != 0 && early.stderr.contains("try again after"),
        "{}",
        early.stderr
    );
    client.read(ME, &after, &before.token).await;

    let list = embedded.verb(&["keys", "list"]).await;
    let old_signing = listed(&list, "signing", "old")[0].0.clone();
    let removed = embedded
        .verb(&["keys", "remove", "signing", &old_signing, "--yes"])
        .await;
    assert_eq!(removed.status, 0, "{}", removed.stderr);
    eventually(SOON, || async {
        client.get(ME).bearer(&before.access).send().await.status == 401
    })
    .await;
    client.read(ME, &after, &before.token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_in_one_process_is_refused_by_every_other_within_a_second() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let (cluster, command_api, query_api) = tokio::join!(
        Cluster::start(&settings),
        settings.role("command-api").start(),
        settings.role("query-api").start()
    );
    let here = cluster.client();
    let there = Client::apart(&command_api.url(), &query_api.url());
    let ada = here.person("ada@example.org").await;
    here.read(ME, &ada, &ada.token).await;
    let elsewhere = there.returning("ada@example.org").await;
    let scopes = json!(["self:read", "self:write"]);
    let (key, path) = crate::accounts::api_key(&here, &ada, &scopes).await;
    let dark = json!({ "theme": "dark" });
    // What each of the four says to a token.
    let said = async |token: &str| {
        let mut statuses = Vec::new();
        for client in [&here, &there] {
            let path = format!("/v1/accounts/{}/change-settings", ada.account);
            let command = client.post(&path).bearer(token).json(&dark).send().await;
            let query = client.get(ME).bearer(token).send().await;
            statuses.extend([command.status, query.status]);
        }
        statuses
    };
    for token in [&elsewhere.access, &key] {
        assert_eq!(said(token).await, [200; 4]);
    }
    let revoke = here.post(&format!("{path}/revoke")).bearer(&ada.access);
    revoke.json(&json!({})).expect(200).await;
    let everywhere = async |token: &str| said(token).await == [401; 4];
    taken_back(async || everywhere(&key).await).await;
    let end = here.command(&ada, "end-sessions", &json!({}));
    end.expect(200).await;
    taken_back(async || everywhere(&elsewhere.access).await).await;
    assert_eq!(said(&ada.access).await, [200; 4]);
}
