//! Ends what the official client does not: when a server ends a subscription without an error, the client takes that for a
//! message it does not know, complains, and asks again at once, for ever, without yielding to anybody. Its complaints are
//! events of `tracing`, which reach whoever listens on this thread; so one listens here, and unwinds out of the client
//! after a number that no honest message makes. It refuses to let that unwinding go further.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;

use tracing::dispatcher::{Dispatch, get_default, with_default};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// How often the client may complain before it gives control back.
const COMPLAINTS: u32 = 100;
/// Whose complaints are meant.
const CLIENT: &str = "kurrentdb";

thread_local! {
    /// Since the client was last polled on this thread.
    static HEARD: Cell<u32> = const { Cell::new(0) };
}

/// What is unwound with.
struct Ended;

/// Holds the client.
pub(super) struct Leash(Dispatch);

impl Leash {
    pub(super) fn new() -> Self {
        Self(Dispatch::new(Listener(get_default(Clone::clone))))
    }

    /// What the future comes to; `None` if it would never have come to anything.
    pub(super) async fn hold<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| {
            HEARD.set(0);
            let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
            match with_default(&self.0, || catch_unwind(poll)) {
                Ok(polled) => polled.map(Some),
                Err(payload) if payload.is::<Ended>() => Poll::Ready(None),
                Err(payload) => resume_unwind(payload),
            }
        })
        .await
    }
}

/// Counts complaints, and passes everything on to whoever listened before.
struct Listener(Dispatch);

fn is_complaint(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::WARN && metadata.target().starts_with(CLIENT)
}

impl Subscriber for Listener {
    fn register_callsite(&self, _metadata: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // What the other one wants beyond that, it says itself.
        Some(LevelFilter::WARN)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_complaint(metadata) || self.0.enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        if is_complaint(event.metadata()) {
            let heard = HEARD.get() + 1;
            HEARD.set(heard);
            if heard > COMPLAINTS {
                resume_unwind(Box::new(Ended));
            }
            // The first says it all.
            if heard > 1 {
                return;
            }
        }
        if self.0.enabled(event.metadata()) {
            self.0.event(event);
        }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.0.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.0.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.0.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.0.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.0.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.0.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.0.try_close(span)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::eventstore::{Client, SubscribeToAllOptions};
    use axum::Router;
    use axum::http::Uri;
    use tokio::net::TcpListener;

    use super::*;

    /// Every call ends at once, and well; nobody says what is supported.
    async fn answer(uri: Uri) -> [(&'static str, &'static str); 2] {
        let unimplemented = uri.path().ends_with("GetSupportedMethods");
        let status = if unimplemented { "12" } else { "0" };
        [
            ("content-type", "application/grpc"),
            ("grpc-status", status),
        ]
    }

    #[tokio::test]
    async fn a_subscription_that_its_server_ends_comes_to_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let everything = Router::new().fallback(answer);
            axum::serve(listener, everything).await.unwrap();
        });
        let url = format!("esdb://{address}?tls=false");
        let client = Client::new(url.parse().unwrap()).unwrap();
        let options = SubscribeToAllOptions::default();
        let mut subscription = client.subscribe_to_all(&options).await;
        let leash = Leash::new();
        let next = leash.hold(subscription.next_subscription_event());
        let ended = tokio::time::timeout(Duration::from_secs(20), next).await;
        assert!(ended.expect("it ends").is_none());
        let held = leash.hold(async { "what comes by itself" }).await;
        assert_eq!(held, Some("what comes by itself"));
        server.abort();
    }
}
