//! Leases, fences, and the relay's checkpoint under them.

use std::time::Duration;

use event_store::{Fence, Fenced, Mark, RelayCheckpoint};
use events::{Digest, Position};
use futures::future::join_all;
use test_support::eventually;
use uuid::Uuid;

use super::log::{Log, append, exactly, stream};

const LONG: Duration = Duration::from_mins(10);
const A: Uuid = Uuid::from_u128(1);
const B: Uuid = Uuid::from_u128(2);

pub async fn a_lease_has_one_holder_and_its_fence_rises(log: Log) {
    let (one, two) = (log.open().await, log.open().await);
    let first = one
        .acquire_lease("relay", A, LONG)
        .await
        .unwrap()
        .expect("it is free");
    assert_eq!(
        one.acquire_lease("relay", A, LONG).await.unwrap(),
        Some(first),
        "renewing keeps the fence"
    );
    assert_eq!(two.acquire_lease("relay", B, LONG).await.unwrap(), None);
    let held = two.lease("relay").await.unwrap().expect("it is held");
    assert_eq!((held.holder, held.fence), (A, first));
    assert!(held.remaining_ms.is_none_or(|left| left > 0));
    assert_eq!(two.lease("nobody's").await.unwrap(), None);
    assert!(
        two.acquire_lease("'; --", B, LONG).await.unwrap().is_some(),
        "another name is another lease"
    );
    two.release_lease("relay", B).await.unwrap();
    assert_eq!(
        two.acquire_lease("relay", B, LONG).await.unwrap(),
        None,
        "only its holder gives it up"
    );
    one.release_lease("relay", A).await.unwrap();
    let second = two
        .acquire_lease("relay", B, LONG)
        .await
        .unwrap()
        .expect("it was given up");
    assert!(second > first);
    two.release_lease("relay", B).await.unwrap();
    let third = log
        .open()
        .await
        .acquire_lease("relay", B, LONG)
        .await
        .unwrap()
        .expect("it was given up");
    assert!(third > second, "also for the same holder");

    let race = (0..20).map(|i| {
        let store = if i % 2 == 0 { &one } else { &two };
        store.acquire_lease("race", Uuid::from_u128(100 + i), LONG)
    });
    let winners = join_all(race)
        .await
        .into_iter()
        .filter(|won| won.as_ref().unwrap().is_some())
        .count();
    assert_eq!(winners, 1);
}

pub async fn a_lease_that_ran_out_is_taken_over(log: Log) {
    let (one, two) = (log.open().await, log.open().await);
    let short = Duration::from_millis(200);
    let first = one
        .acquire_lease("relay", A, short)
        .await
        .unwrap()
        .expect("it is free");
    let second = eventually(Duration::from_secs(20), || async {
        two.acquire_lease("relay", B, LONG).await.unwrap()
    })
    .await;
    assert!(second > first);
    assert_eq!(one.acquire_lease("relay", A, short).await.unwrap(), None);
}

pub async fn the_relays_checkpoint_is_kept_and_fenced(log: Log) {
    let (one, two) = (log.open().await, log.open().await);
    assert_eq!(one.load_relay_checkpoint().await.unwrap(), None);
    let mut checkpoint = RelayCheckpoint::start(one.identity());
    assert_eq!(checkpoint.partitions.len(), 8);
    let nobody = one
        .save_relay_checkpoint("relay", Fence(1), &checkpoint)
        .await;
    assert!(matches!(nobody, Err(Fenced::Lost)), "{nobody:?}");

    let first = one.acquire_lease("relay", A, LONG).await.unwrap().unwrap();
    let hash = one
        .append(append(&stream("thing-1"), exactly(0), 1))
        .await
        .unwrap()
        .hash;
    checkpoint.position = Position::new(1);
    checkpoint.partitions[3] = Mark {
        position: Position::new(1),
        digest: Digest::ZERO.then(&hash),
    };
    one.save_relay_checkpoint("relay", first, &checkpoint)
        .await
        .unwrap();
    assert_eq!(
        two.load_relay_checkpoint().await.unwrap().as_ref(),
        Some(&checkpoint)
    );

    one.release_lease("relay", A).await.unwrap();
    let second = two.acquire_lease("relay", B, LONG).await.unwrap().unwrap();
    let stale = one
        .save_relay_checkpoint("relay", first, &RelayCheckpoint::start(one.identity()))
        .await;
    assert!(matches!(stale, Err(Fenced::Lost)), "{stale:?}");
    assert_eq!(
        one.load_relay_checkpoint().await.unwrap().as_ref(),
        Some(&checkpoint)
    );
    checkpoint.position = Position::new(2);
    two.save_relay_checkpoint("relay", second, &checkpoint)
        .await
        .unwrap();
    assert_eq!(
        log.open().await.load_relay_checkpoint().await.unwrap(),
        Some(checkpoint)
    );
}
