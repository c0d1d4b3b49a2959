//! The query routes. Each does the same things in the same order: who asks, what of, may they, what exactly, is the read
//! model far enough, read, open, answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use read_models::{Column, ColumnType, RowKey, Value};
use web::{After, Authenticated, Caller, PositionToken, Problem, codes};

use crate::access::{self, Allowed};
use crate::answer::Answer;
use crate::cache::Question;
use crate::lists::Listing;
use crate::negotiation::Form;
use crate::state::{Hosted, QueryState};
use crate::subject::Subject;
use crate::{grammar, key, live, negotiation, operations, overview, rows, sessions};

/// The read model behind `/v1/accounts/me`.
pub(crate) const ACCOUNTS: &str = "accounts";
/// The column that holds the version of a row's stream, where a read model has one.
const VERSION: &str = "version";
/// Collections that the command routes name literally. Where both APIs share a process a router prefers a literal path to
/// `{collection}`, whatever the method: so they are named here as well. (It does go back from a literal path that does not fit to its end:
/// `/v1/accounts/{id}/sessions` leaves all other `POST /v1/accounts/{id}/{command}` alone.)
const LITERAL: [&str; 2] = [ACCOUNTS, "sessions"];

/// Every route, by its path after `/v1`, and who may use it.
fn table() -> [(&'static str, Allowed, MethodRouter<QueryState>); 7] {
    let sessions = Allowed::OwnerOr(access::READ_SESSIONS);
    let operator = Allowed::Holder(access::OPERATOR);
    [
        ("/{collection}", Allowed::AsDefined, get(list)),
        ("/{collection}/{id}", Allowed::AsDefined, get(one)),
        ("/accounts/me", Allowed::Owner, get(me)),
        ("/accounts/{id}/sessions", sessions, get(sessions::list)),
        ("/operator/rebuilds", operator, get(operations::rebuilds)),
        ("/operator/parked", operator, get(operations::parked)),
        ("/operator/status", operator, get(overview::status)),
    ]
}

/// Every route's path after `/v1`, and who may use it.
pub fn rules() -> Vec<(&'static str, Allowed)> {
    let rules = table().into_iter();
    rules.map(|(path, allowed, _)| (path, allowed)).collect()
}

/// The query routes, to be put into [`web::harden`].
pub fn routes(state: QueryState) -> Router {
    let mut router = table()
        .into_iter()
        .fold(Router::new(), |router, (path, _, route)| {
            router.route(&format!("/v1{path}"), route)
        });
    for name in LITERAL {
        let named = async move |state, caller, after, uri, headers| {
            list(Path(name.to_owned()), state, caller, after, uri, headers).await
        };
        router = router.route(&format!("/v1/{name}"), get(named));
    }
    router.with_state(state)
}

/// A list that the caller may see.
async fn list(
    Path(name): Path<String>,
    State(state): State<QueryState>,
    Authenticated(caller): Authenticated,
    After(after): After,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let hosted = state.hosted(&name, &caller)?;
    let after = hosted.awaited(after);
    let reach = access::reach(&hosted.model, &caller)?;
    let offered = [Form::Json, Form::Object, Form::Csv, Form::Events];
    let form = negotiation::form(&headers, &offered)?;
    if form == Form::Events {
        let (outputs, filter) = grammar::live(&uri, &access::fields(&hosted.model, &caller))?;
        let subject = Subject::new(hosted, &reach, filter, outputs, caller);
        wait(hosted, after.as_ref()).await?;
        return live::answer(&state, subject, &headers).await;
    }
    let listing = Listing::parse(&state, hosted, form, &reach, &caller, &uri, &headers)?;
    wait(hosted, after.as_ref()).await?;
    let after = after.as_ref();
    listing.answer(&state, &caller, after, &headers).await
}

/// One row that the caller may see.
async fn one(
    Path((name, _)): Path<(String, String)>,
    State(state): State<QueryState>,
    Authenticated(caller): Authenticated,
    After(after): After,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let hosted = state.hosted(&name, &caller)?;
    // The segment as it was sent: decoded, a comma within a value would look like one between values.
    let segment = uri.path().rsplit('/').next().unwrap_or_default();
    let key = |columns: &[Column]| key::parse(segment, columns);
    row(&state, hosted, caller, key, after, &uri, &headers).await
}

/// The caller's own account.
async fn me(
    State(state): State<QueryState>,
    Authenticated(caller): Authenticated,
    After(after): After,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let hosted = state.hosted(ACCOUNTS, &caller)?;
    let account = access::own_account(&caller)?;
    let key = |_: &[Column]| Ok(vec![Value::Uuid(account)]);
    row(&state, hosted, caller, key, after, &uri, &headers).await
}

/// The row with a key, now or as it changes.
async fn row(
    state: &QueryState,
    hosted: &Arc<Hosted>,
    caller: Caller,
    key: impl FnOnce(&[Column]) -> Result<RowKey, Problem>,
    after: Option<PositionToken>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let after = hosted.awaited(after);
    let model = &*hosted.model;
    let reach = access::reach(model, &caller)?;
    let form = negotiation::form(headers, &[Form::Json, Form::Object, Form::Events])?;
    let fields = access::fields(model, &caller);
    let outputs = grammar::row(uri, &fields)?;
    let key = key(&model.key)?;
    let after = after.as_ref();
    wait(hosted, after).await?;
    if form == Form::Events {
        let subject = Subject::new(hosted, &reach, model.with_key(&key), outputs, caller);
        return live::answer(state, subject, headers).await;
    }
    let page = state.ask(hosted, Question::Row(key), after).await?;
    // Another's row and no row are the same answer, so that nobody learns which keys exist.
    let reached = reach.condition(model);
    let row = page.rows.first().filter(|row| reached.matches(row));
    let row =
        row.ok_or_else(|| Problem::not_found("There is no row with this key that you may see."))?;
    let version = fields
        .iter()
        .find(|field| field.name() == VERSION && field.column_type() == ColumnType::Integer)
        .and_then(|field| match row[field.index()] {
            Value::Integer(version) => Some(version),
            _ => None,
        });
    let shown = outputs.iter().map(|output| &row[output.field.index()]);
    let rows = rows::open(&outputs, vec![shown.collect()], &caller, state.vault()).await?;
    let mut answer = Answer::json(&rows.first())?;
    answer.version = version;
    Ok(answer.respond(headers))
}

async fn wait(hosted: &Hosted, after: Option<&PositionToken>) -> Result<(), Problem> {
    match after {
        Some(token) => hosted.watcher.reached(token).await,
        None => Ok(()),
    }
}

pub(crate) fn store_problem(error: &read_models::Error) -> Problem {
    match error {
        read_models::Error::Unavailable(_) => {
            tracing::warn!(%error, "a read model cannot be read");
            Problem::unavailable("The read model cannot be read right now: try again.")
        }
        read_models::Error::Invalid(_) => Problem::fault(error),
        read_models::Error::TooSlow(after) => {
            tracing::warn!(?after, "a query was ended since it took too long");
            Problem::new(
                StatusCode::BAD_REQUEST,
                codes::QUERY_TOO_SLOW,
                format!("The database worked on this for {after:?} and was stopped."),
            )
            .with_hint(
                "Narrow the filter, order by indexed columns, leave the count out, or give the read model an index.",
            )
        }
    }
}
