//! Commands on accounts, sessions and API keys over HTTP. The policy is asked first, by the command's name: who may not do
//! something learns nothing of what would be valid. `me` is the caller's own id.

use std::sync::Arc;

use async_trait::async_trait;
use events::Version;
use events::api_key::RevokeReason;
use events::session::EndReason;
use mail::Mailer;
use serde_json::{Map, Value};
use uuid::Uuid;
use vault::Purpose;
use web::Caller;

use super::errands::Errand;
use super::people::{Given, People};
use super::second_factor::Shown;
use super::{Account, Command, stream_of};
use crate::api_key::ApiKey;
use crate::form::Form;
use crate::host::{Answered, Host, TypedHost};
use crate::order::Outcome;
use crate::request::{CommandRequest, content};
use crate::session::Session;
use crate::{Aggregate, CommandError, policy, rules};

/// The host of accounts.
pub(crate) struct AccountHost {
    pub typed: TypedHost<Account>,
    pub people: Arc<People>,
    pub mailer: Option<Mailer>,
}

#[async_trait]
impl Host for AccountHost {
    fn collection(&self) -> &'static str {
        Account::COLLECTION
    }

    fn begins(&self) -> bool {
        false
    }

    fn commands(&self) -> &'static [&'static str] {
        Account::COMMANDS
    }

    async fn begin(
        &self,
        _request: &CommandRequest,
        _caller: &Caller,
        _body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        Err(CommandError::NotFound("registering needs no token".into()))
    }

    async fn act(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        command: &str,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        self.known(command)?;
        let account = match id {
            "me" => caller.account,
            id => id.parse().map_err(|_| no_id(id, self.collection()))?,
        };
        let now = request.origin.now;
        policy::check(
            &format!("/accounts/{{id}}/{command}"),
            caller,
            Some(account),
            now,
        )?;
        let principal = caller.account.to_string();
        let target = stream_of::<Account>(account)?;
        let content = content(command, &body);
        let given = Given {
            account,
            command_id: request.command_id(&self.people.stores.keys, &principal, target.as_str()),
            retryable: request.idempotency_key.is_some(),
            content: &content,
            if_match: request.if_match,
            origin: &request.origin,
            begun_at: now,
        };
        let form = Form::new(body, now, Some(caller.account));
        if Account::is_plain(command) {
            let id = account.to_string();
            return self
                .typed
                .act(request, caller, &id, command, form.into_fields())
                .await;
        }
        // These begin with work that cannot be taken back: a stale version is noticed before it.
        if let Some(seen) = request.if_match {
            self.seen(account, seen, &given).await?;
        }
        self.carry_out(&given, command, form, caller)
            .await
            .map(|(outcome, shown)| Answered { outcome, shown })
    }
}

impl AccountHost {
    async fn carry_out(
        &self,
        given: &Given<'_>,
        command: &str,
        mut form: Form,
        caller: &Caller,
    ) -> Result<Shown, CommandError> {
        let people = &self.people;
        let plain = |outcome: Outcome| (outcome, Map::new());
        match command {
            "verify-email" => {
                let code = form.text("code", rules::word);
                let code = form.whole(Some(code))?;
                people
                    .prove_by_code(given, Purpose::VerifyEmail, &code)
                    .await
                    .map(plain)
            }
            "confirm-email" => {
                let code = form.text("code", rules::word);
                let code = form.whole(Some(code))?;
                people
                    .prove_by_code(given, Purpose::ChangeEmail, &code)
                    .await
                    .map(plain)
            }
            "resend-verification" => {
                form.whole(Some(()))?;
                people.resend_verification(given).await.map(plain)
            }
            "change-email" => people.change_email(given, form).await.map(plain),
            "change-password" => people.change_password(given, form).await.map(plain),
            "enroll-totp" => people.enroll_totp(given, form).await,
            "confirm-totp" => people.confirm_totp(given, form).await,
            "remove-totp" => people.remove_totp(given, form).await.map(plain),
            "replace-recovery-codes" => people.replace_recovery_codes(given, form).await,
            "grant-role" => people.grant_role(given, form).await.map(plain),
            "revoke-role" => people.revoke_role(given, form).await.map(plain),
            "end-sessions" => {
                form.whole(Some(()))?;
                let errand = Errand::EndSessions {
                    reason: EndReason::Ended,
                    revoke_keys: false,
                };
                people.run(errand, given).await.map(plain)
            }
            "close" => {
                form.whole(Some(()))?;
                people.run(Errand::Close, given).await.map(plain)
            }
            "export" => {
                form.whole(Some(()))?;
                people.export(given).await
            }
            "erase" => {
                let by_owner = given.account == caller.account;
                people
                    .erase(given, form, by_owner, self.mailer.as_ref())
                    .await
            }
            other => Err(CommandError::fault(format!(
                "accounts declare {other:?} but do not carry it out"
            ))),
        }
    }

