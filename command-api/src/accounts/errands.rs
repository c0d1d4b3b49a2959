//! What must be finished once it was begun, though a process dies in the middle: the vault keeps an intent until all of
//! it is done. Whoever began it does it at once; else the housekeeping of any process does it a little later.
//!
//! Every step may be repeated: events by their command's id, everything else by its nature.

use chrono::{DateTime, Utc};
use events::account::PasswordProof;
use events::api_key::RevokeReason;
use events::session::EndReason;
use events::{Actor, CommandId};
use mail::Content;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vault::{ERASED_AGAIN, Intent};

use super::operator::APPOINT;
use super::people::{Given, People, system_origin};
use super::{Account, Command, Status};
use crate::order::{Origin, Outcome};
use crate::{CommandError, Loaded};

/// What is to be finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "errand")]
pub(crate) enum Errand {
    /// The claim is verified: the account must say so.
    VerifyEmail,
    /// The claim moved to another address: the account must say so.
    ChangeEmail,
    /// The new password is in the vault: the account must say so, and forget the old one.
    SetPassword {
        credential_id: Uuid,
        proof: PasswordProof,
    },
    /// The account may do less, or needs to be asked again: its sessions end, but for the one that did it.
    EndSessions {
        reason: EndReason,
        revoke_keys: bool,
    },
    /// The account is closed: sessions and keys end.
    Close,
    /// The person is in the ledger: everything that remembers them goes.
    Erase,
}

/// The request that began it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Detail {
    #[serde(flatten)]
    errand: Errand,
    command_id: CommandId,
    /// Tells this command from another under the same id; holds nothing personal.
    content: String,
    actor: Actor,
    session: Option<Uuid>,
    correlation_id: Uuid,
    traceparent: Option<String>,
}

/// The intent to carry an errand out for an account.
pub(crate) fn intent(errand: Errand, given: &Given<'_>) -> Result<Intent, CommandError> {
    let origin = given.origin;
    let detail = Detail {
        errand,
        command_id: given.command_id,
        content: String::from_utf8_lossy(given.content).into_owned(),
        actor: origin.actor.clone(),
        session: origin.session,
        correlation_id: origin.correlation_id,
        traceparent: origin.traceparent.clone(),
    };
    let detail = serde_json::to_value(&detail).map_err(CommandError::fault)?;
    Ok(Intent::new("account", given.account, detail, origin.now))
}

impl People {
    /// Stores an errand, so that it will be finished, and carries it out.
    pub async fn run(&self, errand: Errand, given: &Given<'_>) -> Result<Outcome, CommandError> {
        let intent = intent(errand.clone(), given)?;
        self.vault().begin_intent(&intent).await?;
        self.finish(&intent, errand, given).await
    }

    /// Carries an errand out. The intent goes when all of it is done, or when the account refuses it for good.
    pub async fn finish(
        &self,
        intent: &Intent,
        errand: Errand,
        given: &Given<'_>,
    ) -> Result<Outcome, CommandError> {
        let done = self.carry_out(errand, given).await;
        let settled = match &done {
            Ok(_) | Err(CommandError::Refused { .. } | CommandError::Erased) => true,
            Err(_) => false,
        };
        if settled {
            self.vault().finish_intent(intent.id).await?;
        }
        done
    }

