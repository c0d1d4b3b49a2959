//! Creating an API key. Its text is derived from its id, so a retry shows the same text again; the vault keeps its hash.

use chrono::{TimeDelta, Utc};
use events::Personal;
use events::api_key::RevokeReason;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use web::Caller;

use super::bodies::{self, NewApiKey};
use super::people::People;
use super::{Account, Refusal, Status, stream_of};
use crate::api_key::{ApiKey, Command};
use crate::form::{Form, Problem};
use crate::host::Answered;
use crate::order::Order;
use crate::policy::{SELF_READ, SELF_WRITE};
use crate::request::{CommandRequest, content};
use crate::{CommandError, Decider};

/// How many keys an account may have at once.
const KEYS: usize = 50;

impl People {
    pub(crate) async fn create_api_key(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        let content = content("create-api-key", &body);
        let origin = &request.origin;
        let form = Form::new(body, origin.now, Some(caller.account));
        let wanted = form.parse(|form| bodies::api_key(form, |scope| held(caller, scope)))?;
        let NewApiKey { name, days, scopes } = wanted;

        let account = caller.account;
        self.may_have(account, &scopes).await?;
        let principal = account.to_string();
        let command_id = request.command_id(&self.stores.keys, &principal, ApiKey::CATEGORY);
        let key = command_id.derive("stream");
        let valid = self
            .vault()
            .api_keys(account)
            .await?
            .iter()
            .filter(|k| k.id != key && k.revoked_at.is_none() && k.expires_at > origin.now)
            .count();
        if valid >= KEYS {
            return Err(CommandError::TooMany(format!(
                "an account has at most {KEYS} API keys: revoke one that is not used"
            )));
        }
        let expires_at: chrono::DateTime<Utc> = origin.now + TimeDelta::days(days);
        let outcome = self
            .api_keys
            .execute(Order {
                stream: &stream_of::<ApiKey>(key)?,
                person: Some(account),
                command: &Command::Create {
                    account_id: account,
                    name: Personal::Plain(name),
                    scopes: scopes.clone(),
                    expires_at,
                },
                command_id,
                retryable: request.idempotency_key.is_some(),
                content: &content,
                if_match: None,
                origin,
            })
            .await?;
        // The log first: a key that opens doors is known to its owner.
        let text = self
            .vault()
            .store_api_key(key, account, &scopes, expires_at)
            .await?;
        // What took the account's roles away meanwhile may have looked for keys before this one was there.
        if let Err(error) = self.may_have(account, &scopes).await {
            self.revoke_key(origin, key, account, RevokeReason::RoleRevoked)
                .await?;
            return Err(error);
        }
        let shown = json!({ "api_key": text.expose_secret() });
        Ok(Answered::showing(outcome, shown))
    }
}

impl People {
    /// Refuses scopes that the account does not hold now, whatever its token says, and any for one that is not open.
    async fn may_have(&self, account: Uuid, scopes: &[String]) -> Result<(), CommandError> {
        let state = &self.load(account).await?.state;
        match state.status {
            Status::Pending | Status::Verified => {}
            Status::Closed => return Err(CommandError::refused::<Account>(Refusal::Closed)),
            Status::Erased | Status::Unknown => return Err(CommandError::Erased),
        }
        let held = self.scopes(&state.roles);
        let holds = |scope: &String| {
            [SELF_READ, SELF_WRITE].contains(&scope.as_str()) || held.contains(scope)
        };
        scopes
            .iter()
            .all(holds)
            .then_some(())
            .ok_or(CommandError::Forbidden)
    }
}

/// Lets a scope into a key: never more than its owner may do.
fn held(caller: &Caller, scope: &str) -> Result<String, Problem> {
    if scope == SELF_READ || scope == SELF_WRITE || caller.has_exact_scope(scope) {
        return Ok(scope.to_owned());
    }
    Err((
        "scope_not_held",
        format!(
            "a key may allow {SELF_READ}, {SELF_WRITE}, and what its owner may do: {scope:?} is not among it"
        ),
    ))
}
