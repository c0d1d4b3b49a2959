//! Hearing of commits by LISTEN, on a connection of its own. What it misses, the feed's longest pause makes up for.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(super) const CHANNEL: &str = "showcaller_read_models";
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The pause after the listening connection failed.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct Listener(JoinHandle<()>);

impl Listener {
    pub(super) fn start(options: PgConnectOptions, commits: Arc<watch::Sender<u64>>) -> Self {
        Self(tokio::spawn(listen(options, commits)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hears of commits until it is aborted. A connection that was lost may have missed some, so its end counts as one.
async fn listen(options: PgConnectOptions, commits: Arc<watch::Sender<u64>>) {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT)
        .connect_lazy_with(options);
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            commits.send_modify(|count| *count += 1);
            while listener.try_recv().await.is_ok() {
                commits.send_modify(|count| *count += 1);
            }
            commits.send_modify(|count| *count += 1);
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
