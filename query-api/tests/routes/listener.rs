//! A client of live answers: reads events as they come, and never waits without a bound.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Request};
use futures::StreamExt;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use crate::fixture::Fixture;

const WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub name: String,
    pub data: Json,
    pub id: Option<String>,
}

pub struct Listener {
    pub headers: HeaderMap,
    body: BodyDataStream,
    text: String,
    /// The last id that was sent, as an `EventSource` keeps it.
    pub last_id: String,
}

impl Listener {
    pub async fn open(app: &Router, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(path).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
        assert_eq!(parts.status.as_u16(), 200, "{path}");
        Self {
            headers: parts.headers,
            body: body.into_data_stream(),
            text: String::new(),
            last_id: String::new(),
        }
    }

    /// The next event; nothing at the end. Comments, and ids alone, are taken in silently.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = self.read(&block) {
                    return Some(event);
                }
            }
            let chunk = tokio::time::timeout(WITHIN, self.body.next()).await;
            let chunk = chunk.expect("no event came within 10 s")?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    fn read(&mut self, block: &str) -> Option<Event> {
        let field = |name: &str| {
            let mut lines = block.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
        };
        let id = field("id").map(str::to_owned);
        if let Some(id) = &id {
            self.last_id.clone_from(id);
        }
        Some(Event {
            data: serde_json::from_str(field("data")?).unwrap(),
            name: field("event")?.to_owned(),
            id,
        })
    }

    /// The next event, which is this one.
    pub async fn expect(&mut self, name: &str, data: Json) -> Event {
        let event = self.next().await.expect("the stream ended");
        assert_eq!((event.name.as_str(), &event.data), (name, &data));
        event
    }

    /// The list that the stream begins with: whatever comes up to `ready`.
    pub async fn list(&mut self) -> Vec<Json> {
        self.expect("reset", json!({})).await;
        let mut rows = Vec::new();
        loop {
            let event = self.next().await.expect("the stream ended");
            match event.name.as_str() {
                "row" => rows.push(event.data),
                "ready" => return rows,
                other => panic!("{other} within the list"),
            }
        }
    }
}

impl Fixture {
    pub async fn listen(&self, account: uuid::Uuid, scopes: &[&str], path: &str) -> Listener {
        let bearer = self.bearer(account, scopes);
        Listener::open(&self.app, path, &[("authorization", &bearer)]).await
    }
}
