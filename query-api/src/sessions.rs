//! An account's open sessions, straight from the vault: what it says now, whatever a client has seen. It refuses to show
//! where a session is used to anybody who may not see the person's values.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;
use vault::OpenSession;
use web::{After, Authenticated, Caller, Problem};

use crate::state::QueryState;
use crate::{access, parameters, rows, values};

/// Stands for the caller's own account in a path.
const ME: &str = "me";

/// A session as it is told.
#[derive(Serialize)]
pub(crate) struct JsonSession {
    id: Uuid,
    started_at: Option<String>,
    last_seen_at: Option<String>,
    expires_at: String,
    second_factor: bool,
    device: Option<String>,
    address: Option<String>,
    /// The one whose token asks.
    current: bool,
}

/// The JSON Schema of the answer.
pub(crate) fn schema() -> Value {
    let moment = json!({ "type": "string", "format": "date-time" });
    let known = json!({ "type": ["string", "null"], "format": "date-time" });
    let personal = json!({ "type": ["string", "null"] });
    let session = json!({
        "type": "object",
        "properties": {
            "id": { "type": "string", "format": "uuid" },
            "started_at": known, "last_seen_at": known, "expires_at": moment,
            "second_factor": { "type": "boolean" },
            "device": personal, "address": personal,
            "current": { "type": "boolean", "description": "The one whose token asks." },
        },
        "required": [
            "id", "started_at", "last_seen_at", "expires_at", "second_factor", "device", "address", "current",
        ],
        "additionalProperties": false,
    });
    json!({ "type": "array", "items": session })
}

/// The account's open sessions, the newest first; at most 100. What is fresh is after any position, so the token of a
/// position is only looked at for its form.
pub(crate) async fn list(
    Path(id): Path<String>,
    State(state): State<QueryState>,
    Authenticated(caller): Authenticated,
    After(_): After,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<Vec<JsonSession>>, Problem> {
    let account = account(&id, &caller)?;
    access::sessions_of(account, &caller)?;
    parameters::none(&uri)?;
    let sessions = state
        .vault()
        .open_sessions(account, state.now())
        .await
        .map_err(rows::vault_problem)?;
    let personal = access::may_see(account, &caller);
    let told = sessions.into_iter().map(|session| {
        let current = caller.session() == Some(session.id);
        told(session, personal, current)
    });
    Ok(Json(told.collect()))
}

fn account(id: &str, caller: &Caller) -> Result<Uuid, Problem> {
    if id == ME {
        return access::own_account(caller);
    }
    id.parse().map_err(|_| {
        Problem::malformed("An account is named in the path by its UUID, or by \"me\".")
    })
}

fn told(session: OpenSession, personal: bool, current: bool) -> JsonSession {
    let known = |moment: &DateTime<Utc>| *moment != DateTime::UNIX_EPOCH;
    JsonSession {
        id: session.id,
        started_at: Some(session.started_at)
            .filter(known)
            .map(values::moment_text),
        last_seen_at: session.last_seen_at.map(values::moment_text),
        expires_at: values::moment_text(session.expires_at),
        second_factor: session.second_factor,
        device: session.device.filter(|_| personal),
        address: session.address.filter(|_| personal),
        current,
    }
}
