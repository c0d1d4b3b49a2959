//! The command routes on real SQLite stores. Two [`CommandState`]s on the same stores stand for two processes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use command_api::{Clock, CommandState, Stores, routes};
use event_store::EventStore;
use events::{StreamId, Version};
use serde_json::{Value, json};
use tower::ServiceExt;
use vault::{Keys, Vault, VaultOptions};
use web::{Limits, TokenSettings, Tokens};

const PASSWORD: &str = "a quiet lighthouse";

/// A clock that stands still.
struct Noon;

impl Clock for Noon {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }
}

/// The stores, and two processes on them.
struct System {
    _folder: tempfile::TempDir,
    log: Arc<dyn EventStore>,
    one: Router,
    two: Router,
    vault: Vault,
    keys: Arc<Keys>,
    tokens: Arc<Tokens>,
}

async fn system() -> System {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
    let keys = Arc::new(Keys::generate());
    let vault = Vault::open(
        &file("vault.db"),
        Arc::clone(&keys),
        VaultOptions::default(),
    )
    .await
    .unwrap();
    let log = event_store::open(&file("events.db"), event_store::Options::default())
        .await
        .unwrap();
    let names = TokenSettings {
        issuer: "test".into(),
        audience: "test".into(),
    };
    let tokens = Arc::new(Tokens::new(Arc::clone(&keys), names).with_clock(|| Noon.now()));
    let process = |log: &Arc<dyn EventStore>| {
        let stores = Stores {
            log: Arc::clone(log),
            vault: vault.clone(),
            keys: Arc::clone(&keys),
        };
        let state = CommandState::new(stores, Arc::clone(&tokens), Arc::new(Noon), vec![]).unwrap();
        web::harden(routes(state), Limits::default())
    };
    let other = event_store::open(&file("events.db"), event_store::Options::default())
        .await
        .unwrap();
    System {
        one: process(&log),
        two: process(&other),
        _folder: folder,
        log,
        vault,
        keys,
        tokens,
    }
}

/// A request being put together.
struct Call<'a> {
    router: &'a Router,
    request: axum::http::request::Builder,
    body: Value,
}

fn post<'a>(router: &'a Router, path: &str) -> Call<'a> {
    let request = Request::post(path).header("content-type", "application/json");
    Call {
        router,
        request,
        body: json!({}),
    }
}

impl Call<'_> {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn body(mut self, body: Value) -> Self {
        self.body = body;
        self
    }

    async fn send(self) -> Answer {
        let request = self
            .request
            .body(Body::from(self.body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        Answer::read(response).await
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Value,
}

impl Answer {
    async fn read(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn code(&self) -> (u16, &str) {
        (
            self.status.as_u16(),
            self.body["code"].as_str().unwrap_or(""),
        )
    }
}

fn registration(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "profile": {"display_name": "Ada"}})
}

/// Registers and logs in; the account's id and an access token.
async fn account(router: &Router, email: &str) -> (String, String) {
    let registered = post(router, "/v1/accounts")
        .body(registration(email))
        .send()
        .await;
    assert_eq!(registered.status, StatusCode::CREATED, "{registered:?}");
    let logged_in = post(router, "/v1/sessions")
        .body(json!({"email": email, "password": PASSWORD}))
        .send()
        .await;
    assert_eq!(logged_in.status, StatusCode::CREATED, "{logged_in:?}");
    let text = |name: &str| logged_in.body[name].as_str().unwrap().to_owned();
    (text("account_id"), text("access_token"))
}

async fn event_types(system: &System, account: &str) -> Vec<String> {
    let stream = StreamId::new("account", account).unwrap();
    let events = system
        .log
        .read_stream(&stream, Version::ZERO, 100)
        .await
        .unwrap();
    events.into_iter().map(|event| event.type_name).collect()
}

#[tokio::test]
async fn registering_answers_with_everything_a_client_goes_on_with() {
    let system = system().await;
    let answer = post(&system.one, "/v1/accounts")
        .body(registration("ada@example.org"))
        .send()
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("etag"), "\"1\"");
    let id = answer
        .header("location")
        .strip_prefix("/v1/accounts/")
        .unwrap()
        .to_owned();
    assert_eq!(answer.body["stream"], format!("account-{id}"));
    assert_eq!(answer.body["events"], json!(["AccountRegistered"]));
    assert_eq!(answer.body["version"], 1);
    assert_eq!(answer.body["token"], answer.header("showcaller-position"));
    assert_eq!(event_types(&system, &id).await, ["AccountRegistered"]);
}

