//! Logging in, refreshing, and ending sessions. The way is claim → account stream → credential: never a read model.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use events::session::EndReason;
use events::{Actor, CommandId, StreamId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;
use vault::{RefreshError, RefreshRefusal, normalise_email};
use web::{JsonBody, POSITION_HEADER, Problem};

use super::decider::{Account, Status};
use crate::executor::{Order, Origin, Outcome};
use crate::form::Form;
use crate::request::CommandRequest;
use crate::routes::CommandState;
use crate::session::{self, Session};
use crate::{CommandError, Decider, rules};

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
        .begin_session(session, account, expires_at)
        .await
        .map_err(CommandError::from)?;
    let mut request = request;
    request.origin.actor = Actor::Account(account);
    request.origin.session = Some(session);
    let start = session::Command::Start {
        account_id: account,
        expires_at,
    };
    let outcome = drive(&state, &request.origin, session, account, &start).await?;
    let access = state
        .tokens()
        .issue(account, session, &[], request.origin.now);
    let body = json!({
        "access_token": access.token,
        "token_type": "Bearer",
        "expires_in": access.expires_in,
        "refresh_token": refresh_token.expose_secret(),
        "account_id": account,
    });
    let position = state.position(&request, &outcome);
    Ok((
        StatusCode::CREATED,
        [(POSITION_HEADER, position)],
        Json(body),
    )
        .into_response())
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
        .refresh(&token, request.origin.now)
        .await
    {
        Ok(refreshed) => refreshed,
        Err(RefreshError::Refused(refusal)) => {
            if let RefreshRefusal::Reused {
                session_id,
                account,
            } = refusal
            {
                let end = session::Command::End {
                    account_id: account,
                    reason: EndReason::RefreshTokenReused,
                };
                drive(&state, &system(&request.origin), session_id, account, &end).await?;
            }
            return Err(CommandError::InvalidRefreshToken.into());
        }
        Err(RefreshError::Fault(fault)) => return Err(CommandError::from(fault).into()),
    };
    let access = state.tokens().issue(
        refreshed.account,
        refreshed.session_id,
        &[],
        request.origin.now,
    );
    let body = json!({
        "access_token": access.token,
        "token_type": "Bearer",
        "expires_in": access.expires_in,
        "refresh_token": refreshed.successor_token.expose_secret(),
        "account_id": refreshed.account,
    });
    Ok(Json(body).into_response())
}

/// Ends every session of an account, in the vault first: a session that can't be refreshed is as good as ended.
pub(crate) async fn end_sessions(
    state: &CommandState,
    origin: &Origin,
    account: &str,
) -> Result<(), CommandError> {
    let Ok(account) = account.parse::<Uuid>() else {
        return Ok(());
    };
    for session in state
        .stores()
        .vault
        .end_sessions(account, origin.now)
        .await?
    {
        let end = session::Command::End {
            account_id: account,
            reason: EndReason::AccountClosed,
        };
        drive(state, origin, session, account, &end).await?;
    }
    Ok(())
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
    let stream =
        StreamId::new(Account::CATEGORY, &account.to_string()).map_err(CommandError::fault)?;
    let loaded = state.accounts().load(&stream).await?;
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

async fn drive(
    state: &CommandState,
    origin: &Origin,
    session: Uuid,
    account: Uuid,
    command: &session::Command,
) -> Result<Outcome, CommandError> {
    let stream =
        StreamId::new(Session::CATEGORY, &session.to_string()).map_err(CommandError::fault)?;
    state
        .sessions()
        .execute(Order {
            stream: &stream,
            person: Some(account),
            command,
            command_id: CommandId(vault::random_uuid()),
            retryable: false,
            content: &[],
            if_match: None,
            origin,
        })
        .await
}

/// What Showcaller itself does on the occasion of a request.
fn system(origin: &Origin) -> Origin {
    Origin {
        actor: Actor::System("sessions".into()),
        session: None,
        ..origin.clone()
    }
}
