//! What all that is done for people shares: their accounts, sessions and API keys, the vault, and mail.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use events::{Actor, CommandId, StreamId};
use mail::Content;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;
use vault::{Enqueued, ErasureLedger, Opened, Vault};

use super::throttle::Turns;
use super::{Account, Command, stream_of};
use crate::api_key::ApiKey;
use crate::order::{Order, Origin, Outcome};
use crate::policy::Role;
use crate::request::CommandRequest;
use crate::session::Session;
use crate::{CommandError, Executor, InFlight, Loaded, Stores};

/// How an installation treats accounts.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Who was erased; a database of its own.
    pub ledger: ErasureLedger,
    /// Where links in mails lead: the application that people use.
    pub app_url: String,
    /// What the application calls itself in mails.
    pub app_name: String,
    /// Roles beside those that are built in.
    pub roles: Vec<Role>,
}

/// Accounts and what belongs to them.
pub(crate) struct People {
    pub stores: Stores,
    pub accounts: Arc<Executor<Account>>,
    pub sessions: Arc<Executor<Session>>,
    pub api_keys: Arc<Executor<ApiKey>>,
    pub settings: AccountSettings,
    /// The commands this process is carrying out.
    pub in_flight: Arc<InFlight>,
    /// Streams of other aggregates may hold what is personal too: their categories.
    pub categories: Vec<&'static str>,
    /// Wakes who sends mail.
    pub mail_waits: Arc<Notify>,
    /// Whose turn it is to show a password or a code.
    pub turns: Turns,
}

/// A command to one account, in what all of them share.
#[derive(Debug, Clone)]
pub(crate) struct Given<'a> {
    pub account: Uuid,
    pub command_id: CommandId,
    pub retryable: bool,
    pub content: &'a [u8],
    pub if_match: Option<events::Version>,
    pub origin: &'a Origin,
    /// When it was given first: a process that finishes it does so later.
    pub begun_at: DateTime<Utc>,
}

impl<'a> Given<'a> {
    /// A command that came with a request.
    pub fn by_request(
        request: &'a CommandRequest,
        account: Uuid,
        command_id: CommandId,
        content: &'a [u8],
    ) -> Self {
        Self {
            account,
            command_id,
            retryable: request.idempotency_key.is_some(),
            content,
            if_match: None,
            origin: &request.origin,
            begun_at: request.origin.now,
        }
    }

    /// A command that nobody sends again.
    pub fn once(account: Uuid, origin: &'a Origin) -> Self {
        Self {
            account,
            command_id: CommandId(vault::random_uuid()),
            retryable: false,
            content: &[],
            if_match: None,
            origin,
            begun_at: origin.now,
        }
    }
}

impl People {
    pub fn vault(&self) -> &Vault {
        &self.stores.vault
    }

    /// An account as it stands in the log now.
    pub async fn load(&self, account: Uuid) -> Result<Arc<Loaded<Account>>, CommandError> {
        self.accounts.load(&stream_of::<Account>(account)?).await
    }

    /// Gives an account a command.
    pub async fn give(
        &self,
        given: &Given<'_>,
        command: &Command,
    ) -> Result<Outcome, CommandError> {
        // Erasing is written without the person's key, so that it can be finished when the key is gone.
        let person = (*command != Command::Erase).then_some(given.account);
        self.accounts
            .execute(Order {
                stream: &stream_of::<Account>(given.account)?,
                person,
                command,
                command_id: given.command_id,
                retryable: given.retryable,
                content: given.content,
                if_match: given.if_match,
                origin: given.origin,
            })
            .await
    }

    /// Notes something in an account's stream that nobody asked for. Tells whether the account took it.
    pub async fn note(
        &self,
        account: Uuid,
        command: &Command,
        origin: &Origin,
    ) -> Result<bool, CommandError> {
        match self.give(&Given::once(account, origin), command).await {
            Ok(_) => Ok(true),
            Err(CommandError::Refused { .. } | CommandError::Erased) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The first answer to a command that was carried out before.
    pub async fn first_answer(&self, given: &Given<'_>) -> Result<Option<Outcome>, CommandError> {
        if !given.retryable {
            return Ok(None);
        }
        self.accounts
            .recall_first(Some(given.account), given.command_id, given.content)
            .await
    }

    /// The answer to a retry: what was begun before is finished first.
    pub async fn answered(&self, given: &Given<'_>) -> Result<Option<Outcome>, CommandError> {
        match self.finish_begun(given).await? {
            Some(outcome) => Ok(Some(outcome)),
            None => self.first_answer(given).await,
        }
    }

    /// Nothing was appended: the answer is how the account stands.
    pub async fn unchanged(&self, account: Uuid) -> Result<Outcome, CommandError> {
        let stream: StreamId = stream_of::<Account>(account)?;
        let version = self.accounts.load(&stream).await?.version;
        Ok(Outcome {
            stream,
            version,
            appended: None,
            event_types: Vec::new(),
        })
    }

    /// The address in clear; `None` when there is none, or the person was erased.
    pub async fn address(
        &self,
        email: Option<&events::Personal<String>>,
    ) -> Result<Option<String>, CommandError> {
        match email {
            Some(events::Personal::Plain(text)) => Ok(Some(text.clone())),
            Some(events::Personal::Sealed(sealed)) => {
                let opened = self
                    .vault()
                    .open_many(std::slice::from_ref(sealed))
                    .await?
                    .pop();
                Ok(match opened {
                    Some(Opened::Plain(serde_json::Value::String(text))) => Some(text),
                    _ => None,
                })
            }
            None => Ok(None),
        }
    }

    /// Lets a mail be sent, soon and surely. One too many is left out: nobody's mailbox is flooded.
    pub async fn mail(
        &self,
        account: Uuid,
        to: &str,
        content: &Content,
        origin: &Origin,
    ) -> Result<(), CommandError> {
        let job = json!({ "to": to, "content": content });
        let enqueued = self.vault().enqueue_mail(account, &job, origin.now).await?;
        if enqueued == Enqueued::Full {
            tracing::warn!(%account, kind = content.kind(), "too many mails wait for this account; one is left out");
        }
        self.mail_waits.notify_one();
        Ok(())
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

    /// The scopes that roles give.
    pub fn scopes<'r>(&self, held: impl IntoIterator<Item = &'r String>) -> Vec<String> {
        let held: Vec<&String> = held.into_iter().collect();
        let mut scopes: Vec<String> = self
            .settings
            .roles
            .iter()
            .filter(|role| held.contains(&&role.name))
            .flat_map(|role| role.scopes.iter().cloned())
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        scopes
    }
}

/// Showcaller itself, by the clock.
pub(super) fn system_origin(now: DateTime<Utc>) -> Origin {
    Origin {
        actor: Actor::System("housekeeping".into()),
        session: None,
        address: None,
        now,
        correlation_id: vault::random_uuid(),
        traceparent: None,
    }
}
