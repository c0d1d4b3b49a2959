//! Accounts over HTTP: the general host, and what is theirs alone. `me` is the caller's own id, and closing ends sessions.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use uuid::Uuid;
use web::Caller;

use super::decider::Account;
use super::sessions;
use crate::CommandError;
use crate::executor::Executor;
use crate::host::{Host, TypedHost};
use crate::order::Outcome;
use crate::request::CommandRequest;
use crate::session::Session;

/// The host of accounts.
pub(crate) struct AccountHost {
    pub accounts: TypedHost<Account>,
    pub sessions: Arc<Executor<Session>>,
}

#[async_trait]
impl Host for AccountHost {
    fn collection(&self) -> &'static str {
        self.accounts.collection()
    }

    async fn begin(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        body: Map<String, Value>,
    ) -> Result<Outcome, CommandError> {
        self.accounts.begin(request, caller, body).await
    }

    async fn act(
        &self,
        request: &CommandRequest,
        caller: &Caller,
        id: &str,
        command: &str,
        body: Map<String, Value>,
    ) -> Result<Outcome, CommandError> {
        let own = caller.account.to_string();
        let id = if id == "me" { &own } else { id };
        let outcome = self
            .accounts
            .act(request, caller, id, command, body)
            .await?;
        if let ("close", Ok(account)) = (command, id.parse::<Uuid>()) {
            sessions::end_all(&self.sessions, &request.origin, account).await?;
        }
        Ok(outcome)
    }
}
