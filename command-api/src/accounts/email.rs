//! Proving an address: of a new account, and of one that changes it. Uniqueness binds here, in the vault, in the moment
//! that a code or a link is shown; an errand then tells the account.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use events::{CommandId, Personal};
use mail::Content;
use mail::letters::{confirm_email_link, verify_email_link};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use uuid::Uuid;
use vault::{Challenge, ChallengeError, Purpose, Settled, normalise_email};

use super::errands::{Errand, intent};
use super::people::{Given, People};
use super::{Account, Command, bodies};
use crate::drill::crash_point;
use crate::form::Form;
use crate::order::{Origin, Outcome};
use crate::request::{CommandRequest, content};
use crate::{CommandError, Decider};

/// How many codes and links one address is sent in an hour, whoever asks.
const CHALLENGES_AN_HOUR: u32 = 10;
const HOUR: Duration = Duration::from_hours(1);

impl From<ChallengeError> for CommandError {
    fn from(error: ChallengeError) -> Self {
        match error {
            ChallengeError::Refused => Self::ChallengeRefused,
            ChallengeError::Fault(fault) => fault.into(),
        }
    }
}

/// The whole minutes that a challenge is good for.
pub(super) fn minutes(purpose: Purpose) -> u32 {
    u32::try_from(purpose.lifetime().num_minutes()).unwrap_or(u32::MAX)
}

impl People {
    /// Mails a new code to somebody who registered, unless the address was sent too many. An address that somebody else has
    /// proven gets another mail: its holder learns that it was tried, and whoever tried learns nothing.
    pub async fn ask_to_verify(
        &self,
        account: Uuid,
        email: &str,
        origin: &Origin,
    ) -> Result<bool, CommandError> {
        let challenge = self
            .challenge(account, email, Purpose::VerifyEmail, origin.now)
            .await?;
        let Some(content) = challenge else {
            return Ok(false);
        };
        self.mail(account, email, &content, origin).await?;
        crash_point("register", "mail");
        Ok(true)
    }

    /// A new code and link for whoever reads the mail of an address; `None` where it was sent too many. Where somebody else
    /// has proven the address, the mail says so, and holds neither.
    async fn challenge(
        &self,
        account: Uuid,
        email: &str,
        purpose: Purpose,
        now: DateTime<Utc>,
    ) -> Result<Option<Content>, CommandError> {
        let claim = self.stores.keys.claim_hash(&normalise_email(email));
        if !self.may_challenge(claim, now).await? {
            return Ok(None);
        }
        let vault = self.vault();
        let issued = vault
            .issue_challenge(account, purpose, Some(claim), now)
            .await?;
        let changes = purpose == Purpose::ChangeEmail;
        crash_point(
            if changes { "change-email" } else { "register" },
            "challenge",
        );
        let holder = vault.claims(claim).await?.verified;
        if holder.is_some_and(|holder| holder != account) {
            return Ok(Some(Content::AlreadyRegistered {}));
        }
        let (app_url, link) = (&self.settings.app_url, issued.link.expose_secret());
        let (code, minutes) = (issued.code.expose_secret().to_owned(), minutes(purpose));
        Ok(Some(if changes {
            let link = confirm_email_link(app_url, link);
            Content::ChangeEmailConfirm {
                code,
                link,
                minutes,
            }
        } else {
            let link = verify_email_link(app_url, link);
            Content::VerifyEmail {
                code,
                link,
                minutes,
            }
        }))
    }

    /// Whether one more code or link may go to an address in this hour. Each is a mail that its holder may not have asked
    /// for, and brings whoever asked new tries to guess.
    pub async fn may_challenge(
        &self,
        claim: [u8; 32],
        now: DateTime<Utc>,
    ) -> Result<bool, CommandError> {
        let address = URL_SAFE_NO_PAD.encode(claim);
        let key = self.stores.keys.rate_key("challenge", &address);
        let rate = self.vault().count_rate(key, HOUR, now).await?;
        if rate.count == CHALLENGES_AN_HOUR + 1 {
            tracing::warn!("an address was sent as many codes as it may get in an hour");
        }
        Ok(rate.count <= CHALLENGES_AN_HOUR)
    }

    /// `…/resend-verification`.
    pub async fn resend_verification(&self, given: &Given<'_>) -> Result<Outcome, CommandError> {
        let account = self.load(given.account).await?;
        // The decider says whether there is anything to verify.
        let events = account
            .state
            .decide(&Command::VerifyEmail)
            .map_err(CommandError::refused::<Account>)?;
        if !events.is_empty()
            && let Some(email) = self.address(account.state.email.as_ref()).await?
        {
            let sent = self
                .ask_to_verify(given.account, &email, given.origin)
                .await?;
            if !sent {
                return Err(CommandError::TooMany(format!(
                    "an address is sent at most {CHALLENGES_AN_HOUR} codes an hour: use the last one, or wait"
                )));
            }
        }
        self.unchanged(given.account).await
    }

