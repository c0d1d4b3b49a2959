//! The command routes: a request becomes an order, an outcome becomes an answer. Nothing is decided here.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRef, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use events::partition_of;
use serde_json::json;
use vault::Keys;
use web::{Authenticated, JsonBody, POSITION_HEADER, PositionToken, Problem, Tokens};

use crate::accounts::host::AccountHost;
use crate::accounts::{Account, log_in, register};
use crate::clock::Clock;
use crate::executor::{Executor, Stores};
use crate::host::{Host, TypedHost};
use crate::in_flight::InFlight;
use crate::order::Outcome;
use crate::request::CommandRequest;
use crate::session::Session;
use crate::{Aggregate, CommandError};

/// What the command routes share.
#[derive(Clone)]
pub struct CommandState(Arc<Inner>);

struct Inner {
    stores: Stores,
    tokens: Arc<Tokens>,
    clock: Arc<dyn Clock>,
    in_flight: Arc<InFlight>,
    accounts: Arc<Executor<Account>>,
    sessions: Arc<Executor<Session>>,
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
    ) -> Result<Self, DuplicateCollection> {
        let in_flight = Arc::new(InFlight::default());
        let accounts = Arc::new(Executor::new(stores.clone(), Arc::clone(&in_flight)));
        let sessions = Arc::new(Executor::new(stores.clone(), Arc::clone(&in_flight)));
        let mut hosts: HashMap<&'static str, Arc<dyn Host>> = HashMap::new();
        hosts.insert(
            Account::COLLECTION,
            Arc::new(AccountHost {
                accounts: TypedHost(Arc::clone(&accounts)),
                sessions: Arc::clone(&sessions),
            }),
        );
        for register in registrations {
            let HostBox(host) = register(&stores, &in_flight);
            let name = host.collection();
            if name == Session::COLLECTION || hosts.insert(name, host).is_some() {
                return Err(DuplicateCollection(name));
            }
        }
        Ok(Self(Arc::new(Inner {
            stores,
            tokens,
            clock,
            in_flight,
            accounts,
            sessions,
            hosts,
        })))
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

    /// Runs accounts.
    pub fn accounts(&self) -> &Executor<Account> {
        &self.0.accounts
    }

    /// Runs sessions.
    pub fn sessions(&self) -> &Executor<Session> {
        &self.0.sessions
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

/// The command routes, unhardened.
pub fn routes(state: CommandState) -> Router {
    Router::new()
        .route("/v1/accounts", post(register::register))
        .route("/v1/sessions", post(log_in::log_in))
        .route("/v1/sessions/refresh", post(log_in::refresh))
        .route("/v1/{collection}", post(begin))
        .route("/v1/{collection}/{id}/{command}", post(act))
        .route("/.well-known/jwks.json", get(jwks))
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
    let outcome = state
        .host(&collection)?
        .begin(&request, &caller, body)
        .await?;
    Ok(begun(&state, &request, &outcome, &collection))
}

async fn act(
    State(state): State<CommandState>,
    Path((collection, id, command)): Path<(String, String, String)>,
    Authenticated(caller): Authenticated,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let request = request.by(&caller);
    let outcome = state
        .host(&collection)?
        .act(&request, &caller, &id, &command, body)
        .await?;
    Ok(answer(&state, &request, &outcome, StatusCode::OK).into_response())
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
    let location = format!("/v1/{collection}/{}", outcome.stream.id());
    (
        [(header::LOCATION, location)],
        answer(state, request, outcome, StatusCode::CREATED),
    )
        .into_response()
}

fn answer(
    state: &CommandState,
    request: &CommandRequest,
    outcome: &Outcome,
    status: StatusCode,
) -> impl IntoResponse {
    let token = state.position(request, outcome);
    let body = json!({
        "stream": outcome.stream,
        "version": outcome.version,
        "events": outcome.event_types,
        "token": token,
    });
    let headers = [
        (header::ETAG.as_str(), format!("\"{}\"", outcome.version)),
        (POSITION_HEADER, token),
    ];
    (status, headers, Json(body))
}
