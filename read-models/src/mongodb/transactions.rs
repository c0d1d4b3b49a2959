//! Transactions: what each is for, and beginning again while others are in the way. It refuses to wait without an end.

use std::time::Duration;

use mongodb::options::{Acknowledgment, ReadConcern, WriteConcern};
use mongodb::{ClientSession, Database};

use super::connect::majority;
use super::faults::{Ended, ended};
use crate::Error;

/// How often a transaction that got into another one's way begins again.
const ATTEMPTS: u32 = 40;
/// The pauses between: doubled from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// What a transaction is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Rows and their checkpoint.
    Rows,
    /// Generations.
    Books,
    /// Reading what belongs together.
    Reading,
}

/// Transactions of one call, begun again while others are in the way.
#[derive(Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Commits or takes back. `None`: begin again.
    pub(super) async fn end<T, E: From<Error>>(
        &mut self,
        mut session: ClientSession,
        done: Result<T, Ended<E>>,
    ) -> Result<Option<T>, E> {
        let done = match done {
            Ok(value) => session
                .commit_transaction()
                .await
                .map(|()| value)
                .map_err(ended),
            Err(reason) => {
                // One that the server has ended already cannot be taken back again.
                _ = session.abort_transaction().await;
                Err(reason)
            }
        };
        match done {
            Ok(value) => Ok(Some(value)),
            Err(Ended::Conflict(_)) if self.0 < ATTEMPTS => {
                let pause = FIRST_PAUSE.saturating_mul(1 << self.0.min(16));
                self.0 += 1;
                tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                Ok(None)
            }
            Err(reason) => Err(reason.into_inner()),
        }
    }
}

/// Does this in a transaction, again and again while others are in the way, and gives what came of it.
macro_rules! transaction {
    ($database:expr, $purpose:expr, $session:ident => $work:expr) => {{
        let mut attempts = crate::mongodb::transactions::Attempts::default();
        loop {
            let mut session = crate::mongodb::transactions::begin(&$database, $purpose).await?;
            let $session = &mut session;
            let done = $work.await;
            if let Some(value) = attempts.end(session, done).await? {
                break value;
            }
        }
    }};
}
pub(super) use transaction;

/// Begins one.
pub(super) async fn begin(database: &Database, purpose: Purpose) -> Result<ClientSession, Error> {
    let mut session = database.client().start_session().await?;
    let (read, write) = match purpose {
        Purpose::Rows => (
            ReadConcern::local(),
            WriteConcern::builder().w(Acknowledgment::Nodes(1)).build(),
        ),
        Purpose::Books => (ReadConcern::snapshot(), majority()),
        Purpose::Reading => (
            ReadConcern::snapshot(),
            WriteConcern::builder().w(Acknowledgment::Nodes(1)).build(),
        ),
    };
    session
        .start_transaction()
        .read_concern(read)
        .write_concern(write)
        .await?;
    Ok(session)
}
