//! Subscriptions: from a place on, through a filter, until the server ends.

use std::time::Duration;

use eventstore::{
    Client, Position, StreamPosition, StreamState, SubscribeToAllOptions, SubscribeToStreamOptions,
    Subscription, SubscriptionEvent, SubscriptionFilter,
};

use crate::server::{STRIDE, Served, append, event};

const SOON: Duration = Duration::from_secs(10);

async fn next(subscription: &mut Subscription) -> SubscriptionEvent {
    tokio::time::timeout(SOON, subscription.next_subscription_event())
        .await
        .expect("something comes")
        .unwrap()
}

/// What comes, in words.
async fn told(subscription: &mut Subscription) -> String {
    match next(subscription).await {
        SubscriptionEvent::Confirmed(_) => "confirmed".into(),
        SubscriptionEvent::EventAppeared(event) => {
            let event = event.get_original_event();
            format!("{} {}", event.stream_id(), event.revision)
        }
        SubscriptionEvent::Checkpoint(position) => {
            format!("checkpoint {}", position.commit / STRIDE)
        }
        SubscriptionEvent::CaughtUp(at) => {
            let at = at.expect("it says when");
            let position = at.position.map(|position| position.commit / STRIDE);
            format!("caught up {:?} {:?}", at.stream_revision, position)
        }
        _ => "something else".into(),
    }
}

async fn take(client: &Client, stream: &str, events: usize) {
    let events = (0..events).map(|_| event("SeatTaken")).collect();
    append(client, stream, StreamState::Any, events)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_caught_up_with_and_then_followed() {
    let served = Served::open().await;
    let client = served.client();
    take(&client, "seats-1", 3).await;
    take(&client, "rows-1", 1).await;
    let after = SubscribeToStreamOptions::default().start_from(StreamPosition::Position(0));
    let mut subscription = client.subscribe_to_stream("seats-1", &after).await;
    for expected in [
        "confirmed",
        "seats-1 1",
        "seats-1 2",
        "caught up Some(2) None",
    ] {
        assert_eq!(told(&mut subscription).await, expected);
    }
    take(&client, "rows-1", 1).await;
    take(&client, "seats-1", 1).await;
    assert_eq!(told(&mut subscription).await, "seats-1 3");

    let mut early = client
        .subscribe_to_stream("seats-2", &SubscribeToStreamOptions::default())
        .await;
    assert_eq!(told(&mut early).await, "confirmed");
    assert_eq!(told(&mut early).await, "caught up None None");
    take(&client, "seats-2", 1).await;
    assert_eq!(
        told(&mut early).await,
        "seats-2 0",
        "before there was such a stream"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_leaves_out_the_rest_and_checkpoints_tell_how_far() {
    let served = Served::open().await;
    let client = served.client();
    take(&client, "seats-1", 2).await;
    take(&client, "rows-1", 40).await;
    let seats = SubscriptionFilter::on_stream_name()
        .regex("^seats-")
        .max(10);
    let options =
        SubscribeToAllOptions::default()
            .filter(seats)
            .position(StreamPosition::Position(Position {
                commit: STRIDE,
                prepare: STRIDE,
            }));
    let mut subscription = client.subscribe_to_all(&options).await;
    for expected in [
        "confirmed",
        "seats-1 1",
        "checkpoint 42",
        "caught up None Some(42)",
    ] {
        assert_eq!(told(&mut subscription).await, expected);
    }
    take(&client, "rows-1", 10).await;
    assert_eq!(told(&mut subscription).await, "checkpoint 52");
    take(&client, "seats-1", 1).await;
    assert_eq!(told(&mut subscription).await, "seats-1 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_end_is_an_error_to_subscribers() {
    let served = Served::open().await;
    let client = served.client();
    let mut subscription = client
        .subscribe_to_all(&SubscribeToAllOptions::default())
        .await;
    assert_eq!(told(&mut subscription).await, "confirmed");
    served.shutdown.cancel();
    let ended = async {
        loop {
            if let Err(error) = subscription.next_subscription_event().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(SOON, ended).await.expect("it ends");
    assert!(error.to_string().contains("shutting down"), "{error}");
}
