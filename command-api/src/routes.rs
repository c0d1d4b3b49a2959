//! The command routes: a request becomes an order, an outcome becomes an answer. Nothing is decided here.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::{FromRef, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use events::partition_of;
use mail::Mailer;
use serde_json::{Map, Value, json};
use vault::Keys;
use web::{Authenticated, JsonBody, POSITION_HEADER, PositionToken, Problem, Tokens};

use crate::accounts::host::{AccountHost, ApiKeyHost, SessionHost};
use crate::accounts::housekeeping::Housekeeping;
use crate::accounts::people::People;
use crate::accounts::throttle::Turns;
use crate::accounts::{AccountSettings, log_in, public, register};
use crate::clock::Clock;
use crate::executor::{Executor, Stores};
use crate::host::{Answered, Host, TypedHost};
use crate::in_flight::InFlight;
use crate::order::Outcome;
use crate::request::CommandRequest;
use crate::{Aggregate, CommandError, policy};

/// Where the public keys of access tokens are.
pub(crate) const JWKS_PATH: &str = "/.well-known/jwks.json";

/// What the command routes share.
#[derive(Clone)]
pub struct CommandState(Arc<Inner>);

struct Inner {
    stores: Stores,
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    in_flight: Arc<InFlight>,
    people: Arc<People>,
    mailer: Option<Mailer>,
    hosts: HashMap<&'static str, Arc<dyn Host>>,
}

/// Two aggregates want the same collection.
#[derive(Debug, thiserror::Error)]
#[error("two aggregates are named {0:?} in URLs: give one another COLLECTION")]
pub struct DuplicateCollection(&'static str);

/// Registers one aggregate; made by [`hosted`].
pub type Registration = Box<dyn FnOnce(&Stores, &Arc<InFlight>) -> HostBox + Send>;

/// A hosted aggregate, opaque.
pub struct HostBox(Arc<dyn Host>);

impl HostBox {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self(host)
    }
}

/// How an application's aggregate enters the registry.
pub fn hosted<A: Aggregate>() -> Registration {
    Box::new(|stores, in_flight| {
        HostBox(Arc::new(TypedHost(Arc::new(Executor::<A>::new(
            stores.clone(),
            Arc::clone(in_flight),
        )))))
    })
}

impl CommandState {
    /// The built-in aggregates and those of the application.
    pub fn new(
        stores: Stores,
        tokens: Arc<Tokens>,
        clock: Arc<dyn Clock>,
        registrations: Vec<Registration>,
        mut settings: AccountSettings,
        mailer: Option<Mailer>,
    ) -> Result<Self, DuplicateCollection> {
        let in_flight = Arc::new(InFlight::default());
        let accounts = Arc::new(Executor::new(stores.clone(), Arc::clone(&in_flight)));
        let registered: Vec<Arc<dyn Host>> = registrations
            .into_iter()
            .map(|register| register(&stores, &in_flight).0)
            .collect();
        settings.roles.extend(policy::roles());
        let people = Arc::new(People {
            accounts: Arc::clone(&accounts),
            sessions: Arc::new(Executor::new(stores.clone(), Arc::clone(&in_flight))),
            api_keys: Arc::new(Executor::new(stores.clone(), Arc::clone(&in_flight))),
            categories: registered
                .iter()
                .filter_map(|host| host.personal())
                .collect(),
            stores: stores.clone(),
            in_flight: Arc::clone(&in_flight),
            settings,
            mail_waits: Arc::default(),
            turns: Turns::default(),
        });
        let built_in: [Arc<dyn Host>; 3] = [
            Arc::new(AccountHost {
                typed: TypedHost(accounts),
                people: Arc::clone(&people),
                mailer: mailer.clone(),
            }),
            Arc::new(SessionHost(Arc::clone(&people))),
            Arc::new(ApiKeyHost(Arc::clone(&people))),
        ];
        let mut hosts: HashMap<&'static str, Arc<dyn Host>> = HashMap::new();
        for host in built_in.into_iter().chain(registered) {
            let name = host.collection();
            if hosts.insert(name, host).is_some() {
                return Err(DuplicateCollection(name));
            }
        }
        Ok(Self(Arc::new(Inner {
            stores,
            tokens,
            clock,
            in_flight,
            people,
            mailer,
            hosts,
        })))
    }

    /// What goes on in the background of a process that takes commands.
    pub fn housekeeping(&self) -> Housekeeping {
        Housekeeping {
            people: Arc::clone(&self.0.people),
            clock: Arc::clone(&self.0.clock),
            mailer: self.0.mailer.clone(),
        }
    }

    /// Every path after `/v1` that takes a command, `{id}` where an id stands; in no order.
    pub fn commands(&self) -> Vec<String> {
        let mut paths: Vec<String> = open().iter().map(|(path, _)| (*path).to_owned()).collect();
        for (collection, host) in &self.0.hosts {
            if host.begins() {
                paths.push(format!("/{collection}"));
            }
            let named = host.commands().iter();
            paths.extend(named.map(|name| format!("/{collection}/{{id}}/{name}")));
        }
        paths
    }

    /// Now.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    /// Keys of the system.
    pub fn keys(&self) -> &Keys {
        &self.0.stores.keys
    }

