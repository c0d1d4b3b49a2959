//! What must be finished once it was begun, though a process dies in the middle: the vault keeps an intent until all of
//! it is done. Whoever began it does it at once; else the housekeeping of any process does it a little later.
//!
//! Every step may be repeated: events by their command's id, everything else by its nature.

use chrono::{DateTime, Utc};
use events::account::PasswordProof;
use events::api_key::RevokeReason;
use events::session::EndReason;
use events::{Actor, CommandId, Personal};
use mail::Content;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vault::{ERASED_AGAIN, Intent};

use super::operator::APPOINT;
use super::people::{Given, People, system_origin};
use super::{Command, Status};
use crate::CommandError;
use crate::drill::crash_point;
use crate::order::{Origin, Outcome};

/// What is to be finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "errand")]
pub(crate) enum Errand {
    /// Somebody registered: they get a code.
    AskToVerify,
    /// Another address was asked for: both get a mail.
    AskToConfirm,
    /// The password was forgotten: the holder gets a link.
    SendResetLink,
    /// The claim is verified: the account must say so.
    VerifyEmail,
    /// The claim moved to another address: the account must say so.
    ChangeEmail {
        email: Personal<String>,
        /// The one before, which is told.
        before: Option<Personal<String>>,
    },
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

impl Errand {
    /// Whether it follows an event: without that nobody was told that anything happened, so nothing did.
    fn follows_an_event(&self) -> bool {
        match self {
            Self::AskToVerify | Self::AskToConfirm | Self::SendResetLink | Self::Close => true,
            Self::EndSessions { reason, .. } => *reason != EndReason::Ended,
            Self::VerifyEmail
            | Self::ChangeEmail { .. }
            | Self::SetPassword { .. }
            | Self::Erase => false,
        }
    }

    /// What it is part of, for crash drills; empty where none are held.
    fn work(&self) -> &'static str {
        match self {
            Self::AskToVerify => "register",
            Self::AskToConfirm => "change-email",
            Self::SendResetLink => "forgot-password",
            Self::VerifyEmail => "verify",
            Self::ChangeEmail { .. } => "confirm-email",
            Self::SetPassword {
                proof: PasswordProof::EmailLink,
                ..
            } => "reset-password",
            Self::Close => "close",
            Self::Erase => "erase",
            Self::SetPassword { .. } | Self::EndSessions { .. } => "",
        }
    }
}

/// The intent to carry an errand out for an account. A retry of the command has the same.
pub(crate) fn intent(errand: Errand, given: &Given<'_>) -> Result<Intent, CommandError> {
    let origin = given.origin;
    let content = match errand {
        // A registration's is personal, and these append nothing that needs it.
        Errand::AskToVerify | Errand::AskToConfirm | Errand::SendResetLink => String::new(),
        _ => String::from_utf8_lossy(given.content).into_owned(),
    };
    let detail = Detail {
        errand,
        command_id: given.command_id,
        content,
        actor: origin.actor.clone(),
        session: origin.session,
        correlation_id: origin.correlation_id,
        traceparent: origin.traceparent.clone(),
    };
    let detail = serde_json::to_value(&detail).map_err(CommandError::fault)?;
    Ok(Intent {
        id: intent_id(given.command_id),
        ..Intent::new("account", given.account, detail, origin.now)
    })
}

fn intent_id(command_id: CommandId) -> Uuid {
    command_id.derive("intent")
}

impl People {
    /// Stores an errand, so that it will be finished, and carries it out.
    pub async fn run(&self, errand: Errand, given: &Given<'_>) -> Result<Outcome, CommandError> {
        let intent = self.begin(&errand, given).await?;
        self.finish(&intent, errand, given).await
    }

    /// Stores an errand, so that it will be finished. A retry gets the one that was stored first.
    pub async fn begin(&self, errand: &Errand, given: &Given<'_>) -> Result<Intent, CommandError> {
        let intent = intent(errand.clone(), given)?;
        let new = self.vault().begin_intent(&intent).await?;
        crash_point(errand.work(), "intent");
        if new {
            return Ok(intent);
        }
        Ok(self.vault().intent(intent.id).await?.unwrap_or(intent))
    }

