//! Two processes on the same real SQLite stores, and how tests call them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use command_api::accounts::AccountSettings;
use command_api::{Clock, CommandState, Stores, hosted, routes};
use event_store::EventStore;
use events::{StreamId, Version};
use serde_json::{Value, json};
use tower::ServiceExt;
use vault::{ErasureLedger, Keys, Vault, VaultOptions};
use web::{ApiKeyCaller, ApiKeys, Limits, Problem, Revocations, TokenSettings, Tokens};

use crate::notes::Notebook;

pub const PASSWORD: &str = "a quiet lighthouse";

/// A clock that stands still until a test moves it.
#[derive(Default)]
pub struct Watch(AtomicI64);

impl Watch {
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Watch {
    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::seconds(self.0.load(Ordering::SeqCst));
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + passed
    }
}

/// API keys, as the server looks them up.
struct VaultKeys(Vault);

#[async_trait]
impl ApiKeys for VaultKeys {
    async fn find(&self, text: &str, now: DateTime<Utc>) -> Result<Option<ApiKeyCaller>, Problem> {
        let found = self.0.api_key(text, now).await.map_err(Problem::fault)?;
        Ok(found.map(|key| ApiKeyCaller {
            id: key.id,
            account: key.account,
            scopes: key.scopes,
        }))
    }
}

/// The stores, and two processes on them.
pub struct System {
    _folder: tempfile::TempDir,
    pub log: Arc<dyn EventStore>,
    pub one: Router,
    pub two: Router,
    pub vault: Vault,
    pub keys: Arc<Keys>,
    pub clock: Arc<Watch>,
    /// What the first of them shares among its routes.
    pub state: CommandState,
    /// Every path after `/v1` that takes a command.
    pub commands: Vec<String>,
}

impl System {
    /// What a verb on the same stores works with.
    pub fn stores(&self) -> Stores {
        Stores {
            log: Arc::clone(&self.log),
            vault: self.vault.clone(),
            keys: Arc::clone(&self.keys),
        }
    }
}

/// A system of its own.
pub async fn system() -> System {
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
    let clock = Arc::new(Watch::default());
    let time = Arc::clone(&clock);
    let tokens = Tokens::new(Arc::clone(&keys), names)
        .with_clock(move || time.now())
        .with_api_keys(Arc::new(VaultKeys(vault.clone())))
        .with_revocations(Revocations::follow(vault.clone(), clock.now()).await);
    let tokens = Arc::new(tokens);
    let ledger = ErasureLedger::open(&file("ledger.db")).await.unwrap();
    let process = |log: &Arc<dyn EventStore>| {
        let stores = Stores {
            log: Arc::clone(log),
            vault: vault.clone(),
            keys: Arc::clone(&keys),
        };
        let settings = AccountSettings {
            ledger: ledger.clone(),
            app_url: "https://app.example.org".into(),
            app_name: "Test".into(),
            roles: vec![],
        };
        let (tokens, clock) = (Arc::clone(&tokens), Arc::<Watch>::clone(&clock));
        let own = vec![hosted::<Notebook>()];
        CommandState::new(stores, tokens, clock, own, settings, None).unwrap()
    };
    let open = |state| web::harden(routes(state), Limits::default());
    let other = event_store::open(&file("events.db"), event_store::Options::default())
        .await
        .unwrap();
    let one = process(&log);
    System {
        commands: one.commands(),
        one: open(one.clone()),
        state: one,
        two: open(process(&other)),
        _folder: folder,
        log,
        vault,
        keys,
        clock,
    }
}

/// A request being put together.
pub struct Call<'a> {
    router: &'a Router,
    request: axum::http::request::Builder,
    body: Vec<u8>,
}

/// Begins a request.
pub fn post<'a>(router: &'a Router, path: &str) -> Call<'a> {
    let request = Request::post(path).header("content-type", "application/json");
    Call {
        router,
        request,
        body: b"{}".to_vec(),
    }
}

impl Call<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "bodies are written where they are sent"
    )]
    pub fn body(mut self, body: Value) -> Self {
        self.body = body.to_string().into_bytes();
        self
    }

    /// A body that need not be JSON.
    pub fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Comes from this network address.
    pub fn from(mut self, address: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let peer = ConnectInfo(SocketAddr::from((address, 4711)));
        self.request = self.request.extension(peer);
        self
    }

    pub async fn send(self) -> Answer {
        let request = self.request.body(Body::from(self.body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        Answer::read(response).await
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub body: Value,
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

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// A text of the body.
    pub fn text(&self, name: &str) -> String {
        match &self.body[name] {
            Value::String(text) => text.clone(),
            _ => panic!("no {name} in {self:?}"),
        }
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    /// What anybody sees of it who compares answers: everything but what differs every time.
    pub fn seen(mut self) -> (u16, Vec<(String, String)>, Value) {
        self.body["trace_id"] = Value::Null;
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .filter(|(name, _)| name != "content-length" && name != "traceparent")
            .collect();
        headers.sort();
        (self.status.as_u16(), headers, self.body)
    }

    pub fn code(&self) -> (u16, &str) {
        (
            self.status.as_u16(),
            self.body["code"].as_str().unwrap_or(""),
        )
    }
}

/// A body of a registration that is in order.
pub fn registration(email: &str) -> Value {
    json!({"email": email, "password": PASSWORD, "profile": {"display_name": "Ada"}})
}

/// Registers and logs in; the account's id and an access token.
pub async fn account(router: &Router, email: &str) -> (String, String) {
    let registered = register(router, email).send().await;
    assert_eq!(registered.status, StatusCode::CREATED, "{registered:?}");
    let logged_in = log_in(router, email).send().await;
    assert_eq!(logged_in.status, StatusCode::CREATED, "{logged_in:?}");
    let text = |name: &str| logged_in.body[name].as_str().unwrap().to_owned();
    (text("account_id"), text("access_token"))
}

/// The types of an account's events, in order.
pub async fn event_types(system: &System, account: &str) -> Vec<String> {
    let stream = StreamId::new("account", account).unwrap();
    let events = system
        .log
        .read_stream(&stream, Version::ZERO, 100)
        .await
        .unwrap();
    events.into_iter().map(|event| event.type_name).collect()
}

/// Begins a registration that is in order.
pub fn register<'a>(router: &'a Router, email: &str) -> Call<'a> {
    post(router, "/v1/accounts").body(registration(email))
}

/// Begins a log-in with the right password.
pub fn log_in<'a>(router: &'a Router, email: &str) -> Call<'a> {
    post(router, "/v1/sessions").body(json!({"email": email, "password": PASSWORD}))
}

/// Begins a command on the caller's own account.
pub fn command<'a>(router: &'a Router, token: &str, name: &str) -> Call<'a> {
    post(router, &format!("/v1/accounts/me/{name}")).bearer(token)
}
