//! The account routes that need no token: whoever holds an address, or a link that was mailed to it, may use them.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use vault::Purpose;
use web::{JsonBody, Problem};

use crate::request::CommandRequest;
use crate::routes::{CommandState, answer};

/// How long the answer to a forgotten password takes, whatever was found: longer than the work.
const EVEN_ANSWER: Duration = Duration::from_millis(250);

/// `POST /v1/accounts/verify-email`.
pub(crate) async fn verify_email(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    prove(&state, &request, "verify-email", Purpose::VerifyEmail, body).await
}

/// `POST /v1/accounts/confirm-email`.
pub(crate) async fn confirm_email(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    prove(
        &state,
        &request,
        "confirm-email",
        Purpose::ChangeEmail,
        body,
    )
    .await
}

async fn prove(
    state: &CommandState,
    request: &CommandRequest,
    name: &str,
    purpose: Purpose,
    body: Map<String, Value>,
) -> Result<Response, Problem> {
    let outcome = state
        .people()
        .prove_by_link(request, name, purpose, body)
        .await?;
    Ok(answer(state, request, &outcome, StatusCode::OK).into_response())
}

/// `POST /v1/accounts/forgot-password`: 202, whether the address is known or not.
pub(crate) async fn forgot_password(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let even = Instant::now() + EVEN_ANSWER;
    let done = state.people().forgot_password(&request, body).await;
    tokio::time::sleep_until(even).await;
    done?;
    let body =
        json!({ "detail": "If the address is known here, a mail with a link is on its way." });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// `POST /v1/accounts/reset-password`.
pub(crate) async fn reset_password(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let outcome = state.people().reset_password(&request, body).await?;
    Ok(answer(&state, &request, &outcome, StatusCode::OK).into_response())
}