    /// The stores.
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// Access tokens.
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The commands this process is carrying out.
    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.0.in_flight
    }

    /// What takes commands here, by the name in the URL.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &dyn Host> {
        let names: BTreeSet<_> = self.0.hosts.keys().copied().collect();
        names.into_iter().map(|name| &*self.0.hosts[name])
    }

    /// Accounts and what belongs to them.
    pub(crate) fn people(&self) -> &People {
        &self.0.people
    }

    /// The caller's token, with what an outcome adds, sealed.
    pub(crate) fn position(&self, request: &CommandRequest, outcome: &Outcome) -> String {
        let log = self.0.stores.log.identity();
        let mut token = PositionToken::new(log);
        if let Some(after) = &request.after {
            token.merge(after);
        }
        if let Some(appended) = &outcome.appended {
            token.note(
                partition_of(&outcome.stream, log.partitions),
                &outcome.stream,
                appended.position,
            );
        }
        token.seal(self.keys())
    }
}

impl FromRef<CommandState> for Arc<Tokens> {
    fn from_ref(state: &CommandState) -> Self {
        Arc::clone(&state.0.tokens)
    }
}

/// The routes that need no token, by their path after `/v1`; all others are the hosts'.
fn open() -> [(&'static str, MethodRouter<CommandState>); 7] {
    [
        ("/accounts", post(register::register)),
        ("/accounts/verify-email", post(public::verify_email)),
        ("/accounts/confirm-email", post(public::confirm_email)),
        ("/accounts/forgot-password", post(public::forgot_password)),
        ("/accounts/reset-password", post(public::reset_password)),
        ("/sessions", post(log_in::log_in)),
        ("/sessions/refresh", post(log_in::refresh)),
    ]
}

/// The command routes, unhardened.
pub fn routes(state: CommandState) -> Router {
    let router = open()
        .into_iter()
        .fold(Router::new(), |router, (path, route)| {
            router.route(&format!("/v1{path}"), route)
        });
    router
        .route("/v1/{collection}", post(begin))
        .route("/v1/{collection}/{id}/{command}", post(act))
        .route(JWKS_PATH, get(jwks))
        .with_state(state)
}

async fn begin(
    State(state): State<CommandState>,
    Path(collection): Path<String>,
    Authenticated(caller): Authenticated,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let request = request.by(&caller);
    let Answered { outcome, shown } = state
        .host(&collection)?
        .begin(&request, &caller, body)
        .await?;
    let location = location(&outcome, &collection);
    Ok((
        [(header::LOCATION, location)],
        answer_with(&state, &request, &outcome, shown, StatusCode::CREATED),
    )
        .into_response())
}

async fn act(
    State(state): State<CommandState>,
    Path((collection, id, command)): Path<(String, String, String)>,
    Authenticated(caller): Authenticated,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let request = request.by(&caller);
    let Answered { outcome, shown } = state
        .host(&collection)?
        .act(&request, &caller, &id, &command, body)
        .await?;
    Ok(answer_with(&state, &request, &outcome, shown, StatusCode::OK).into_response())
}

impl CommandState {
    fn host(&self, collection: &str) -> Result<&Arc<dyn Host>, CommandError> {
        self.0.hosts.get(collection).ok_or_else(|| {
            let mut known: Vec<_> = self.0.hosts.keys().copied().collect();
            known.sort_unstable();
            CommandError::NotFound(format!(
                "nothing is named {collection:?} here; there are: {}",
                known.join(", ")
            ))
        })
    }
}

async fn jwks(State(state): State<CommandState>) -> Response {
    (
        [(header::CACHE_CONTROL, "public, max-age=300")],
        Json(state.tokens().jwks()),
    )
        .into_response()
}

/// The answer to a command that began a stream.
pub(crate) fn begun(
    state: &CommandState,
    request: &CommandRequest,
    outcome: &Outcome,
    collection: &str,
) -> Response {
    (
        [(header::LOCATION, location(outcome, collection))],
        answer(state, request, outcome, StatusCode::CREATED),
    )
        .into_response()
}

fn location(outcome: &Outcome, collection: &str) -> String {
    format!("/v1/{collection}/{}", outcome.stream.id())
}

pub(crate) fn answer(
    state: &CommandState,
    request: &CommandRequest,
    outcome: &Outcome,
    status: StatusCode,
) -> impl IntoResponse + use<> {
    answer_with(state, request, outcome, Map::new(), status)
}

/// The answer to a command, with what it shows once.
fn answer_with(
    state: &CommandState,
    request: &CommandRequest,
    outcome: &Outcome,
    shown: Map<String, Value>,
    status: StatusCode,
) -> impl IntoResponse + use<> {
    let token = state.position(request, outcome);
    let mut body = shown;
    body.insert("stream".into(), json!(outcome.stream));
    body.insert("version".into(), json!(outcome.version));
    body.insert("events".into(), json!(outcome.event_types));
    body.insert("token".into(), json!(token));
    let headers = [
        (header::ETAG.as_str(), format!("\"{}\"", outcome.version)),
        (POSITION_HEADER, token),
    ];
    (status, headers, Json(body))
}
