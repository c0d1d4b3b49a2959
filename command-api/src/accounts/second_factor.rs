//! The second factor: codes of a device (TOTP), and recovery codes for when it is lost. The vault counts and checks; the
//! log says when it was switched on and off.

use chrono::{DateTime, TimeDelta, Utc};
use events::session::EndReason;
use mail::Content;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;
use vault::{EnrollError, Factor};

use super::errands::Errand;
use super::people::{Given, People};
use super::{Account, Command, bodies};
use crate::form::Form;
use crate::host::Answered;
use crate::order::Outcome;
use crate::{CommandError, Decider};

/// How long the event of a confirmed second factor may take.
const ON_ITS_WAY: TimeDelta = TimeDelta::minutes(1);

impl People {
    /// `…/enroll-totp`: a new secret for the device. Nothing changes before a code of it is shown.
    pub async fn enroll_totp(
        &self,
        given: &Given<'_>,
        form: Form,
    ) -> Result<Answered, CommandError> {
        let password = form.parse(bodies::password)?;
        self.check_password(given, password).await?;
        let account = self.load(given.account).await?;
        account
            .state
            .decide(&Command::EnableSecondFactor)
            .map_err(CommandError::refused::<Account>)?;
        // The vault may have a confirmed one that the log does not know of, when a process died in between; a young one's
        // event may still be on its way.
        self.vault()
            .drop_second_factor_of_before(given.account, given.origin.now - ON_ITS_WAY)
            .await?;
        let secret = match self.vault().enroll_totp(given.account).await {
            Ok(secret) => secret,
            Err(EnrollError::Key(error)) => return Err(error.into()),
            Err(EnrollError::Already) => return Err(CommandError::Conflict),
        };
        let secret = secret.expose_secret();
        let label = self.address(account.state.email.as_ref()).await?;
        let uri = otpauth(
            &self.settings.app_name,
            label.as_deref().unwrap_or("account"),
            secret,
        );
        let shown = json!({ "secret": secret, "otpauth_uri": uri });
        Ok(Answered::showing(
            self.unchanged(given.account).await?,
            shown,
        ))
    }

    /// `…/confirm-totp`: the first code switches it on, and brings the recovery codes.
    pub async fn confirm_totp(
        &self,
        given: &Given<'_>,
        form: Form,
    ) -> Result<Answered, CommandError> {
        let code = form.parse(bodies::code)?;
        self.load(given.account)
            .await?
            .state
            .decide(&Command::EnableSecondFactor)
            .map_err(CommandError::refused::<Account>)?;
        let codes = self
            .vault()
            .confirm_totp(given.account, code.expose_secret(), given.origin.now)
            .await?
            .ok_or(CommandError::ChallengeRefused)?;
        let outcome = self
            .factor_changed(given, &Command::EnableSecondFactor, true)
            .await?;
        Ok(Answered::showing(outcome, recovery_codes(&codes)))
    }

    /// `…/remove-totp`, with a code of it.
    pub async fn remove_totp(
        &self,
        given: &Given<'_>,
        form: Form,
    ) -> Result<Outcome, CommandError> {
        let code = form.parse(bodies::code)?;
        if let Some(outcome) = self.first_answer(given).await? {
            return Ok(outcome);
        }
        self.check_factor(given, &code).await?;
        let outcome = self
            .factor_changed(given, &Command::DisableSecondFactor, false)
            .await?;
        self.vault().remove_second_factor(given.account).await?;
        Ok(outcome)
    }

    /// `…/replace-recovery-codes`, with a code of the device.
    pub async fn replace_recovery_codes(
        &self,
        given: &Given<'_>,
        form: Form,
    ) -> Result<Answered, CommandError> {
        let code = form.parse(bodies::code)?;
        self.check_factor(given, &code).await?;
        let codes = self
            .vault()
            .new_recovery_codes(given.account)
            .await?
            .ok_or(CommandError::ChallengeRefused)?;
        let outcome = self.give(given, &Command::ReplaceRecoveryCodes).await?;
        Ok(Answered::showing(outcome, recovery_codes(&codes)))
    }

    async fn check_factor(
        &self,
        given: &Given<'_>,
        code: &SecretString,
    ) -> Result<(), CommandError> {
        let check = Box::pin(async {
            let factor = self.factor(given.account, code, given.origin.now).await?;
            Ok(matches!(factor, Factor::Totp | Factor::RecoveryCode { .. }))
        });
        let right = self.guarded(given, check).await?;
        right.then_some(()).ok_or(CommandError::ChallengeRefused)
    }

    /// What a code of the second factor comes to.
    pub async fn factor(
        &self,
        account: Uuid,
        code: &SecretString,
        now: DateTime<Utc>,
    ) -> Result<Factor, CommandError> {
        Ok(self
            .vault()
            .check_second_factor(account, code.expose_secret(), now)
            .await?)
    }

    /// The other sessions began under other terms: they end.
    async fn factor_changed(
        &self,
        given: &Given<'_>,
        command: &Command,
        on: bool,
    ) -> Result<Outcome, CommandError> {
        let errand = Errand::EndSessions {
            reason: EndReason::SecondFactorChanged,
            revoke_keys: false,
        };
        let outcome = self.give_then(given, command, errand).await?;
        let account = self.load(given.account).await?;
        self.tell(&account, given, &Content::SecondFactorChanged { on })
            .await?;
        Ok(outcome)
    }
}

/// What authenticator applications read, mostly as a QR code.
pub fn otpauth(app: &str, label: &str, secret: &str) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let app = utf8_percent_encode(app, NON_ALPHANUMERIC);
    let label = utf8_percent_encode(label, NON_ALPHANUMERIC);
    format!(
        "otpauth://totp/{app}:{label}?secret={secret}&issuer={app}&algorithm=SHA1&digits=6&period=30"
    )
}

fn recovery_codes(codes: &[SecretString]) -> Value {
    let codes: Vec<&str> = codes.iter().map(ExposeSecret::expose_secret).collect();
    json!({ "recovery_codes": codes })
}
