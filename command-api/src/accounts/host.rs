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
use super::{Account, Command, bodies, stream_of};
use crate::api_key::ApiKey;
use crate::form::Form;
use crate::host::{Answered, Host, TypedHost, no_id};
use crate::order::Outcome;
use crate::request::{CommandRequest, content};
use crate::session::Session;
use crate::{Aggregate, CommandError, Executor, policy};

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

    fn commands(&self) -> &'static [&'static str] {
        Account::COMMANDS
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
        if Account::is_plain(command) {
            let id = account.to_string();
            return self.typed.act(request, caller, &id, command, body).await;
        }
        let principal = caller.account.to_string();
        let target = stream_of::<Account>(account)?;
        let command_id = request.command_id(&self.people.stores.keys, &principal, target.as_str());
        let content = content(command, &body);
        let given = Given {
            if_match: request.if_match,
            ..Given::by_request(request, account, command_id, &content)
        };
        let form = Form::new(body, now, Some(caller.account));
        // These begin with work that cannot be taken back: a stale version is noticed before it.
        if let Some(seen) = request.if_match {
            self.seen(account, seen, &given).await?;
        }
        self.carry_out(&given, command, form, caller).await
    }
}

impl AccountHost {
    async fn carry_out(
        &self,
        given: &Given<'_>,
        command: &str,
        form: Form,
        caller: &Caller,
    ) -> Result<Answered, CommandError> {
        let people = &self.people;
        let outcome = match command {
            "verify-email" => {
                people
                    .prove_by_code(given, Purpose::VerifyEmail, form)
                    .await
            }
            "confirm-email" => {
                people
                    .prove_by_code(given, Purpose::ChangeEmail, form)
                    .await
            }
            "resend-verification" => {
                form.parse(bodies::nothing)?;
                people.resend_verification(given).await
            }
            "change-email" => people.change_email(given, form).await,
            "change-password" => people.change_password(given, form).await,
            "enroll-totp" => return people.enroll_totp(given, form).await,
            "confirm-totp" => return people.confirm_totp(given, form).await,
            "remove-totp" => people.remove_totp(given, form).await,
            "replace-recovery-codes" => return people.replace_recovery_codes(given, form).await,
            "grant-role" => people.grant_role(given, form).await,
            "revoke-role" => people.revoke_role(given, form).await,
            "end-sessions" => {
                form.parse(bodies::nothing)?;
                let errand = Errand::EndSessions {
                    reason: EndReason::Ended,
                    revoke_keys: false,
                };
                people.run(errand, given).await
            }
            "close" => {
                form.parse(bodies::nothing)?;
                people.run(Errand::Close, given).await
            }
            "export" => {
                form.parse(bodies::nothing)?;
                return people.export(given).await;
            }
            "erase" => {
                let by_owner = given.account == caller.account;
                return people
                    .erase(given, form, by_owner, self.mailer.as_ref())
                    .await;
            }
            other => Err(CommandError::fault(format!(
                "accounts declare {other:?} but do not carry it out"
            ))),
        };
        outcome.map(Answered::from)
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

    fn role(&self, form: Form) -> Result<String, CommandError> {
        form.parse(|form| bodies::role(form, &self.role_names()))
    }

    /// The roles that there are.
    pub fn role_names(&self) -> Vec<&str> {
        let roles = self.settings.roles.iter();
        roles.map(|role| role.name.as_str()).collect()
    }
}

/// The host of sessions: they are begun by logging in.
pub(crate) struct SessionHost(pub Arc<People>);

#[async_trait]
impl Host for SessionHost {
    fn collection(&self) -> &'static str {
        Session::COLLECTION
    }

    fn commands(&self) -> &'static [&'static str] {
        Session::COMMANDS
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
        let (session, account) =
            owned(&people.sessions, request, caller, id, command, body).await?;
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
        let (key, account) = owned(&people.api_keys, request, caller, id, command, body).await?;
        let outcome = people
            .revoke_key(&request.origin, key, account, RevokeReason::Revoked)
            .await?;
        Ok(outcome.into())
    }
}

/// What belongs to an account, under an id of its own.
trait Owned: Aggregate {
    /// What it is called.
    const NOUN: &'static str;

    /// Whose it is; nobody's before it began.
    fn owner(&self) -> Option<Uuid>;
}

impl Owned for Session {
    const NOUN: &'static str = "session";

    fn owner(&self) -> Option<Uuid> {
        self.account_id
    }
}

impl Owned for ApiKey {
    const NOUN: &'static str = "API key";

    fn owner(&self) -> Option<Uuid> {
        self.account_id
    }
}

/// The id and the account of what a caller may give a command without fields to.
async fn owned<A: Owned>(
    executor: &Executor<A>,
    request: &CommandRequest,
    caller: &Caller,
    id: &str,
    command: &str,
    body: Map<String, Value>,
) -> Result<(Uuid, Uuid), CommandError> {
    let (collection, now) = (A::COLLECTION, request.origin.now);
    let uuid: Uuid = id.parse().map_err(|_| no_id(id, collection))?;
    let owner = executor.load(&stream_of::<A>(uuid)?).await?.state.owner();
    policy::check(
        &format!("/{collection}/{{id}}/{command}"),
        caller,
        owner,
        now,
    )?;
    Form::new(body, now, None).parse(bodies::nothing)?;
    let owner =
        owner.ok_or_else(|| CommandError::NotFound(format!("there is no such {}", A::NOUN)))?;
    Ok((uuid, owner))
}
