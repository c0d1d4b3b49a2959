//! Waiting for the next change of a database of read models. It says that something may have changed, never what.

use async_recursion::async_recursion as boxed;
use std::time::Duration;

use tokio::sync::watch;

/// Tells of commits: of this process at once, of others by notification or after the database's longest pause.
#[derive(Debug)]
pub struct ChangeFeed {
    commits: watch::Receiver<u64>,
    longest_pause: Duration,
}

impl ChangeFeed {
    pub(crate) fn new(commits: &watch::Sender<u64>, longest_pause: Duration) -> Self {
        Self {
            commits: commits.subscribe(),
            longest_pause,
        }
    }

    /// Returns once checkpoints may have moved since the feed was taken or last returned, or after `patience`.
    #[boxed]
    pub async fn changed(&mut self, patience: Duration) {
        // An elapsed pause and an ended sender are both answered by looking at the checkpoints.
        if let Ok(Err(_)) =
            tokio::time::timeout(patience.min(self.longest_pause), self.commits.changed()).await
        {
            tokio::time::sleep(patience.min(self.longest_pause)).await;
        }
    }
}