    /// Finishes what another process, or this one before it died, left behind.
    pub async fn resume(&self, intent: &Intent, now: DateTime<Utc>) -> Result<(), CommandError> {
        match intent.kind.as_str() {
            APPOINT => return self.drop_appointment(intent).await,
            ERASED_AGAIN => return self.erase_again(intent, now).await,
            _ => {}
        }
        let detail: Detail =
            serde_json::from_value(intent.detail.clone()).map_err(CommandError::fault)?;
        let origin = Origin {
            actor: detail.actor,
            session: detail.session,
            // It is not kept in clear.
            address: None,
            now,
            correlation_id: detail.correlation_id,
            traceparent: detail.traceparent,
        };
        let given = Given {
            account: intent.account,
            command_id: detail.command_id,
            retryable: true,
            content: detail.content.as_bytes(),
            if_match: None,
            origin: &origin,
            begun_at: intent.created_at,
        };
        let state = self.load(intent.account).await?;
        // These two begin with an event: without it nobody was told that anything happened, so nothing did.
        let begun = match &detail.errand {
            Errand::Close => state.state.status == Status::Closed,
            Errand::Erase => self.settings.ledger.holds(intent.account).await?,
            _ => true,
        };
        if !begun {
            return Ok(self.vault().finish_intent(intent.id).await?);
        }
        match self.finish(intent, detail.errand, &given).await {
            // It was settled: the account said no.
            Ok(_) | Err(CommandError::Refused { .. } | CommandError::Erased) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The claim of an operator whose account was not made after all is free again.
    async fn drop_appointment(&self, intent: &Intent) -> Result<(), CommandError> {
        if self.load(intent.account).await?.state.status == Status::Unknown {
            self.vault().release_claims(intent.account).await?;
        }
        Ok(self.vault().finish_intent(intent.id).await?)
    }

    /// The vault was restored and has forgotten the person again: so must the log, the sessions and the keys.
    async fn erase_again(&self, intent: &Intent, now: DateTime<Utc>) -> Result<(), CommandError> {
        let origin = system_origin(now);
        let given = Given {
            account: intent.account,
            command_id: CommandId(vault::random_uuid()),
            retryable: false,
            content: &[],
            if_match: None,
            origin: &origin,
            begun_at: intent.created_at,
        };
        self.erase_everything(&given).await?;
        Ok(self.vault().finish_intent(intent.id).await?)
    }

    async fn carry_out(&self, errand: Errand, given: &Given<'_>) -> Result<Outcome, CommandError> {
        match errand {
            Errand::VerifyEmail => self.settle_address(given, &Command::VerifyEmail).await,
            Errand::ChangeEmail => {
                let before = self.load(given.account).await?;
                let outcome = self.settle_address(given, &Command::ChangeEmail).await?;
                self.tell(&before, given, &Content::EmailChanged {}).await?;
                Ok(outcome)
            }
            Errand::SetPassword {
                credential_id,
                proof,
            } => self.set_password(given, credential_id, proof).await,
            Errand::EndSessions {
                reason,
                revoke_keys,
            } => {
                self.end_sessions(given, reason, given.origin.session)
                    .await?;
                if revoke_keys {
                    self.revoke_keys(given, RevokeReason::RoleRevoked).await?;
                }
                self.unchanged(given.account).await
            }
            Errand::Close => {
                let outcome = self.give(given, &Command::Close).await?;
                self.end_sessions(given, EndReason::AccountClosed, None)
                    .await?;
                self.revoke_keys(given, RevokeReason::AccountClosed).await?;
                Ok(outcome)
            }
            Errand::Erase => self.erase_everything(given).await,
        }
    }

    /// An address that was proven after its account had closed is free again.
    async fn settle_address(
        &self,
        given: &Given<'_>,
        command: &Command,
    ) -> Result<Outcome, CommandError> {
        let outcome = self.give(given, command).await;
        if let Err(CommandError::Refused { .. } | CommandError::Erased) = &outcome
            && !self.load(given.account).await?.state.status.is_open()
        {
            self.vault().release_claims(given.account).await?;
        }
        outcome
    }

    async fn set_password(
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
        let account = self.load(given.account).await?;
        if let Some(current) = account.state.credential_id {
            self.vault()
                .delete_credentials_but(given.account, current)
                .await?;
        }
        let keep = match proof {
            PasswordProof::Password => given.origin.session,
            PasswordProof::EmailLink => None,
        };
        self.end_sessions(given, EndReason::PasswordChanged, keep)
            .await?;
        self.tell(&account, given, &Content::PasswordChanged {})
            .await?;
        Ok(outcome)
    }

    /// Mails to the address that an account had.
    pub async fn tell(
        &self,
        account: &Loaded<Account>,
        given: &Given<'_>,
        content: &Content,
    ) -> Result<(), CommandError> {
        match self.address(account.state.email.as_ref()).await? {
            Some(to) => self.mail(given.account, &to, content, given.origin).await,
            None => Ok(()),
        }
    }
}
