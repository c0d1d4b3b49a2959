//! Logging in and refreshing. The way is claim → account stream → credential: never a read model.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use events::Actor;
use events::session::EndReason;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;
use vault::{NewSession, RefreshError, RefreshRefusal, Seen, normalise_email};
use web::{Grant, JsonBody, POSITION_HEADER, Problem};

use super::decider::{Account, Status};
use super::sessions::drive;
use super::stream_of;
use crate::form::Form;
use crate::request::CommandRequest;
use crate::routes::CommandState;
use crate::{CommandError, Origin, rules, session};

/// How long a session lasts at most.
const SESSION_DAYS: i64 = 14;

/// `POST /v1/sessions`.
pub(crate) async fn log_in(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let mut form = Form::new(body, request.origin.now, None);
    let email = form.text("email", rules::email);
    let password = form.password("password");
    let password = form.whole(password)?;
    let account = who(&state, &email, password)
        .await?
        .ok_or(CommandError::InvalidCredentials)?;

    let session = vault::random_uuid();
    let expires_at = request.origin.now + TimeDelta::days(SESSION_DAYS);
    let refresh_token = state
        .stores()
        .vault
        .begin_session(NewSession {
            id: session,
            account,
            started_at: request.origin.now,
            expires_at,
            second_factor: false,
            seen: seen(&request.origin),
        })
        .await
        .map_err(CommandError::from)?;
    let mut request = request;
    request.origin.actor = Actor::Account(account);
    request.origin.session = Some(session);
    let start = session::Command::Start {
        account_id: account,
        expires_at,
    };
    let outcome = drive(state.sessions(), &request.origin, session, account, &start).await?;
    let grant = Grant {
        account,
        session,
        scopes: Vec::new(),
        authenticated_at: request.origin.now,
        second_factor: false,
    };
    let body = tokens(&state, &grant, &refresh_token, request.origin.now);
    let position = state.position(&request, &outcome);
    Ok((StatusCode::CREATED, [(POSITION_HEADER, position)], body).into_response())
}

/// `POST /v1/sessions/refresh`.
pub(crate) async fn refresh(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let mut form = Form::new(body, request.origin.now, None);
    let token = form.text("refresh_token", rules::word);
    let token = form.whole(Some(token))?;
    let refreshed = match state
        .stores()
        .vault
        .refresh(&token, &seen(&request.origin), request.origin.now)
        .await
    {
        Ok(refreshed) => refreshed,
        Err(RefreshError::Refused(refusal)) => {
            if let RefreshRefusal::Reused {
                session_id,
                account,
            } = refusal
            {
                // What Showcaller itself does on the occasion of a request.
                let origin = Origin {
                    actor: Actor::System("sessions".into()),
                    session: None,
                    ..request.origin
                };
                let end = session::Command::End {
                    account_id: account,
                    reason: EndReason::RefreshTokenReused,
                };
                drive(state.sessions(), &origin, session_id, account, &end).await?;
            }
            return Err(CommandError::InvalidRefreshToken.into());
        }
        Err(RefreshError::Fault(fault)) => return Err(CommandError::from(fault).into()),
    };
    let grant = Grant {
        account: refreshed.account,
        session: refreshed.session_id,
        scopes: Vec::new(),
        // A session lasts so long from its log-in.
        authenticated_at: refreshed.expires_at - TimeDelta::days(SESSION_DAYS),
        second_factor: false,
    };
    let body = tokens(
        &state,
        &grant,
        &refreshed.successor_token,
        request.origin.now,
    );
    Ok(body.into_response())
}

/// From where a session is used.
fn seen(origin: &Origin) -> Seen {
    Seen {
        device: None,
        address: origin.address.clone(),
    }
}

/// What a client gets to go on with: a new access token, and the token for the next refresh.
fn tokens(
    state: &CommandState,
    grant: &Grant,
    refresh_token: &SecretString,
    now: DateTime<Utc>,
) -> Json<Value> {
    let access = state.tokens().issue(grant, now);
    Json(json!({
        "access_token": access.token,
        "token_type": "Bearer",
        "expires_in": access.expires_in,
        "refresh_token": refresh_token.expose_secret(),
        "account_id": grant.account,
    }))
}

/// The account that these credentials open. It costs two hashes whether the address is known or not.
async fn who(
    state: &CommandState,
    email: &str,
    password: SecretString,
) -> Result<Option<Uuid>, CommandError> {
    let vault = &state.stores().vault;
    let claims = vault
        .claims(state.keys().claim_hash(&normalise_email(email)))
        .await?;
    let verified = phc(state, claims.verified).await?;
    let pending = phc(state, claims.newest_pending).await?;
    let opens_verified = vault
        .verify_password(verified.as_deref(), password.clone())
        .await?;
    let opens_pending = vault.verify_password(pending.as_deref(), password).await?;
    Ok(match (opens_verified, opens_pending) {
        (true, _) => claims.verified,
        (false, true) => claims.newest_pending,
        (false, false) => None,
    })
}

/// The hash of an account that may log in.
async fn phc(state: &CommandState, account: Option<Uuid>) -> Result<Option<String>, CommandError> {
    let Some(account) = account else {
        return Ok(None);
    };
    let loaded = state
        .accounts()
        .load(&stream_of::<Account>(account)?)
        .await?;
    match (loaded.state.status, loaded.state.credential_id) {
        (Status::Pending, Some(credential)) => Ok(state
            .stores()
            .vault
            .credential(credential)
            .await?
            .map(|credential| credential.phc)),
        _ => Ok(None),
    }
}
