//! Registering: what must stand in the vault before the account's first event does. Every step may be repeated, so a
//! client that retries after a crash finishes what was begun.

use axum::extract::State;
use axum::response::Response;
use events::{CommandId, Personal};
use serde_json::{Map, Value};
use vault::{Stored, normalise_email};
use web::{JsonBody, Problem};

use super::errands::Errand;
use super::hashing;
use super::people::Given;
use super::{Account, Command, bodies};
use crate::drill::crash_point;
use crate::form::Form;
use crate::request::{CommandRequest, content};
use crate::routes::{CommandState, begun};
use crate::{Aggregate, CommandError, Decider, Outcome};

/// `POST /v1/accounts`.
pub(crate) async fn register(
    State(state): State<CommandState>,
    request: CommandRequest,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let outcome = carry_out(&state, &request, body).await?;
    Ok(begun(&state, &request, &outcome, Account::COLLECTION))
}

async fn carry_out(
    state: &CommandState,
    request: &CommandRequest,
    body: Map<String, Value>,
) -> Result<Outcome, CommandError> {
    let content = content("register", &body);
    let bodies::Registration {
        email,
        password,
        profile,
    } = Form::new(body, request.origin.now, None).parse(bodies::registration)?;

    let people = state.people();
    let vault = people.vault();
    let address = normalise_email(&email);
    let command_id: CommandId = request.command_id(state.keys(), &address, Account::CATEGORY);
    let _in_flight = state
        .in_flight()
        .enter(CommandId(command_id.derive("registering")))
        .ok_or(CommandError::InFlight)?;
    let account = command_id.derive("stream");
    let credential_id = command_id.derive("credential");

    // The key comes first: an account whose key is gone was erased, and is not registered anew by a retry.
    vault
        .create_data_key(account)
        .await
        .map_err(|error| match error {
            vault::KeyError::Erased => CommandError::InvalidCredentials,
            other => other.into(),
        })?;
    crash_point("register", "key");
    let phc = hashing::hash(vault, password.clone()).await?;
    // A retry must bring the password that the first try brought, before it is given any stored answer.
    if let Stored::Already(credential) =
        vault.store_credential(credential_id, account, &phc).await?
        && !hashing::verify(vault, Some(&credential.phc), password).await?
    {
        return Err(CommandError::InvalidCredentials);
    }
    crash_point("register", "credential");
    vault
        .claim_pending(
            state.keys().claim_hash(&address),
            account,
            request.origin.now,
        )
        .await?;
    crash_point("register", "claim");
    let given = Given::by_request(request, account, command_id, &content);
    let register = Command::Register {
        email: Personal::Plain(email),
        credential_id,
        profile,
    };
    people
        .give_then(&given, &register, Errand::AskToVerify)
        .await
}