#[tokio::test]
async fn every_problem_of_a_registration_is_named_at_once() {
    let system = system().await;
    let body = json!({"email": "ada", "password": "short", "profile": {"display_name": "", "phone": "1"}, "admin": true});
    let answer = post(&system.one, "/v1/accounts").body(body).send().await;
    assert_eq!(answer.code(), (422, "invalid"));
    let mut found: Vec<_> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "/admin",
            "/email",
            "/password",
            "/profile/display_name",
            "/profile/phone"
        ]
    );
}

#[tokio::test]
async fn a_known_address_registers_like_an_unknown_one() {
    let system = system().await;
    let first = post(&system.one, "/v1/accounts")
        .body(registration("ada@example.org"))
        .send()
        .await;
    let second = post(&system.one, "/v1/accounts")
        .body(registration("ADA@example.org"))
        .send()
        .await;
    assert_eq!(
        (first.status, second.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_ne!(first.body["stream"], second.body["stream"]);
}

#[tokio::test]
async fn a_retried_registration_gets_the_first_answer_from_any_process() {
    let system = system().await;
    let send = |router, body| {
        post(router, "/v1/accounts")
            .header("idempotency-key", "k1")
            .body(body)
            .send()
    };
    let first = send(&system.one, registration("ada@example.org")).await;
    let again = send(&system.two, registration("ada@example.org")).await;
    assert_eq!(
        (first.status, &first.body["stream"]),
        (again.status, &again.body["stream"])
    );
    assert_eq!(first.body["events"], again.body["events"]);

    let mut other_body = registration("ada@example.org");
    other_body["profile"]["display_name"] = json!("Eve");
    assert_eq!(
        send(&system.two, other_body).await.code(),
        (422, "idempotency_key_reused")
    );

    let mut other_password = registration("ada@example.org");
    other_password["password"] = json!("another lighthouse");
    assert_eq!(
        send(&system.two, other_password).await.code(),
        (401, "invalid_credentials")
    );
}

#[tokio::test]
async fn a_registration_cut_off_before_its_event_is_finished_by_the_retry() {
    let system = system().await;
    // What the first try leaves behind when it dies before the append.
    let command = system.keys.command_id("ada@example.org", "account", "k1");
    let account = command.derive("stream");
    system.vault.create_data_key(account).await.unwrap();
    let phc = system
        .vault
        .hash_password(PASSWORD.to_owned().into())
        .await
        .unwrap();
    system
        .vault
        .store_credential(command.derive("credential"), account, &phc)
        .await
        .unwrap();
    let answer = post(&system.one, "/v1/accounts")
        .header("idempotency-key", "k1")
        .body(registration("ada@example.org"))
        .send()
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.body["stream"], format!("account-{account}"));
}

#[tokio::test]
async fn wrong_password_and_unknown_address_get_the_same_answer() {
    let system = system().await;
    account(&system.one, "ada@example.org").await;
    let log_in = |email: &str, password: &str| {
        post(&system.one, "/v1/sessions")
            .body(json!({"email": email, "password": password}))
            .send()
    };
    let mut wrong = log_in("ada@example.org", "not this one").await;
    let mut unknown = log_in("eve@example.org", "not this one").await;
    assert_eq!(wrong.code(), (401, "invalid_credentials"));
    for answer in [&mut wrong, &mut unknown] {
        answer.body["trace_id"] = Value::Null;
    }
    assert_eq!((wrong.status, wrong.body), (unknown.status, unknown.body));
}

#[tokio::test]
async fn commands_are_denied_to_everyone_but_the_owner_and_the_scope() {
    let system = system().await;
    let (ada, owner) = account(&system.one, "ada@example.org").await;
    let (_, other) = account(&system.one, "eve@example.org").await;
    let scoped = system.tokens.issue(
        vault::random_uuid(),
        vault::random_uuid(),
        &["accounts:write".into()],
        Noon.now(),
    );
    let bodies = [
        ("update-profile", json!({"given_name": "A"})),
        ("change-settings", json!({"theme": "dark"})),
        ("close", json!({})),
    ];
    for (command, body) in bodies {
        let path = format!("/v1/accounts/{ada}/{command}");
        let send = |token: Option<String>| {
            let call = post(&system.one, &path).body(body.clone());
            match token {
                Some(token) => call.bearer(&token).send(),
                None => call.send(),
            }
        };
        assert_eq!(send(None).await.code(), (401, "unauthorized"), "{command}");
        assert_eq!(
            send(Some("x.y.z".into())).await.code(),
            (401, "invalid_token"),
            "{command}"
        );
        assert_eq!(
            send(Some(other.clone())).await.code(),
            (403, "forbidden"),
            "{command}"
        );
        assert_eq!(
            send(Some(owner.clone())).await.status,
            StatusCode::OK,
            "{command}"
        );
        let expected = if command == "close" {
            200
        } else {
            send(Some(scoped.token.clone())).await.status.as_u16()
        };
        assert_eq!(expected, 200, "{command}");
    }
}

#[tokio::test]
async fn a_stale_if_match_is_refused_and_a_fresh_one_is_not() {
    let system = system().await;
    let (ada, token) = account(&system.one, "ada@example.org").await;
    let path = format!("/v1/accounts/{ada}/change-settings");
    let change = |router, version: &str, theme: &str| {
        post(router, &path)
            .bearer(&token)
            .header("if-match", version)
            .body(json!({"theme": theme}))
            .send()
    };
    let changed = change(&system.one, "\"1\"", "dark").await;
    assert_eq!(
        (changed.status, changed.header("etag")),
        (StatusCode::OK, "\"2\"")
    );
    assert_eq!(
        change(&system.two, "\"1\"", "light").await.code(),
        (412, "precondition_failed")
    );
    assert_eq!(
        change(&system.two, "\"2\"", "light").await.status,
        StatusCode::OK
    );
    // The first process has version 2 cached: the answer comes from the log all the same.
    assert_eq!(
        change(&system.one, "\"3\"", "system").await.status,
        StatusCode::OK
    );
    assert_eq!(
        change(&system.one, "3", "dark").await.code(),
        (400, "malformed")
    );
}

#[tokio::test]
async fn a_refusal_speaks_of_the_log_as_it_is_now() {
    let system = system().await;
    let (_, token) = account(&system.one, "ada@example.org").await;
    let dark = |router| {
        post(router, "/v1/accounts/me/change-settings")
            .bearer(&token)
            .body(json!({"theme": "dark"}))
            .send()
    };
    let light = |router| {
        post(router, "/v1/accounts/me/change-settings")
            .bearer(&token)
            .body(json!({"theme": "light"}))
            .send()
    };
    assert_eq!(dark(&system.one).await.body["version"], 2);
    assert_eq!(light(&system.two).await.body["version"], 3);
    // Process one still has "dark" cached, and would find nothing to do.
    let again = dark(&system.one).await;
    assert_eq!(
        (again.status, &again.body["version"], &again.body["events"]),
        (StatusCode::OK, &json!(4), &json!(["SettingsChanged"]))
    );
    // Now there really is nothing to do, and that is a success without events.
    assert_eq!(dark(&system.two).await.body["events"], json!([]));
}

#[tokio::test]
async fn a_retried_command_gets_its_first_answer_even_after_others_followed() {
    let system = system().await;
    let (_, token) = account(&system.one, "ada@example.org").await;
    let change = |router, key: &str, body: Value| {
        post(router, "/v1/accounts/me/change-settings")
            .bearer(&token)
            .header("idempotency-key", key)
            .body(body)
            .send()
    };
    let first = change(&system.one, "k1", json!({"theme": "dark"})).await;
    change(&system.one, "k2", json!({"theme": "light"})).await;
    post(&system.one, "/v1/accounts/me/close")
        .bearer(&token)
        .send()
        .await;
    for router in [&system.one, &system.two] {
        let again = change(router, "k1", json!({"theme": "dark"})).await;
        assert_eq!(
            (again.status, again.header("etag")),
            (StatusCode::OK, first.header("etag")),
            "{again:?}"
        );
        assert_eq!(again.body["events"], json!(["SettingsChanged"]));
        assert_eq!(
            change(router, "k1", json!({"theme": "light"})).await.code(),
            (422, "idempotency_key_reused")
        );
        assert_eq!(
            change(router, "k3", json!({"theme": "dark"})).await.code(),
            (409, "account_closed")
        );
    }
}

#[tokio::test]
async fn the_same_command_sent_fifty_times_at_once_is_carried_out_once() {
    let system = system().await;
    let (ada, token) = account(&system.one, "ada@example.org").await;
    let calls = (0..50).map(|n| {
        let router = if n % 2 == 0 { &system.one } else { &system.two };
        post(router, "/v1/accounts/me/change-settings")
            .bearer(&token)
            .header("idempotency-key", "k")
            .body(json!({"custom": {"n": 1}}))
            .send()
    });
    for answer in futures::future::join_all(calls).await {
        assert!(
            matches!(answer.code(), (200, "") | (409, "in_flight")),
            "{answer:?}"
        );
    }
    assert_eq!(
        event_types(&system, &ada).await,
        ["AccountRegistered", "SettingsChanged"]
    );
}

#[tokio::test]
async fn two_processes_writing_one_stream_lose_nothing() {
    let system = system().await;
    let (ada, token) = account(&system.one, "ada@example.org").await;
    let calls = (0..40).map(|n| {
        let router = if n % 2 == 0 { &system.one } else { &system.two };
        post(router, "/v1/accounts/me/change-settings")
            .bearer(&token)
            .body(json!({"custom": {"n": n}}))
            .send()
    });
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(event_types(&system, &ada).await.len(), 41);
}

#[tokio::test]
async fn a_closed_account_is_closed_everywhere_at_once() {
    let system = system().await;
    let (_, token) = account(&system.one, "ada@example.org").await;
    let session = post(&system.two, "/v1/sessions")
        .body(json!({"email": "ada@example.org", "password": PASSWORD}))
        .send()
        .await;
    let closed = post(&system.one, "/v1/accounts/me/close")
        .bearer(&token)
        .send()
        .await;
    assert_eq!(closed.body["events"], json!(["AccountClosed"]));
    let log_in = json!({"email": "ada@example.org", "password": PASSWORD});
    assert_eq!(
        post(&system.two, "/v1/sessions")
            .body(log_in)
            .send()
            .await
            .code(),
        (401, "invalid_credentials")
    );
    let refresh = json!({"refresh_token": session.body["refresh_token"]});
    assert_eq!(
        post(&system.two, "/v1/sessions/refresh")
            .body(refresh)
            .send()
            .await
            .code(),
        (401, "invalid_refresh_token")
    );
}

#[tokio::test]
async fn a_refresh_token_gives_new_tokens() {
    let system = system().await;
    account(&system.one, "ada@example.org").await;
    let session = post(&system.one, "/v1/sessions")
        .body(json!({"email": "ada@example.org", "password": PASSWORD}))
        .send()
        .await;
    let refresh = json!({"refresh_token": session.body["refresh_token"]});
    let refreshed = post(&system.two, "/v1/sessions/refresh")
        .body(refresh)
        .send()
        .await;
    assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
    let token = refreshed.body["access_token"].as_str().unwrap();
    let changed = post(&system.two, "/v1/accounts/me/change-settings")
        .bearer(token)
        .body(json!({"theme": "dark"}))
        .send()
        .await;
    assert_eq!(changed.status, StatusCode::OK);
    let nonsense = json!({"refresh_token": "nonsense"});
    assert_eq!(
        post(&system.one, "/v1/sessions/refresh")
            .body(nonsense)
            .send()
            .await
            .code(),
        (401, "invalid_refresh_token")
    );
}

#[tokio::test]
async fn nothing_personal_reaches_the_log() {
    let system = system().await;
    let (ada, token) = account(&system.one, "canary@example.org").await;
    let body = json!({"custom": {"canary-key": "canary-value"}, "locale": "de"});
    post(&system.one, "/v1/accounts/me/change-settings")
        .bearer(&token)
        .body(body)
        .send()
        .await;
    post(&system.one, "/v1/accounts/me/update-profile")
        .bearer(&token)
        .body(json!({"phone": "+4930123456"}))
        .send()
        .await;
    let stream = StreamId::new("account", &ada).unwrap();
    for event in system
        .log
        .read_stream(&stream, Version::ZERO, 100)
        .await
        .unwrap()
    {
        let stored = format!("{}{}", event.data, event.metadata);
        for secret in ["canary", "Ada", "4930123456", PASSWORD] {
            assert!(!stored.contains(secret), "{secret} in {stored}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let system = system().await;
    let (_, token) = account(&system.one, "ada@example.org").await;
    let answer = post(&system.one, "/v1/orders").bearer(&token).send().await;
    assert_eq!(answer.code(), (404, "not_found"));
    assert!(answer.body["detail"].as_str().unwrap().contains("accounts"));
    let answer = post(&system.one, "/v1/accounts/me/promote")
        .bearer(&token)
        .send()
        .await;
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("update-profile"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_position_token_grows_with_every_stream_that_is_written() {
    let system = system().await;
    let first = post(&system.one, "/v1/accounts")
        .body(registration("ada@example.org"))
        .send()
        .await;
    let second = post(&system.one, "/v1/accounts")
        .header("showcaller-after", first.header("showcaller-position"))
        .body(registration("eve@example.org"))
        .send()
        .await;
    let open = |answer: &Answer| {
        web::PositionToken::open(answer.header("showcaller-position"), &system.keys).unwrap()
    };
    assert_eq!(
        (open(&first).streams.len(), open(&second).streams.len()),
        (1, 2)
    );
    let forged = post(&system.one, "/v1/accounts")
        .header("showcaller-after", "AAAA")
        .body(registration("x@example.org"))
        .send()
        .await;
    assert_eq!(forged.code(), (400, "malformed"));
}