    /// Gives an account a command that an errand must follow, once, though a process dies in between.
    pub async fn give_then(
        &self,
        given: &Given<'_>,
        command: &Command,
        errand: Errand,
    ) -> Result<Outcome, CommandError> {
        let intent = intent(errand.clone(), given)?;
        // The same command at the same time would find the event, and take what follows it for left behind.
        let _in_flight = self
            .in_flight
            .enter(CommandId(intent.id))
            .ok_or(CommandError::InFlight)?;
        let new = self.vault().begin_intent(&intent).await?;
        crash_point(errand.work(), "intent");
        let outcome = self.give(given, command).await;
        crash_point(errand.work(), "event");
        let done_before = match &outcome {
            Ok(outcome) => new && outcome.appended.as_ref().is_none_or(|done| done.repeated),
            Err(CommandError::Refused { .. } | CommandError::Erased) => true,
            Err(_) => return outcome,
        };
        if done_before {
            self.vault().finish_intent(intent.id).await?;
        } else {
            self.finish(&intent, errand, given).await?;
        }
        outcome
    }

    /// Finishes what the same command began before, where a process died in between, and gives its answer.
    pub async fn finish_begun(&self, given: &Given<'_>) -> Result<Option<Outcome>, CommandError> {
        if !given.retryable {
            return Ok(None);
        }
        let Some(intent) = self.vault().intent(intent_id(given.command_id)).await? else {
            return Ok(None);
        };
        let detail: Detail =
            serde_json::from_value(intent.detail.clone()).map_err(CommandError::fault)?;
        if detail.content.as_bytes() != given.content {
            return Err(CommandError::KeyReused);
        }
        let given = Given {
            account: intent.account,
            ..given.clone()
        };
        self.finish(&intent, detail.errand, &given).await.map(Some)
    }

    /// Carries an errand out. The intent goes when all of it is done, or when the account refuses it for good.
    pub async fn finish(
        &self,
        intent: &Intent,
        errand: Errand,
        given: &Given<'_>,
    ) -> Result<Outcome, CommandError> {
        let work = errand.work();
        // What ended since it was begun first is told to the log, too.
        let given = &Given {
            begun_at: intent.created_at,
            ..given.clone()
        };
        let done = self.carry_out(errand, given).await;
        let settled = match &done {
            Ok(_) | Err(CommandError::Refused { .. } | CommandError::Erased) => true,
            Err(_) => false,
        };
        if settled {
            self.vault().finish_intent(intent.id).await?;
            if work == "erase" {
                crash_point(work, "intent-done");
            }
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
        // A retry of the command may be finishing it, or have finished it since it was handed out.
        let Some(_in_flight) = self.in_flight.enter(CommandId(intent.id)) else {
            return Ok(());
        };
        if self.vault().intent(intent.id).await?.is_none() {
            return Ok(());
        }
        let begun = match &detail.errand {
            Errand::Erase => self.settings.ledger.holds(intent.account).await?,
            errand if errand.follows_an_event() => {
                let found = self.stores.log.find_command(detail.command_id).await?;
                found.is_some()
            }
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
            begun_at: intent.created_at,
            ..Given::once(intent.account, &origin)
        };
        self.erase_everything(&given).await?;
        let keys: Vec<Uuid> =
            serde_json::from_value(intent.detail.clone()).map_err(CommandError::fault)?;
        for key in keys {
            self.revoke_key(&origin, key, intent.account, RevokeReason::AccountErased)
                .await?;
        }
        Ok(self.vault().finish_intent(intent.id).await?)
    }

    async fn carry_out(&self, errand: Errand, given: &Given<'_>) -> Result<Outcome, CommandError> {
        match errand {
            Errand::AskToVerify => {
                let account = self.load(given.account).await?;
                if account.state.status == Status::Pending
                    && let Some(email) = self.address(account.state.email.as_ref()).await?
                {
                    self.ask_to_verify(given.account, &email, given.origin)
                        .await?;
                }
                self.unchanged(given.account).await
            }
            Errand::AskToConfirm => {
                self.ask_to_confirm(given).await?;
                self.unchanged(given.account).await
            }
            Errand::SendResetLink => {
                self.send_reset_link(given).await?;
                self.unchanged(given.account).await
            }
            Errand::VerifyEmail => {
                let outcome = self.settle_address(given, &Command::VerifyEmail).await?;
                crash_point("verify", "event");
                Ok(outcome)
            }
            Errand::ChangeEmail { email, before } => {
                let change = Command::ChangeEmail { email };
                let outcome = self.settle_address(given, &change).await?;
                crash_point("confirm-email", "event");
                if let Some(to) = self.address(before.as_ref()).await? {
                    let content = Content::EmailChanged {};
                    self.mail(given.account, &to, &content, given.origin)
                        .await?;
                }
                crash_point("confirm-email", "notice");
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
                crash_point("close", "event");
                self.end_sessions(given, EndReason::AccountClosed, None)
                    .await?;
                crash_point("close", "sessions");
                self.revoke_keys(given, RevokeReason::AccountClosed).await?;
                crash_point("close", "keys");
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
}
