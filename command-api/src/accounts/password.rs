//! Changing a password, with the one before or with a link that was mailed. The new hash stands in the vault first; an
//! errand then tells the account, forgets the old hash and ends the sessions.

use events::account::PasswordProof;
use events::session::EndReason;
use mail::Content;
use mail::letters::reset_password_link;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use uuid::Uuid;
use vault::{Purpose, Stored, normalise_email};

use super::email::minutes;
use super::errands::{Errand, intent};
use super::hashing;
use super::people::{Given, People};
use super::{Account, Command, bodies};
use crate::drill::crash_point;
use crate::form::Form;
use crate::order::Outcome;
use crate::request::{CommandRequest, content};
use crate::{CommandError, Decider};

fn right(right: bool) -> Result<(), CommandError> {
    right.then_some(()).ok_or(CommandError::InvalidCredentials)
}

impl People {
    /// Refuses what is not the account's password.
    pub async fn check_password(
        &self,
        given: &Given<'_>,
        password: SecretString,
    ) -> Result<(), CommandError> {
        let account = self.load(given.account).await?;
        let opens = self.opens(account.state.credential_id, password);
        right(self.guarded(given, opens).await?)
    }

    async fn opens(&self, id: Option<Uuid>, password: SecretString) -> Result<bool, CommandError> {
        let phc = match id {
            Some(id) => self.vault().credential(id).await?.map(|found| found.phc),
            None => None,
        };
        Ok(hashing::verify(self.vault(), phc.as_deref(), password).await?)
    }

    /// `…/change-password`.
    pub async fn change_password(
        &self,
        given: &Given<'_>,
        form: Form,
    ) -> Result<Outcome, CommandError> {
        let (password, new) = form.parse(bodies::change_password)?;
        let credential_id = given.command_id.derive("credential");
        // A retry brings a password that is the old one by now: what it must know is the new one.
        if let Some(outcome) = self.first_answer(given).await? {
            let opens = self.opens(Some(credential_id), new);
            return right(self.guarded(given, opens).await?).map(|()| outcome);
        }
        self.check_password(given, password).await?;
        let phc = hashing::hash(self.vault(), new.clone()).await?;
        let stored = self
            .vault()
            .store_credential(credential_id, given.account, &phc)
            .await?;
        if let Stored::Already(credential) = stored
            && !hashing::verify(self.vault(), Some(&credential.phc), new).await?
        {
            return Err(CommandError::KeyReused);
        }
        let errand = Errand::SetPassword {
            credential_id,
            proof: PasswordProof::Password,
        };
        self.run(errand, given).await
    }

    /// `POST /v1/accounts/forgot-password`: the same answer and the same work, whether the address is known or not; what
    /// differs is done when the answer is given.
    pub async fn forgot_password(
        &self,
        request: &CommandRequest,
        body: Map<String, Value>,
    ) -> Result<(), CommandError> {
        let email = Form::new(body, request.origin.now, None).parse(bodies::email)?;
        let keys = &self.stores.keys;
        let claims = self
            .vault()
            .claims(keys.claim_hash(&normalise_email(&email)))
            .await?;
        let Some(account) = claims.verified.or(claims.newest_pending) else {
            return Ok(());
        };
        let content = content("forgot-password", &Map::new());
        let command_id = request.command_id(keys, &normalise_email(&email), "forgot-password");
        let given = Given::by_request(request, account, command_id, &content);
        let ask = Command::RequestPasswordReset;
        match self.give_then(&given, &ask, Errand::SendResetLink).await {
            // A closed account resets nothing. Neither that nor what becomes of a key that was used before may be told:
            // of an unknown address there is nothing to tell.
            Ok(_)
            | Err(
                CommandError::Refused { .. }
                | CommandError::Erased
                | CommandError::InFlight
                | CommandError::Conflict
                | CommandError::KeyReused,
            ) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Mails a link to the address that the account holds.
    pub async fn send_reset_link(&self, given: &Given<'_>) -> Result<(), CommandError> {
        let (account, origin) = (given.account, given.origin);
        let state = self.load(account).await?;
        let Some(email) = self.address(state.state.email.as_ref()).await? else {
            return Ok(());
        };
        let claim = self.stores.keys.claim_hash(&normalise_email(&email));
        if !self.may_challenge(claim, origin.now).await? {
            return Ok(());
        }
        let issued = self
            .vault()
            .issue_challenge(account, Purpose::ResetPassword, None, origin.now)
            .await?;
        crash_point("forgot-password", "challenge");
        let content = Content::ResetPassword {
            link: reset_password_link(&self.settings.app_url, issued.link.expose_secret()),
            minutes: minutes(Purpose::ResetPassword),
        };
        self.mail(account, &email, &content, origin).await?;
        crash_point("forgot-password", "mail");
        Ok(())
    }

    /// `POST /v1/accounts/reset-password`, with the token of a link.
    pub async fn reset_password(
        &self,
        request: &CommandRequest,
        body: Map<String, Value>,
    ) -> Result<Outcome, CommandError> {
        let content = content("reset-password", &body);
        let form = Form::new(body, request.origin.now, None);
        let (token, new) = form.parse(bodies::reset_password)?;
        let token = token.expose_secret();
        let command_id = self.link_command(request, token);
        let credential_id = command_id.derive("credential");
        let unknown = Given::by_request(request, Uuid::nil(), command_id, &content);
        if let Some(outcome) = self.answered_by_link(&unknown).await? {
            return right(self.opens(Some(credential_id), new).await?).map(|()| outcome);
        }
        let now = request.origin.now;
        let challenge = self
            .vault()
            .check_link(Purpose::ResetPassword, token, now)
            .await?;
        let given = Given {
            account: challenge.account,
            ..unknown
        };
        let errand = Errand::SetPassword {
            credential_id,
            proof: PasswordProof::EmailLink,
        };
        // The decider first: an account that is closed uses no link up.
        self.load(given.account)
            .await?
            .state
            .decide(&Command::ChangePassword {
                credential_id,
                proof: PasswordProof::EmailLink,
            })
            .map_err(CommandError::refused::<Account>)?;
        let phc = hashing::hash(self.vault(), new).await?;
        let intent = intent(errand.clone(), &given)?;
        let settled = self
            .vault()
            .settle_reset(&challenge, credential_id, &phc, &intent)
            .await?;
        if !settled {
            return Err(CommandError::ChallengeRefused);
        }
        crash_point("reset-password", "credential");
        self.finish(&intent, errand, &given).await
    }

    /// What follows a new hash in the vault: the account says so, the old hash goes, other sessions end, the person is told.
    pub async fn set_password(
        &self,
        given: &Given<'_>,
        credential_id: Uuid,
        proof: PasswordProof,
    ) -> Result<Outcome, CommandError> {
        let change = Command::ChangePassword {
            credential_id,
            proof,
        };
        let outcome = self.give(given, &change).await?;
        crash_point("reset-password", "event");
        let account = self.load(given.account).await?;
        if let Some(current) = account.state.credential_id {
            self.vault()
                .delete_credentials_but(given.account, current)
                .await?;
        }
        crash_point("reset-password", "old-credentials");
        let keep = match proof {
            PasswordProof::Password => given.origin.session,
            PasswordProof::EmailLink => None,
        };
        self.end_sessions(given, EndReason::PasswordChanged, keep)
            .await?;
        crash_point("reset-password", "sessions");
        self.tell(&account, given, &Content::PasswordChanged {})
            .await?;
        crash_point("reset-password", "notice");
        Ok(outcome)
    }
}