    /// `…/verify-email` and `…/confirm-email`, with the code.
    pub async fn prove_by_code(
        &self,
        given: &Given<'_>,
        purpose: Purpose,
        form: Form,
    ) -> Result<Outcome, CommandError> {
        let code = form.parse(bodies::code)?;
        if let Some(outcome) = self.answered(given).await? {
            return Ok(outcome);
        }
        let now = given.origin.now;
        let challenge = self
            .vault()
            .check_code(given.account, purpose, code.expose_secret(), now)
            .await?;
        self.prove(given, &challenge).await
    }

    /// `POST /v1/accounts/verify-email` and `…/confirm-email`, with the token of a link.
    pub async fn prove_by_link(
        &self,
        request: &CommandRequest,
        name: &str,
        purpose: Purpose,
        body: Map<String, Value>,
    ) -> Result<Outcome, CommandError> {
        let content = content(name, &body);
        let token = Form::new(body, request.origin.now, None).parse(bodies::link)?;
        let token = token.expose_secret();
        let command_id = self.link_command(request, token);
        let unknown = Given::by_request(request, Uuid::nil(), command_id, &content);
        if let Some(outcome) = self.answered_by_link(&unknown).await? {
            return Ok(outcome);
        }
        let now = request.origin.now;
        let challenge = self.vault().check_link(purpose, token, now).await?;
        let given = Given {
            account: challenge.account,
            ..unknown
        };
        self.prove(&given, &challenge).await
    }

    /// The id of a command that is given with a link: whoever has the link gives it.
    pub fn link_command(&self, request: &CommandRequest, token: &str) -> CommandId {
        let principal = self.stores.keys.fingerprint(&[b"link", token.as_bytes()]);
        request.command_id(&self.stores.keys, &principal, Account::CATEGORY)
    }

    /// The answer to a retry of a command that was given with a link. Which account it is, only what is found tells.
    pub async fn answered_by_link(
        &self,
        given: &Given<'_>,
    ) -> Result<Option<Outcome>, CommandError> {
        if given.retryable
            && let Some(outcome) = self
                .accounts
                .recall_any(given.command_id, given.content, super::person_of)
                .await?
        {
            return Ok(Some(outcome));
        }
        self.finish_begun(given).await
    }

    async fn prove(
        &self,
        given: &Given<'_>,
        challenge: &Challenge,
    ) -> Result<Outcome, CommandError> {
        let (errand, work) = match challenge.purpose {
            Purpose::ChangeEmail => (self.change_to(challenge).await?, "confirm-email"),
            Purpose::VerifyEmail | Purpose::ResetPassword => (Errand::VerifyEmail, "verify"),
        };
        let intent = intent(errand.clone(), given)?;
        match self.vault().settle_claim(challenge, &intent).await? {
            Settled::Verified => {
                crash_point(work, "claim");
                self.finish(&intent, errand, given).await
            }
            Settled::Taken => Err(CommandError::EmailTaken),
            Settled::Used => Err(CommandError::ChallengeRefused),
        }
    }

    /// The change to the address that a challenge proves. Another may have been asked for since: that one is not proven.
    async fn change_to(&self, challenge: &Challenge) -> Result<Errand, CommandError> {
        let account = self.load(challenge.account).await?;
        let asked = account.state.requested_email.as_ref();
        if let (Some(sealed), Some(email)) = (asked, self.address(asked).await?)
            && challenge.subject == Some(self.stores.keys.claim_hash(&normalise_email(&email)))
        {
            return Ok(Errand::ChangeEmail {
                email: sealed.clone(),
                before: account.state.email.clone(),
            });
        }
        Err(CommandError::ChallengeRefused)
    }

    /// `…/change-email`: both addresses are told, the new one has to confirm.
    pub async fn change_email(
        &self,
        given: &Given<'_>,
        form: Form,
    ) -> Result<Outcome, CommandError> {
        let (email, password) = form.parse(bodies::change_email)?;
        self.check_password(given, password).await?;
        let command = Command::RequestEmailChange {
            email: Personal::Plain(email.clone()),
        };
        self.give_then(given, &command, Errand::AskToConfirm).await
    }

    /// Mails a code to the address that was asked for last, and tells the one before.
    pub async fn ask_to_confirm(&self, given: &Given<'_>) -> Result<(), CommandError> {
        let account = self.load(given.account).await?;
        let Some(email) = self.address(account.state.requested_email.as_ref()).await? else {
            return Ok(());
        };
        let origin = given.origin;
        let challenge = self
            .challenge(given.account, &email, Purpose::ChangeEmail, origin.now)
            .await?;
        let Some(content) = challenge else {
            return Ok(());
        };
        self.mail(given.account, &email, &content, origin).await?;
        crash_point("change-email", "mail");
        self.tell(&account, given, &Content::ChangeEmailNotice {})
            .await?;
        crash_point("change-email", "notice");
        Ok(())
    }
}
