//! A plain HTTP client with names for what the API sends and takes. It refuses to judge: tests do.

use std::panic::Location;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, IF_MATCH};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use test_support::eventually;

/// The password of everybody in these tests, unless one says otherwise.
pub const PASSWORD: &str = "a quiet lighthouse";
/// One's own account.
pub const ME: &str = "/v1/accounts/me";
/// No answer may take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// Within which every process knows what was taken back.
const TAKEN_BACK_WITHIN: Duration = Duration::from_secs(1);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);
/// How long the projection may take to catch up after a fault.
pub const CAUGHT_UP_WITHIN: Duration = Duration::from_mins(1);

/// Where commands and queries go: to one process, or to two.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    commands: String,
    queries: String,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// `Null` where the body is no JSON.
    pub body: Value,
}

/// A request on its way.
#[must_use]
pub struct Request(RequestBuilder, String);

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub struct Person {
    pub account: String,
    pub access: String,
    pub refresh: String,
    /// The position token of what made them so.
    pub token: String,
}

impl Client {
    /// Of one process that does both.
    pub fn new(url: &str) -> Self {
        Self::apart(url, url)
    }

    /// Of two processes, with what a router in front of them would do.
    pub fn apart(commands: &str, queries: &str) -> Self {
        // No proxy of the surrounding environment is asked.
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(ANSWER_WITHIN)
            .build();
        Self {
            http: http.expect("a client"),
            commands: commands.to_owned(),
            queries: queries.to_owned(),
        }
    }

    pub fn get(&self, path: &str) -> Request {
        self.request(Method::GET, &self.queries, path)
    }

    /// Without a body; see [`Request::json`].
    pub fn post(&self, path: &str) -> Request {
        self.request(Method::POST, &self.commands, path)
    }

    fn request(&self, method: Method, base: &str, path: &str) -> Request {
        let shown = format!("{method} {path}");
        Request(self.http.request(method, format!("{base}{path}")), shown)
    }

    pub async fn register(&self, email: &str) -> Answer {
        let body = registration(email, "Ada Lovelace");
        self.post("/v1/accounts").json(&body).send().await
    }

    pub async fn log_in(&self, email: &str) -> Answer {
        self.post("/v1/sessions")
            .json(&json!({ "email": email, "password": PASSWORD }))
            .send()
            .await
    }

    /// Registers and logs in; the position token stands for both.
    pub async fn person(&self, email: &str) -> Person {
        let registered = self.register(email).await.expect(201);
        let body = json!({ "email": email, "password": PASSWORD });
        let login = self
            .post("/v1/sessions")
            .json(&body)
            .after(registered.token());
        Person::of(&login.expect(201).await)
    }

    /// Logs in who is registered.
    pub async fn returning(&self, email: &str) -> Person {
        Person::of(&self.log_in(email).await.expect(201))
    }

    pub fn command(&self, person: &Person, name: &str, body: &Value) -> Request {
        self.post(&format!("/v1/accounts/{}/{name}", person.account))
            .bearer(&person.access)
            .json(body)
    }

    /// A token, or an API key, opens nothing any more, a second later at most.
    pub async fn refuses(&self, token: &str) {
        taken_back(async || self.get(ME).bearer(token).send().await.status == 401).await;
    }

    pub async fn refresh(&self, token: &str) -> Answer {
        self.post("/v1/sessions/refresh")
            .json(&json!({ "refresh_token": token }))
            .send()
            .await
    }

    /// The person's own row of `accounts`, as of a position token.
    pub async fn profile(&self, person: &Person, token: &str) -> Answer {
        self.get(ME)
            .bearer(&person.access)
            .after(token)
            .send()
            .await
    }

    /// Reads as of a position token, and asks again while the answer is that the projection is not there yet: for tests
    /// in which something was just started, killed or cut off.
    pub async fn read(&self, path: &str, person: &Person, token: &str) -> Answer {
        let answer = eventually(CAUGHT_UP_WITHIN, || async {
            let answer = self
                .get(path)
                .bearer(&person.access)
                .after(token)
                .send()
                .await;
            if answer.status == 503 {
                Err(answer.text)
            } else {
                Ok(answer)
            }
        });
        answer.await.expect(200)
    }
}

