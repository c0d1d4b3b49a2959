//! The end of every wait for a database. A server that is gone without a word ends no statement by itself; this does, later
//! than the server would.

use std::time::Duration;

use crate::Error;

/// The longest a database may take for one call.
const ANSWER: Duration = Duration::from_secs(75);

/// Ends the wait for one that does not answer any more.
pub(crate) async fn within<T, E: From<Error>>(
    who: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(ANSWER, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unavailable(format!("{who} did not answer within {ANSWER:?}")).into()),
    }
}
