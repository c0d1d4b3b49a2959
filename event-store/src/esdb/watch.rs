//! Hears of appends by a subscription, so that those who wait are woken. It refuses to be believed: what woke reads the
//! log, so a subscription that ends, lags or repeats delays and changes nothing.

use std::sync::Arc;
use std::time::Duration;

use ::eventstore::{StreamPosition, SubscriptionEvent};
use events::Position;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, PATIENCE, Trouble};
use super::leash::Leash;
use super::read;
use crate::Filter;
use crate::heads::Heads;

/// The pause after a subscription that ended.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a subscription may be silent before the head is read anyway, while somebody waits.
const SILENCE: Duration = Duration::from_secs(1);

/// Raises `heads` until `stop`.
pub(super) async fn watch(connection: Arc<Connection>, heads: Arc<Heads>, stop: CancellationToken) {
    let watching = async {
        loop {
            heads.someone_waits().await;
            if let Err(trouble) = listen(&connection, &heads).await {
                tracing::warn!(
                    ?trouble,
                    "EventStoreDB's appends cannot be heard of; trying again"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = watching => {}
        () = stop.cancelled() => {}
    }
}

async fn listen(connection: &Connection, heads: &Heads) -> Result<(), Trouble> {
    let (number, client) = connection.client()?;
    let options = connection
        .subscription_options()
        .position(StreamPosition::End)
        .filter(connection.names().filter(&Filter::default()));
    let mut subscription = client.subscribe_to_all(&options).await;
    let (mut confirmed, leash) = (false, Leash::new());
    loop {
        let patience = if confirmed { SILENCE } else { PATIENCE };
        let next = leash.hold(subscription.next_subscription_event());
        let next = match tokio::time::timeout(patience, next).await {
            Ok(None) => return Err(Trouble::Passing("the server ended the subscription".into())),
            Ok(Some(next)) => Ok(next),
            Err(late) => Err(late),
        };
        match next {
            Ok(Ok(SubscriptionEvent::Confirmed(_))) => {
                confirmed = true;
                // What was appended before it began is not told.
                heads.correct(read::head(connection).await?);
            }
            Ok(Ok(SubscriptionEvent::EventAppeared(event))) => {
                let position = event.get_original_event().position.commit;
                heads.raise(Position::new(position));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                let trouble = Trouble::from(error);
                if matches!(trouble, Trouble::Passing(_)) {
                    connection.broken(number);
                }
                return Err(trouble);
            }
            Err(_) if confirmed => {
                // Nobody told, or nothing happened. A node that died is found out by asking it.
                heads.someone_waits().await;
                heads.correct(read::head(connection).await?);
                if !connection.is_current(number) {
                    return Err(Trouble::Passing("its node fell silent".into()));
                }
            }
            Err(_) => {
                connection.broken(number);
                return Err(Trouble::Passing(
                    "the subscription was not confirmed".into(),
                ));
            }
        }
    }
}
