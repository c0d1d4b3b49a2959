//! Following and waiting.

use std::sync::Arc;
use std::time::Duration;

use event_store::{Error, Filter, follow};
use events::{Position, Version};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use super::log::{Log, append, exactly, stream};

const SOON: Duration = Duration::from_secs(5);

pub async fn following_catches_up_and_then_hears_of_other_processes(log: Log) {
    let (here, there) = (log.open().await, log.open().await);
    let thing = stream("thing-1");
    here.append(append(&thing, exactly(0), 250)).await.unwrap();
    let tenth = here.read_stream(&thing, Version::new(9), 1).await.unwrap()[0].position;
    let mut pages = Box::pin(follow(Arc::clone(&here), tenth, Filter::default(), 100));
    let mut next = 11;
    let mut until = async |last: u64| {
        while next <= last {
            let page = timeout(SOON, pages.next())
                .await
                .expect("a page arrives")
                .unwrap()
                .unwrap();
            assert!(page.events.len() <= 100);
            for event in page.events {
                assert_eq!(event.version.get(), next);
                next += 1;
            }
        }
    };
    until(250).await;
    for version in 250..270 {
        let store = if version % 2 == 0 { &here } else { &there };
        store
            .append(append(&thing, exactly(version), 1))
            .await
            .unwrap();
        until(version + 1).await;
    }
}

pub async fn following_from_beyond_the_head_is_refused(log: Log) {
    let store = log.open().await;
    store
        .append(append(&stream("thing-1"), exactly(0), 3))
        .await
        .unwrap();
    let head = store.head().await.unwrap();
    let beyond = Position::new(head.get() + 4);
    let page = store
        .read_all(beyond, &Filter::default(), 10)
        .await
        .unwrap();
    assert_eq!(
        (page.events.len(), page.through),
        (0, head),
        "it says where the log ends"
    );
    let mut pages = Box::pin(follow(store, beyond, Filter::default(), 10));
    assert!(matches!(pages.next().await, Some(Err(Error::Invalid(_)))));
    assert!(pages.next().await.is_none());
}

pub async fn waiting_ends_with_an_append_or_with_patience(log: Log) {
    let (here, there) = (log.open().await, log.open().await);
    let begun = Instant::now();
    here.wait_beyond(Position::ZERO, Duration::from_millis(150))
        .await;
    assert!(
        begun.elapsed() >= Duration::from_millis(150),
        "there was nothing to wake for"
    );

    let thing = stream("thing-1");
    for (version, writer) in [(0, &here), (1, &there), (2, &there)] {
        let begun = Instant::now();
        let head = there.head().await.unwrap();
        let wait = here.wait_beyond(head, 10 * SOON);
        let (answer, ()) = tokio::join!(writer.append(append(&thing, exactly(version), 1)), wait);
        answer.unwrap();
        assert!(begun.elapsed() < SOON, "the append woke it");
    }
    // What is there already needs no wake-up.
    let last = there.read_stream(&thing, Version::new(2), 1).await.unwrap()[0].position;
    timeout(
        SOON,
        there.wait_beyond(Position::new(last.get() - 1), 10 * SOON),
    )
    .await
    .unwrap();
}