/// Asks until it is so; whoever asks a second after now, or later, must find it so.
#[track_caller]
pub fn taken_back(is_so: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    let deadline = Instant::now() + TAKEN_BACK_WITHIN;
    async move {
        loop {
            let asked = Instant::now();
            if is_so().await {
                return;
            }
            assert!(asked < deadline, "{caller}: not within a second");
            tokio::time::sleep(BETWEEN_QUESTIONS).await;
        }
    }
}

/// The body of a registration.
pub fn registration(email: &str, display_name: &str) -> Value {
    json!({ "email": email, "password": PASSWORD, "profile": { "display_name": display_name } })
}

impl Person {
    /// From the answer to a log-in or a refresh.
    pub fn of(answer: &Answer) -> Self {
        let text = |name: &str| {
            answer.body[name]
                .as_str()
                .unwrap_or_else(|| panic!("no {name}: {answer:?}"))
                .to_owned()
        };
        Self {
            account: text("account_id"),
            access: text("access_token"),
            refresh: text("refresh_token"),
            token: answer.token().to_owned(),
        }
    }
}

impl Request {
    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body), self.1)
    }

    pub fn raw(self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        Self(
            self.0.header("content-type", content_type).body(body),
            self.1,
        )
    }

    pub fn bearer(self, token: &str) -> Self {
        Self(
            self.0.header(AUTHORIZATION, format!("Bearer {token}")),
            self.1,
        )
    }

    /// Sends a position token along; an empty one is none.
    pub fn after(self, token: &str) -> Self {
        if token.is_empty() {
            self
        } else {
            Self(self.0.header("Showcaller-After", token), self.1)
        }
    }

    pub fn if_match(self, etag: &str) -> Self {
        Self(self.0.header(IF_MATCH, etag), self.1)
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value), self.1)
    }

    /// The Idempotency-Key.
    pub fn key(self, key: &str) -> Self {
        Self(self.0.header("Idempotency-Key", key), self.1)
    }

    /// Sends it, and panics unless the answer has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> impl Future<Output = Answer> {
        let caller = Location::caller();
        async move { self.send().await.expected_at(status, caller) }
    }

    /// Sends it, and panics unless the answer is problem details with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> impl Future<Output = Answer> {
        let caller = Location::caller();
        async move { self.send().await.refused_at(status, code, caller) }
    }

    /// Sends it; a connection that breaks is a failed test.
    pub async fn send(self) -> Answer {
        let shown = self.1.clone();
        self.attempt()
            .await
            .unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    /// Sends it; the connection may break.
    pub async fn attempt(self) -> reqwest::Result<Answer> {
        let response = self.0.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer {
            status,
            headers,
            text,
            body,
        })
    }
}

impl Answer {
    /// Panics unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        self.expected_at(status, Location::caller())
    }

    /// Panics unless it is problem details with this status and code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        self.refused_at(status, code, Location::caller())
    }

    fn expected_at(self, status: u16, caller: &Location<'_>) -> Self {
        assert_eq!(self.status, status, "{caller}: {}", self.text);
        self
    }

    fn refused_at(self, status: u16, code: &str, caller: &Location<'_>) -> Self {
        assert_eq!(
            (self.status, self.code()),
            (status, code),
            "{caller}: {}",
            self.text
        );
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{caller}"
        );
        for member in ["type", "title", "detail", "instance", "trace_id"] {
            assert!(
                self.body[member].is_string(),
                "{caller}: no {member}: {}",
                self.text
            );
        }
        assert_eq!(self.body["status"], status, "{caller}");
        self
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// Where each validation error points and its code, sorted.
    pub fn errors(&self) -> Vec<(&str, &str)> {
        let errors = self.body["errors"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        assert!(errors.iter().all(|error| {
            error["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty())
        }));
        let mut found: Vec<_> = errors
            .iter()
            .map(|error| {
                (
                    error["pointer"].as_str().unwrap_or("?"),
                    error["code"].as_str().unwrap_or("?"),
                )
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// A header's value, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub fn etag(&self) -> &str {
        self.header(ETAG.as_str())
    }

    /// The position token.
    pub fn token(&self) -> &str {
        self.header("Showcaller-Position")
    }

    pub fn version(&self) -> u64 {
        self.body["version"]
            .as_u64()
            .unwrap_or_else(|| panic!("no version: {}", self.text))
    }
}
