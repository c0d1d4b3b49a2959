//! Logging in and refreshing. The way is claim → account stream → credential: never a read model.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use events::session::EndReason;
use events::{Actor, Personal};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;
use vault::{
    Claims, Factor, NewSession, RefreshError, RefreshRefusal, Seen, needs_rehash, normalise_email,
};
use web::{Grant, JsonBody, POSITION_HEADER, Problem};

use super::bodies;
use super::decider::{Account, Command, Status};
use super::hashing;
use super::people::People;
use crate::drill::crash_point;
use crate::form::Form;
use crate::request::CommandRequest;
use crate::routes::CommandState;
use crate::{CommandError, Loaded, Origin, metrics, session};

/// How many log-ins one network address may try in a minute.
const LOG_INS_A_MINUTE: u32 = 100;
const MINUTE: Duration = Duration::from_mins(1);
/// How long a session lasts at most.
const SESSION_DAYS: i64 = 14;

/// `POST /v1/sessions`.
pub(crate) async fn log_in(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let bodies::LogIn {
        email,
        password,
        code,
    } = Form::new(body, request.origin.now, None).parse(bodies::log_in)?;
    limit(&state, &request.origin).await?;
    let proven = prove(&state, &request.origin, &email, password, code.as_ref()).await?;
    begin(&state, request, proven).await
}

/// Who has proven to be whom.
struct Proven {
    account: Uuid,
    /// The credential whose password it was.
    credential: Uuid,
    state: Arc<Loaded<Account>>,
    second_factor: bool,
}

/// One network address gets so many tries a minute.
async fn limit(state: &CommandState, origin: &Origin) -> Result<(), CommandError> {
    let Some(address) = origin.address.as_deref().and_then(|text| text.parse().ok()) else {
        return Ok(());
    };
    let key = state.keys().rate_key("log-in", &network(address));
    let rate = state
        .people()
        .vault()
        .count_rate(key, MINUTE, origin.now)
        .await?;
    if rate.count <= LOG_INS_A_MINUTE {
        return Ok(());
    }
    metrics::log_in("rate_limited");
    let left = (rate.resets_at - origin.now).num_seconds().max(1);
    Err(CommandError::TooManyLogIns {
        limit: LOG_INS_A_MINUTE,
        reset_s: u32::try_from(left).unwrap_or(u32::MAX),
    })
}

/// One customer of a provider has a whole IPv6 network (a /64) to take addresses from.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// Checks what was brought. During the delay after failures, what is right looks the same as what is wrong.
async fn prove(
    state: &CommandState,
    origin: &Origin,
    email: &str,
    password: SecretString,
    code: Option<&SecretString>,
) -> Result<Proven, CommandError> {
    let (people, now) = (state.people(), origin.now);
    let vault = people.vault();
    let address = state.keys().claim_hash(&normalise_email(email));
    let _turn = people.turns.of(&address).await;
    let blocked = vault.throttle(address, now).await?.blocked_until.is_some();
    let claims = vault.claims(address).await?;
    let found = who(state, claims, password).await?;
    if blocked {
        metrics::log_in("throttled");
        return Err(CommandError::InvalidCredentials);
    }
    let Some((account, credential)) = found else {
        metrics::log_in("wrong");
        people.failed(origin, address, claims).await?;
        return Err(CommandError::InvalidCredentials);
    };
    let loaded = people.load(account).await?;
    let mut second_factor = false;
    if loaded.state.second_factor {
        let Some(code) = code else {
            metrics::log_in("code_required");
            return Err(CommandError::SecondFactorRequired);
        };
        match people.factor(account, code, now).await? {
            Factor::Totp => {}
            Factor::RecoveryCode { left } => {
                let used = Command::UseRecoveryCode { left };
                people.note(account, &used, origin).await?;
            }
            Factor::Wrong | Factor::NotEnrolled => {
                metrics::log_in("wrong");
                people.failed(origin, address, claims).await?;
                return Err(CommandError::InvalidCredentials);
            }
        }
        second_factor = true;
    }
    // Anybody can register with an address and log in to that: it must not forget what was guessed at its holder's.
    if claims.verified.is_none_or(|holder| holder == account) {
        vault.note_success(address).await?;
    }
    Ok(Proven {
        account,
        credential,
        state: loaded,
        second_factor,
    })
}