    async fn seen(
        &self,
        account: Uuid,
        seen: Version,
        given: &Given<'_>,
    ) -> Result<(), CommandError> {
        let actual = self.people.load(account).await?.version;
        // A retry of what went through moved the version itself.
        if seen == actual || self.people.first_answer(given).await?.is_some() {
            Ok(())
        } else {
            Err(CommandError::Stale { seen, actual })
        }
    }
}

impl People {
    async fn grant_role(&self, given: &Given<'_>, form: Form) -> Result<Outcome, CommandError> {
        let role = self.role(form)?;
        self.give(given, &Command::GrantRole { role }).await
    }

    /// Sessions go on with fewer scopes only after they began anew.
    async fn revoke_role(&self, given: &Given<'_>, form: Form) -> Result<Outcome, CommandError> {
        let role = self.role(form)?;
        let errand = Errand::EndSessions {
            reason: EndReason::RoleRevoked,
            revoke_keys: true,
        };
        self.give_then(given, &Command::RevokeRole { role }, errand)
            .await
    }

    fn role(&self, mut form: Form) -> Result<String, CommandError> {
        let role = form.text("role", rules::word);
        let known: Vec<&str> = self
            .settings
            .roles
            .iter()
            .map(|role| role.name.as_str())
            .collect();
        if !role.is_empty() && !known.contains(&role.as_str()) {
            let roles = known.join(", ");
            form.refuse("role", "unknown_role", format!("there are: {roles}"));
        }
        form.whole(Some(role))
    }
}

/// The host of sessions: they are begun by logging in.
pub(crate) struct SessionHost(pub Arc<People>);

#[async_trait]
impl Host for SessionHost {
    fn collection(&self) -> &'static str {
        Session::COLLECTION
    }

    fn begins(&self) -> bool {
        false
    }

    fn commands(&self) -> &'static [&'static str] {
        Session::COMMANDS
    }

    async fn begin(
        &self,
        _request: &CommandRequest,
        _caller: &Caller,
        _body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        Err(CommandError::NotFound("logging in needs no token".into()))
    }

    async fn act(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        command: &str,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        self.known(command)?;
        let people = &self.0;
        let session: Uuid = id.parse().map_err(|_| no_id(id, self.collection()))?;
        let loaded = people
            .sessions
            .load(&stream_of::<Session>(session)?)
            .await?;
        let owner = loaded.state.account_id;
        policy::check("/sessions/{id}/end", caller, owner, request.origin.now)?;
        Form::new(body, request.origin.now, None).whole(Some(()))?;
        let account =
            owner.ok_or_else(|| CommandError::NotFound("there is no such session".into()))?;
        people
            .vault()
            .end_session(session, request.origin.now)
            .await?;
        let end = crate::session::Command::End {
            account_id: account,
            reason: EndReason::Ended,
        };
        let outcome = people
            .drive_session(&request.origin, session, account, &end)
            .await?;
        Ok(outcome.into())
    }
}

/// The host of API keys.
pub(crate) struct ApiKeyHost(pub Arc<People>);

#[async_trait]
impl Host for ApiKeyHost {
    fn collection(&self) -> &'static str {
        ApiKey::COLLECTION
    }

    fn begins(&self) -> bool {
        true
    }

    fn commands(&self) -> &'static [&'static str] {
        ApiKey::COMMANDS
    }

    async fn begin(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        let now = request.origin.now;
        policy::check("/api-keys", caller, Some(caller.account), now)?;
        self.0.create_api_key(request, caller, body).await
    }

    async fn act(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        command: &str,
        body: Map<String, Value>,
    ) -> Result<Answered, CommandError> {
        self.known(command)?;
        let people = &self.0;
        let key: Uuid = id.parse().map_err(|_| no_id(id, self.collection()))?;
        let loaded = people.api_keys.load(&stream_of::<ApiKey>(key)?).await?;
        let owner = loaded.state.account_id;
        policy::check("/api-keys/{id}/revoke", caller, owner, request.origin.now)?;
        Form::new(body, request.origin.now, None).whole(Some(()))?;
        let account =
            owner.ok_or_else(|| CommandError::NotFound("there is no such API key".into()))?;
        let outcome = people
            .revoke_key(&request.origin, key, account, RevokeReason::Revoked)
            .await?;
        Ok(outcome.into())
    }
}

fn no_id(id: &str, collection: &str) -> CommandError {
    CommandError::NotFound(format!("{id:?} cannot be an id in {collection}"))
}
