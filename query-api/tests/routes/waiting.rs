//! Reading one's own writes.

use std::time::{Duration, Instant};

use events::LogIdentity;
use read_models::RowWrites;
use uuid::Uuid;

use crate::fixture::{ADA, Fixture, LOG, accounts, day, prices, stream};

const PATH: &str = "/v1/prices/2026-11-22";

fn row(cents: i64) -> Vec<(read_models::RowKey, Vec<read_models::Value>)> {
    vec![(vec![day("2026-11-22")], vec![cents.into(), true.into()])]
}

#[tokio::test]
async fn a_query_waits_until_a_commit_brings_what_its_token_names() {
    let fixture = Fixture::new().await;
    let token = fixture.after(1, &stream("price-1"), 5);
    let asks = fixture.get_after(ADA, PATH, &token);
    let commits = async {
        test_support::eventually(Duration::from_secs(5), async || {
            fixture.counting.looks() > 0
        })
        .await;
        fixture.commit(&prices(), 1, 4, row(4)).await;
        fixture.commit(&prices(), 1, 5, row(5)).await;
    };
    let (answer, ()) = tokio::join!(asks, commits);
    assert_eq!((answer.status, &answer.json()["cents"]), (200, &5.into()));
}

#[tokio::test]
async fn the_wait_ends_after_two_seconds() {
    let fixture = Fixture::new().await;
    fixture.commit(&prices(), 1, 4, row(4)).await;
    let token = fixture.after(1, &stream("price-1"), 5);
    let start = Instant::now();
    let answer = fixture.get_after(ADA, PATH, &token).await;
    assert_eq!(answer.verdict(), (503, "not_yet_projected".into()));
    assert_eq!(answer.header("retry-after"), "1");
    assert!(
        (Duration::from_millis(1_900)..Duration::from_secs(5)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
    // Without the token the row can be read; other partitions do not matter.
    assert_eq!(fixture.get_as(ADA, &[], PATH).await.status, 200);
    let reached = fixture.after(1, &stream("price-1"), 4);
    assert_eq!(fixture.get_after(ADA, PATH, &reached).await.status, 200);
}

#[tokio::test]
async fn a_token_that_names_a_parked_stream_is_told_so() {
    let fixture = Fixture::new().await;
    fixture.commit(&prices(), 1, 4, row(4)).await;
    fixture.park(&prices(), 1, 5, &stream("price-bad")).await;
    let parked = fixture
        .get_after(ADA, PATH, &fixture.after(1, &stream("price-bad"), 6))
        .await;
    assert_eq!(parked.verdict(), (503, "parked".into()));
    assert_eq!(parked.header("retry-after"), "1");
    // What the stream did before it was parked is there; and so are other streams.
    assert_eq!(
        fixture
            .get_after(ADA, PATH, &fixture.after(1, &stream("price-bad"), 3))
            .await
            .status,
        200
    );
    assert_eq!(
        fixture
            .get_after(ADA, PATH, &fixture.after(1, &stream("price-good"), 5))
            .await
            .status,
        200
    );
    // A fact of one read model alone.
    fixture.commit(&accounts(), 1, 6, vec![]).await;
    fixture.account(ADA, 1).await;
    let other = fixture
        .get_after(
            ADA,
            "/v1/accounts/me",
            &fixture.after(1, &stream("price-bad"), 6),
        )
        .await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn tokens_of_another_log_and_torn_tokens_are_refused() {
    let fixture = Fixture::new().await;
    fixture.commit(&prices(), 1, 4, row(4)).await;
    for log in [
        LogIdentity {
            log: Uuid::nil(),
            ..LOG
        },
        LogIdentity {
            epoch: Uuid::nil(),
            ..LOG
        },
    ] {
        let token = fixture.after_in(log, 1, &stream("price-1"), 1);
        assert_eq!(
            fixture.get_after(ADA, PATH, &token).await.verdict(),
            (400, "token_of_another_log".into())
        );
    }
    let token = fixture.after(1, &stream("price-1"), 1);
    for torn in [&token[1..], "x", ""] {
        assert_eq!(
            fixture.get_after(ADA, PATH, torn).await.verdict(),
            (400, "malformed".into()),
            "{torn:?}"
        );
    }
}

#[tokio::test]
async fn many_waiters_share_few_looks_and_what_is_known_costs_none() {
    const WAITERS: usize = 200;
    let fixture = Fixture::new().await;
    let token = fixture.after(1, &stream("price-1"), 5);
    let all = futures::future::join_all((0..WAITERS).map(|_| fixture.get_after(ADA, PATH, &token)));
    let commit = async {
        test_support::eventually(Duration::from_secs(5), async || {
            fixture.counting.looks() > 0
        })
        .await;
        fixture.commit(&prices(), 1, 5, row(5)).await;
    };
    let start = Instant::now();
    let (answers, ()) = tokio::join!(all, commit);
    let pauses = start.elapsed().as_millis() as usize / 10 + 1;
    assert!(answers.iter().all(|answer| answer.status == 200));
    // Each change, and each of the feed's pauses of 10 ms, costs a look or two: never one for each who waits.
    assert!(
        fixture.counting.looks() <= 4 + 2 * pauses,
        "{} looks, {pauses} pauses",
        fixture.counting.looks()
    );

    let looks = fixture.counting.looks();
    fixture.get_after(ADA, PATH, &token).await;
    let fresh = start.elapsed() < Duration::from_secs(1);
    assert!(
        !fresh || fixture.counting.looks() == looks,
        "a position that is known to be reached was looked up"
    );
}

#[tokio::test]
async fn the_wait_follows_the_live_table_when_another_takes_its_place() {
    let fixture = Fixture::new().await;
    fixture.commit(&prices(), 1, 4, row(4)).await;
    let next = prices().revision(2);
    let generation = fixture.store.prepare(&next, LOG).await.unwrap();
    let token = fixture.after(1, &stream("price-1"), 9);
    let asks = fixture.get_after(ADA, PATH, &token);
    let swaps = async {
        test_support::eventually(Duration::from_secs(5), async || {
            fixture.counting.looks() > 0
        })
        .await;
        fixture
            .write_to(&next, &generation, 1, 9, &RowWrites::default())
            .await;
        assert!(fixture.store.swap(&generation).await.unwrap());
    };
    let (answer, ()) = tokio::join!(asks, swaps);
    // The new table is far enough; it has no such row.
    assert_eq!(answer.verdict(), (404, "not_found".into()));
}

#[tokio::test]
async fn two_streams_of_different_partitions_are_both_waited_for() {
    let fixture = Fixture::new().await;
    let mut token = web::PositionToken::new(LOG);
    token.note(
        events::Partition(0),
        &stream("price-1"),
        events::Position::new(5),
    );
    token.note(
        events::Partition(1),
        &stream("price-2"),
        events::Position::new(6),
    );
    let token = token.seal(&fixture.keys);
    let asks = fixture.get_after(ADA, PATH, &token);
    let commits = async {
        test_support::eventually(Duration::from_secs(5), async || {
            fixture.counting.looks() > 0
        })
        .await;
        fixture.commit(&prices(), 0, 5, row(5)).await;
        let looks = fixture.counting.looks();
        test_support::eventually(Duration::from_secs(5), async || {
            fixture.counting.looks() > looks
        })
        .await;
        let other = vec![(vec![day("2026-11-23")], vec![6.into(), true.into()])];
        fixture.commit(&prices(), 1, 6, other).await;
        6
    };
    let (answer, last) = tokio::join!(asks, commits);
    assert_eq!((answer.status, last), (200, 6));
    assert_eq!(
        fixture
            .get_after(ADA, "/v1/prices", &token)
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
}
