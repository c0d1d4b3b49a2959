//! Live answers over HTTP, through a kill and a shutdown of the query API.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Postgres, RabbitMq, Showcaller};

use crate::client::Person;
use crate::world::{Cluster, Settings};

const PATH: &str = "/v1/accounts/me?select=theme,version";
const WITHIN: Duration = Duration::from_secs(30);

/// A stream of events, and the last id that came.
struct Stream {
    response: reqwest::Response,
    text: String,
    last_id: String,
}

impl Stream {
    async fn open(server: &Showcaller, person: &Person, last_id: &str) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client");
        let mut request = http
            .get(format!("{}{PATH}", server.url()))
            .bearer_auth(&person.access)
            .header("accept", "text/event-stream");
        if !last_id.is_empty() {
            request = request.header("last-event-id", last_id);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        Self {
            response,
            text: String::new(),
            last_id: last_id.to_owned(),
        }
    }

    /// The next event's name and data; nothing once the connection ended, however it did.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(id) = field("id:") {
                    id.trim().clone_into(&mut self.last_id);
                }
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    return Some((name.to_owned(), serde_json::from_str(data).expect("JSON")));
                }
                continue;
            }
            let chunk = tokio::time::timeout(WITHIN, self.response.chunk()).await;
            let chunk = chunk.expect("something comes").ok().flatten()?;
            self.text
                .push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    async fn expect(&mut self, name: &str, data: Value) {
        assert_eq!(self.next().await, Some((name.to_owned(), data)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_misses_nothing_through_a_kill_and_ends_with_the_process() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let cluster = Cluster::start(&settings).await;
    let client = cluster.client();
    let ada = client.person("live@example.org").await;
    client.read("/v1/accounts/me", &ada, &ada.token).await;
    let theme = async |theme: &str| {
        let body = json!({ "theme": theme });
        client
            .command(&ada, "change-settings", &body)
            .expect(200)
            .await
    };

    let mut stream = Stream::open(&cluster.query_api, &ada, "").await;
    stream.expect("reset", json!({})).await;
    let (name, row) = stream.next().await.expect("a row");
    assert_eq!(name, "row");
    let version = row["version"].as_i64().expect("a version");
    stream.expect("ready", json!({})).await;
    theme("dark").await;
    let row = |theme: &str, more: i64| json!({ "theme": theme, "version": version + more });
    stream.expect("row", row("dark", 1)).await;

    cluster.query_api.kill().await;
    while stream.next().await.is_some() {}
    theme("light").await;
    theme("system").await;
    cluster.query_api.restart().await;
    // The projector may still be at it, but what it commits comes either at once or later.
    let last_id = stream.last_id.clone();
    let mut stream = Stream::open(&cluster.query_api, &ada, &last_id).await;
    let mut names = Vec::new();
    loop {
        let (name, data) = stream.next().await.expect("the stream goes on");
        names.push(name);
        if data == row("system", 3) {
            break;
        }
    }
    assert!(
        names.iter().all(|name| name == "row" || name == "ready"),
        "{names:?}"
    );

    let ends = async {
        let (name, data) = loop {
            let event = stream.next().await.expect("the end is told");
            if event.0 != "ready" {
                break event;
            }
        };
        assert_eq!(
            (name.as_str(), data),
            ("end", json!({ "reason": "unavailable" }))
        );
        assert_eq!(stream.next().await, None);
    };
    let (status, ()) = tokio::join!(cluster.query_api.terminate(), ends);
    assert_eq!(status, 0);
}
