//! Sessions from within: how they end, in the vault first (a session that can't be refreshed is as good as ended), then in
//! the log.

use events::CommandId;
use events::api_key::RevokeReason;
use events::session::EndReason;
use uuid::Uuid;
use vault::KeyError;

use super::people::{Given, People};
use super::stream_of;
use crate::api_key::{self, ApiKey};
use crate::drill::crash_point;
use crate::order::{Order, Origin, Outcome};
use crate::policy;
use crate::session::{self, Session};
use crate::{CommandError, Executor};

impl People {
    /// Ends every session of an account but one. Those that the vault ended before, and the log does not know of, too.
    pub async fn end_sessions(
        &self,
        given: &Given<'_>,
        reason: EndReason,
        keep: Option<Uuid>,
    ) -> Result<(), CommandError> {
        let (vault, origin) = (self.vault(), given.origin);
        vault.end_sessions(given.account, keep, origin.now).await?;
        match reason {
            EndReason::AccountClosed => crash_point("close", "sessions-in-vault"),
            EndReason::AccountErased => crash_point("erase", "sessions-in-vault"),
            EndReason::PasswordChanged => crash_point("reset-password", "sessions-in-vault"),
            _ => {}
        }
        for session in vault.sessions_ended(given.account, given.begun_at).await? {
            let end = session::Command::End {
                account_id: given.account,
                reason,
            };
            self.drive_session(origin, session, given.account, &end)
                .await?;
        }
        Ok(())
    }

    /// Revokes the keys of an account that allow what the account itself may not do (any more): all of them, where it
    /// may do nothing any more.
    pub async fn revoke_keys(
        &self,
        given: &Given<'_>,
        reason: RevokeReason,
    ) -> Result<(), CommandError> {
        let allowed = match reason {
            RevokeReason::RoleRevoked => {
                let account = self.load(given.account).await?;
                let mut allowed = self.scopes(&account.state.roles);
                allowed.extend([policy::SELF_READ, policy::SELF_WRITE].map(str::to_owned));
                allowed
            }
            _ => Vec::new(),
        };
        for key in self.vault().api_keys(given.account).await? {
            let within = !allowed.is_empty() && key.scopes.iter().all(|s| allowed.contains(s));
            if within {
                continue;
            }
            match self
                .revoke_key(given.origin, key.id, given.account, reason)
                .await
            {
                // A log that was restored may not know the key: the vault has revoked it, and the rest must be done.
                Ok(_) | Err(CommandError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Revokes one key, in the vault first.
    pub async fn revoke_key(
        &self,
        origin: &Origin,
        key: Uuid,
        account: Uuid,
        reason: RevokeReason,
    ) -> Result<Outcome, CommandError> {
        self.vault().revoke_api_key(key, origin.now).await?;
        self.drive::<ApiKey>(
            &self.api_keys,
            origin,
            key,
            account,
            &api_key::Command::Revoke { reason },
        )
        .await
    }

    /// Gives a session a command of our own.
    pub async fn drive_session(
        &self,
        origin: &Origin,
        session: Uuid,
        account: Uuid,
        command: &session::Command,
    ) -> Result<Outcome, CommandError> {
        self.drive::<Session>(&self.sessions, origin, session, account, command)
            .await
    }

    async fn drive<A: crate::Aggregate>(
        &self,
        executor: &Executor<A>,
        origin: &Origin,
        id: Uuid,
        account: Uuid,
        command: &A::Command,
    ) -> Result<Outcome, CommandError> {
        // What ends for an erased person is written without their key.
        let person = match self.vault().data_key(account).await {
            Err(KeyError::Erased) => None,
            _ => Some(account),
        };
        executor
            .execute(Order {
                stream: &stream_of::<A>(id)?,
                person,
                command,
                command_id: CommandId(vault::random_uuid()),
                retryable: false,
                content: &[],
                if_match: None,
                origin,
            })
            .await
    }
}