async fn begin(
    state: &CommandState,
    mut request: CommandRequest,
    proven: Proven,
) -> Result<Response, Problem> {
    let Proven {
        account,
        credential,
        state: before,
        second_factor,
    } = proven;
    let (people, session) = (state.people(), vault::random_uuid());
    let now = request.origin.now;
    let expires_at = now + TimeDelta::days(SESSION_DAYS);
    let refresh_token = people
        .vault()
        .begin_session(NewSession {
            id: session,
            account,
            started_at: now,
            expires_at,
            second_factor,
            seen: seen(&request),
        })
        .await
        .map_err(CommandError::from)?;
    crash_point("log-in", "session");
    // What changed while the hashes were computed ended the sessions that it saw, and may not have seen this one.
    let loaded = people.load(account).await?;
    let same = loaded.state.credential_id == Some(credential)
        && loaded.state.status.is_open()
        && loaded.state.second_factor == before.state.second_factor;
    if !same {
        let ended = people.vault().end_session(session, now).await;
        ended.map_err(CommandError::from)?;
        return Err(CommandError::InvalidCredentials.into());
    }
    request.origin.actor = Actor::Account(account);
    request.origin.session = Some(session);
    let start = session::Command::Start {
        account_id: account,
        expires_at,
        second_factor,
        device: request.device.clone().map(Personal::Plain),
    };
    let outcome = people
        .drive_session(&request.origin, session, account, &start)
        .await?;
    crash_point("log-in", "event");
    metrics::log_in("ok");
    let grant = Grant {
        account,
        session,
        scopes: scopes(people, &loaded.state, second_factor),
        authenticated_at: now,
        second_factor,
    };
    let body = tokens(state, &grant, &refresh_token, now);
    let position = state.position(&request, &outcome);
    Ok((StatusCode::CREATED, [(POSITION_HEADER, position)], body).into_response())
}

/// Roles count in sessions that took a second factor.
fn scopes(people: &People, account: &Account, second_factor: bool) -> Vec<String> {
    if second_factor && account.status == Status::Verified {
        people.scopes(&account.roles)
    } else {
        Vec::new()
    }
}

/// `POST /v1/sessions/refresh`.
pub(crate) async fn refresh(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let form = Form::new(body, request.origin.now, None);
    let token = form.parse(bodies::refresh_token)?;
    let people = state.people();
    let refreshed = match people
        .vault()
        .refresh(token.expose_secret(), &seen(&request), request.origin.now)
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
                people
                    .drive_session(&origin, session_id, account, &end)
                    .await?;
            }
            return Err(CommandError::InvalidRefreshToken.into());
        }
        Err(RefreshError::Fault(fault)) => return Err(CommandError::from(fault).into()),
    };
    let account = people.load(refreshed.account).await?;
    if !account.state.status.is_open() {
        return Err(CommandError::InvalidRefreshToken.into());
    }
    let grant = Grant {
        account: refreshed.account,
        session: refreshed.session_id,
        scopes: scopes(people, &account.state, refreshed.second_factor),
        authenticated_at: refreshed.started_at,
        second_factor: refreshed.second_factor,
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
fn seen(request: &CommandRequest) -> Seen {
    Seen {
        device: request.device.clone(),
        address: request.origin.address.clone(),
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
        "scope": grant.scopes.join(" "),
        "account_id": grant.account,
        "session_id": grant.session,
    }))
}

/// The account that this password opens, and the credential. It costs two hashes whether the address is known or not.
async fn who(
    state: &CommandState,
    claims: Claims,
    password: SecretString,
) -> Result<Option<(Uuid, Uuid)>, CommandError> {
    let vault = state.people().vault();
    let verified = credential(state, claims.verified).await?;
    let pending = credential(state, claims.newest_pending).await?;
    let mut opened = None;
    for (account, found) in [
        (claims.newest_pending, pending),
        (claims.verified, verified),
    ] {
        let phc = found.as_ref().map(|(_, phc)| phc.as_str());
        if hashing::verify(vault, phc, password.clone()).await? {
            opened = account.zip(found);
        }
    }
    let Some((account, (id, phc))) = opened else {
        return Ok(None);
    };
    if needs_rehash(&phc) {
        let new = hashing::hash(vault, password).await?;
        vault.replace_phc(id, &phc, &new).await?;
    }
    Ok(Some((account, id)))
}

/// The credential of an account that may log in.
async fn credential(
    state: &CommandState,
    account: Option<Uuid>,
) -> Result<Option<(Uuid, String)>, CommandError> {
    let Some(account) = account else {
        return Ok(None);
    };
    let loaded = state.people().load(account).await?;
    match loaded.state.credential_id {
        Some(id) if loaded.state.status.is_open() => {
            let found = state.people().vault().credential(id).await?;
            Ok(found.map(|credential| (id, credential.phc)))
        }
        _ => Ok(None),
    }
}
