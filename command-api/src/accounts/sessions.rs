//! What happens to sessions from within: nobody commands them over HTTP.

use events::CommandId;
use events::session::EndReason;
use uuid::Uuid;

use super::stream_of;
use crate::session::{self, Session};
use crate::{CommandError, Executor, Order, Origin, Outcome};

/// Ends every session of an account, in the vault first: a session that can't be refreshed is as good as ended.
pub(super) async fn end_all(
    sessions: &Executor<Session>,
    origin: &Origin,
    account: Uuid,
) -> Result<(), CommandError> {
    let vault = &sessions.stores().vault;
    for session in vault.end_sessions(account, None, origin.now).await? {
        let end = session::Command::End {
            account_id: account,
            reason: EndReason::AccountClosed,
        };
        drive(sessions, origin, session, account, &end).await?;
    }
    Ok(())
}

/// Gives a session a command of our own.
pub(super) async fn drive(
    sessions: &Executor<Session>,
    origin: &Origin,
    session: Uuid,
    account: Uuid,
    command: &session::Command,
) -> Result<Outcome, CommandError> {
    sessions
        .execute(Order {
            stream: &stream_of::<Session>(session)?,
            person: Some(account),
            command,
            command_id: CommandId(vault::random_uuid()),
            retryable: false,
            content: &[],
            if_match: None,
            origin,
        })
        .await
}
