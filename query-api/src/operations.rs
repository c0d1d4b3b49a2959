//! What operators look at: builds on their way, and parked streams with their history. It refuses to change anything: that
//! is asked for with commands, under the same path.

use axum::Json;
use axum::extract::{OriginalUri, State};
use read_models::{Rebuild, Waiting};
use serde::Serialize;
use serde_json::{Value, json};
use web::{After, Authenticated, Problem};

use crate::routes::store_problem;
use crate::state::QueryState;
use crate::{access, parameters, values};

/// How many parked streams are told.
const STREAMS: u32 = 1_000;

/// A build as it is told.
#[derive(Serialize)]
pub(crate) struct JsonRebuild {
    read_model: String,
    generation: u32,
    phase: &'static str,
    compare: bool,
    events: u64,
    position: u64,
    head: u64,
    events_per_second: u64,
    seconds_left: Option<u64>,
    detail: Option<String>,
    began_at: String,
    updated_at: String,
}

/// A parked stream as it is told.
#[derive(Serialize)]
pub(crate) struct JsonParked {
    read_model: String,
    generation: u32,
    stream: String,
    partition: u16,
    position: u64,
    error: String,
    events: u64,
    parked_at: String,
    retries: u32,
    retried_at: Option<String>,
    retried_by: Option<String>,
    retrying: bool,
}

/// The JSON Schema of the list of builds.
pub(crate) fn rebuilds_schema() -> Value {
    let number = json!({ "type": "integer", "minimum": 0 });
    let moment = json!({ "type": "string", "format": "date-time" });
    list(&json!({
        "read_model": { "type": "string" },
        "generation": number,
        "phase": { "type": "string", "enum": ["waiting", "building", "comparing", "live", "different", "cancelled"] },
        "compare": { "type": "boolean" },
        "events": number, "position": number, "head": number, "events_per_second": number,
        "seconds_left": { "type": ["integer", "null"], "minimum": 0 },
        "detail": { "type": ["string", "null"], "description": "What is different: keys and columns, never values." },
        "began_at": moment, "updated_at": moment,
    }))
}

/// The JSON Schema of the list of parked streams.
pub(crate) fn parked_schema() -> Value {
    let number = json!({ "type": "integer", "minimum": 0 });
    let moment = json!({ "type": "string", "format": "date-time" });
    list(&json!({
        "read_model": { "type": "string" },
        "generation": number,
        "stream": { "type": "string" },
        "partition": number,
        "position": { "type": "integer", "minimum": 0, "description": "The first event that waits." },
        "error": { "type": "string" },
        "events": { "type": "integer", "minimum": 0, "description": "How many wait." },
        "parked_at": moment,
        "retries": number,
        "retried_at": { "type": ["string", "null"], "format": "date-time" },
        "retried_by": { "type": ["string", "null"] },
        "retrying": { "type": "boolean", "description": "It is about to be tried again." },
    }))
}

fn list(properties: &Value) -> Value {
    let fields = properties.as_object().into_iter().flatten();
    let required: Vec<&String> = fields.map(|(name, _)| name).collect();
    let item = json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    });
    json!({ "type": "array", "items": item })
}

/// Builds that were asked for, or that a changed definition needed, the latest first.
pub(crate) async fn rebuilds(
    State(state): State<QueryState>,
    Authenticated(caller): Authenticated,
    After(_): After,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<Vec<JsonRebuild>>, Problem> {
    access::operator(&caller)?;
    parameters::none(&uri)?;
    let found = state.store().rebuilds().await;
    let found = found.map_err(|error| store_problem(&error))?;
    Ok(Json(found.into_iter().map(rebuild).collect()))
}

/// Parked streams of what readers see, by read model and position.
pub(crate) async fn parked(
    State(state): State<QueryState>,
    Authenticated(caller): Authenticated,
    After(_): After,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<Vec<JsonParked>>, Problem> {
    access::operator(&caller)?;
    parameters::none(&uri)?;
    let found = state.store().waiting(STREAMS).await;
    let found = found.map_err(|error| store_problem(&error))?;
    Ok(Json(found.into_iter().map(waiting).collect()))
}

fn rebuild(rebuild: Rebuild) -> JsonRebuild {
    let progress = rebuild.progress;
    JsonRebuild {
        read_model: rebuild.model,
        generation: rebuild.generation,
        phase: progress.phase.name(),
        compare: rebuild.compare,
        events: progress.events,
        position: progress.position.get(),
        head: progress.head.get(),
        events_per_second: progress.rate,
        seconds_left: progress.left_s.filter(|_| !progress.phase.is_over()),
        detail: progress.detail,
        began_at: values::moment_text(rebuild.began_at),
        updated_at: values::moment_text(rebuild.updated_at),
    }
}

fn waiting(waiting: Waiting) -> JsonParked {
    let parked = waiting.parked;
    JsonParked {
        read_model: waiting.model,
        generation: waiting.generation,
        stream: parked.stream.to_string(),
        partition: parked.partition.0,
        position: parked.position.get(),
        error: parked.error,
        events: waiting.events,
        parked_at: values::moment_text(waiting.parked_at),
        retries: waiting.retries,
        retried_at: waiting.retried_at.map(values::moment_text),
        retried_by: waiting.retried_by,
        retrying: waiting.retrying,
    }
}
