//! Hearing of appends by other processes: notifications wake at once, polling makes up for lost ones. It refuses to do
//! either while nobody waits.

use std::sync::Arc;
use std::time::Duration;

use events::Position;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::connect::CONNECT_WAIT;
use crate::heads::Heads;

const CHANNEL: &str = "showcaller_events";
/// How often the head is read while somebody waits: the latest that a lost notification is made up for.
const POLL: Duration = Duration::from_millis(500);
/// The pause before connecting again.
const RECONNECT: Duration = Duration::from_millis(500);

/// Raises `heads` by notifications, for ever.
pub(super) async fn listen(options: PgConnectOptions, heads: Arc<Heads>) {
    // A pool of its own, so that readers and listener never wait for each other's connections.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_WAIT)
        .connect_lazy_with(options);
    loop {
        heads.someone_waits().await;
        if let Err(error) = hear(&pool, &heads).await {
            tracing::warn!(%error, "notifications of the event store are interrupted; polling goes on");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn hear(pool: &PgPool, heads: &Heads) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    // After a lost connection (`None`) the next poll reads what was missed meanwhile.
    while let Some(notification) = listener.try_recv().await? {
        if let Ok(head) = notification.payload().parse() {
            heads.raise(Position::new(head));
        }
    }
    Ok(())
}

/// Corrects `heads` by reading the head now and then while somebody waits, for ever.
pub(super) async fn poll(pool: PgPool, heads: Arc<Heads>) {
    loop {
        heads.someone_waits().await;
        match super::read::head(&pool).await {
            Ok(head) => heads.correct(head),
            Err(error) => tracing::debug!(%error, "the head cannot be read; trying again"),
        }
        tokio::time::sleep(POLL).await;
    }
}
