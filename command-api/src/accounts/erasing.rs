//! Forgetting a person: first in the ledger, which no restore of the other stores touches; then in the log; then sessions
//! and keys end; last their data key goes, and with it everything that was ever encrypted under it, wherever it stands.

use chrono::{DateTime, Utc};
use events::api_key::RevokeReason;
use events::session::EndReason;
use mail::{Content, Mailer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::errands::Errand;
use super::people::{Given, People};
use super::{Command, Status, bodies};
use crate::CommandError;
use crate::drill::crash_point;
use crate::form::Form;
use crate::host::Answered;
use crate::order::Outcome;

/// How many unverified accounts are looked for at once.
const STALE_PAGE: u32 = 100;

impl People {
    /// `…/erase`: the owner brings the password, an operator a reason to be asked elsewhere. The answer is the receipt.
    pub async fn erase(
        &self,
        given: &Given<'_>,
        form: Form,
        by_owner: bool,
        mailer: Option<&Mailer>,
    ) -> Result<Answered, CommandError> {
        let password = form.parse(|form| bodies::erase(form, by_owner))?;
        let account = self.load(given.account).await?;
        if account.state.status == Status::Unknown {
            return Err(CommandError::refused::<super::Account>(
                super::Refusal::Unknown,
            ));
        }
        let begun = if given.retryable {
            let (id, content) = (given.command_id, given.content);
            self.accounts.recall_first(None, id, content).await?
        } else {
            None
        };
        if account.state.status == Status::Erased && begun.is_none() {
            return Err(CommandError::Erased);
        }
        if by_owner && begun.is_none() {
            let password = password.ok_or(CommandError::InvalidCredentials)?;
            self.check_password(given, password).await?;
        }
        if let Some(seen) = given.if_match
            && begun.is_none()
            && seen != account.version
        {
            return Err(CommandError::Stale {
                seen,
                actual: account.version,
            });
        }
        let address = self.address(account.state.email.as_ref()).await?;
        let outcome = self.forget(given).await?;
        let receipt = outcome.appended.as_ref().map_or_else(
            || given.account.to_string(),
            |done| done.position.to_string(),
        );
        // The outbox keeps nothing of an erased person: this one mail is sent at once, or not at all.
        if let (Some(mailer), Some(to)) = (mailer, address) {
            let content = Content::AccountErased {
                receipt: receipt.clone(),
            };
            let letter = content.letter(&to, &self.settings.app_name);
            let id = given.command_id.derive("receipt");
            if let Err(error) = mailer.send(&letter, id, given.origin.now).await {
                tracing::warn!(%error, "a receipt of an erasure was not mailed");
            }
        }
        let receipt = receipt_of(given.account, &receipt, given.origin.now);
        Ok(Answered::showing(outcome, receipt))
    }

    async fn forget(&self, given: &Given<'_>) -> Result<Outcome, CommandError> {
        let intent = self.begin(&Errand::Erase, given).await?;
        self.settings
            .ledger
            .record(given.account, given.origin.now)
            .await?;
        crash_point("erase", "ledger");
        self.finish(&intent, Errand::Erase, given).await
    }

    /// What an entry in the ledger means.
    pub async fn erase_everything(&self, given: &Given<'_>) -> Result<Outcome, CommandError> {
        let outcome = match self.load(given.account).await?.state.status {
            // Nothing but the ledger knows of them: a log that was restored from before they came.
            Status::Unknown => self.unchanged(given.account).await?,
            _ => self.give(given, &Command::Erase).await?,
        };
        crash_point("erase", "event");
        self.end_sessions(given, EndReason::AccountErased, None)
            .await?;
        crash_point("erase", "sessions");
        self.revoke_keys(given, RevokeReason::AccountErased).await?;
        crash_point("erase", "keys");
        self.vault()
            .erase_person(given.account, given.origin.now)
            .await?;
        crash_point("erase", "vault");
        Ok(outcome)
    }

    /// Forgets people who registered and did not prove their address in time.
    pub async fn erase_unverified(
        &self,
        before: DateTime<Utc>,
        origin: &crate::Origin,
    ) -> Result<(), CommandError> {
        for account in self.vault().unverified_since(before, STALE_PAGE).await? {
            let state = self.load(account).await?;
            if state.state.status != Status::Pending {
                // A claim without an account, or of one that closed before it verified: it only takes up room.
                self.vault().release_claims(account).await?;
                continue;
            }
            let given = Given {
                content: b"erase-unverified",
                ..Given::once(account, origin)
            };
            self.forget(&given).await?;
        }
        Ok(())
    }
}

/// What was destroyed, and what outlives it: the person may keep it.
fn receipt_of(account: Uuid, receipt: &str, now: DateTime<Utc>) -> Value {
    json!({
        "receipt": {
            "number": receipt,
            "account_id": account,
            "erased_at": now,
            "destroyed": [
                "the key of everything personal in the event log, the read models, queues, parked events, snapshots, caches and backups",
                "the password's hash, the second factor and its recovery codes",
                "the claim on the e-mail address, open codes and links, mail that waited",
                "sessions (ended) and API keys (revoked)",
            ],
            "outlives": [
                "events without what was personal in them: that something happened, when, and in which order",
                "this account's random id in the erasure ledger, so that no restored backup brings the person back",
                "ciphertext that nobody can open; copies of the vault made before the erasure, its database's write-ahead log included, until they expire: the key is in them",
                "mail that was sent",
            ],
        }
    })
}
