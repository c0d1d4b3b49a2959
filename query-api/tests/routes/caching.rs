//! Rows and lists from memory: quick, and never from before what the caller has seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use query_api::QuerySettings;
use read_models::{RowKey, Value};
use serde_json::json;
use test_support::eventually;
use web::AFTER_HEADER;

use crate::fixture::{ADA, Answer, BOB, Fixture, day, get_from, prices, stream};

const ROW: &str = "/v1/prices/2026-11-01";
const LIST: &str = "/v1/prices?select=cents";
const SOON: Duration = Duration::from_secs(10);

fn price(date: &str, cents: i64) -> Vec<(RowKey, Vec<Value>)> {
    vec![(vec![day(date)], vec![cents.into(), true.into()])]
}

impl Fixture {
    async fn ask(&self, path: &str) -> Answer {
        self.get_as(ADA, &[], path).await
    }

    /// Asks until the answer comes from memory.
    async fn warm(&self, path: &str) {
        eventually(SOON, async || {
            let before = self.counting.lists();
            assert!(self.ask(path).await.status < 500);
            self.counting.lists() == before
        })
        .await;
    }

    /// How often rows were asked for while this was answered.
    async fn lists_for(&self, path: &str) -> (Answer, usize) {
        let before = self.counting.lists();
        let answer = self.ask(path).await;
        (answer, self.counting.lists() - before)
    }
}

#[tokio::test]
async fn rows_and_lists_come_from_memory_until_they_change() {
    let fixture = Fixture::new().await;
    fixture
        .commit(&prices(), 0, 1, price("2026-11-01", 1))
        .await;
    let other = "/v1/prices/2026-11-02";
    for path in [ROW, LIST, other] {
        fixture.warm(path).await;
    }
    let (answer, lists) = fixture.lists_for(ROW).await;
    assert_eq!((&answer.json()["cents"], lists), (&json!(1), 0));
    // Another choice of columns is the same row.
    assert_eq!(
        fixture
            .lists_for("/v1/prices/2026-11-01?select=final")
            .await
            .1,
        0
    );
    assert_eq!(
        fixture.lists_for(other).await.1,
        0,
        "that there is no row is known, too"
    );
    // 304 from memory.
    let bearer = fixture.bearer(ADA, &[]);
    let headers = [
        ("authorization", bearer.as_str()),
        ("if-none-match", answer.header("etag")),
    ];
    assert_eq!(fixture.get(ROW, &headers).await.status, 304);

    fixture
        .commit(&prices(), 0, 2, price("2026-11-01", 2))
        .await;
    eventually(SOON, async || fixture.ask(ROW).await.json()["cents"] == 2).await;
    eventually(SOON, async || {
        fixture.ask(LIST).await.json() == json!([{ "cents": 2 }])
    })
    .await;
    fixture.warm(other).await;
    fixture
        .delete(&prices(), 0, 3, vec![vec![day("2026-11-01")]])
        .await;
    eventually(SOON, async || fixture.ask(ROW).await.status == 404).await;
    eventually(SOON, async || fixture.ask(LIST).await.json() == json!([])).await;
}

#[tokio::test]
async fn a_token_is_never_answered_from_before_it() {
    let fixture = Fixture::new().await;
    fixture
        .commit(&prices(), 0, 1, price("2026-11-01", 1))
        .await;
    for n in 2..50 {
        fixture.warm(ROW).await;
        fixture.warm(LIST).await;
        fixture
            .commit(&prices(), 0, n, price("2026-11-01", n as i64))
            .await;
        let token = fixture.after(0, &stream("price-1"), n);
        let row = fixture.get_after(ADA, ROW, &token).await;
        assert_eq!(row.json()["cents"], n);
        let list = fixture.get_after(ADA, LIST, &token).await;
        assert_eq!(list.json(), json!([{ "cents": n }]));
    }
}

/// Several writers and readers at two processes, each reading what it wrote, in an order that chance decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_reads_own_writes_at_both_processes_whatever_is_cached() {
    let fixture = Arc::new(Fixture::new().await);
    let (second, _) = fixture.second().await;
    let written = Arc::new(AtomicI64::new(0));
    let turn = Arc::new(tokio::sync::Mutex::new(0_u64));
    let clients = (0..8_u64).map(|client| {
        let (fixture, second) = (Arc::clone(&fixture), second.clone());
        let (turn, written) = (Arc::clone(&turn), Arc::clone(&written));
        tokio::spawn(async move {
            let bearer = fixture.bearer(ADA, &[]);
            // The same numbers for the same client.
            let mut state = client + 1;
            for _ in 0..40 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let position = {
                    let mut last = turn.lock().await;
                    *last += 1;
                    let cents = *last as i64;
                    fixture
                        .commit(&prices(), 0, *last, price("2026-11-01", cents))
                        .await;
                    written.store(cents, Ordering::SeqCst);
                    *last
                };
                let token = fixture.after(0, &stream("price-1"), position);
                let app = if state >> 60 & 1 == 0 {
                    &fixture.app
                } else {
                    &second
                };
                let path = if state >> 61 & 1 == 0 { ROW } else { LIST };
                let with = [("authorization", bearer.as_str()), (AFTER_HEADER, &token)];
                let without = [("authorization", bearer.as_str())];
                if state >> 62 & 1 == 0 {
                    get_from(app, path, &without).await;
                }
                let answer = get_from(app, path, &with).await.json();
                let cents = answer.get("cents").or_else(|| answer[0].get("cents"));
                let cents = cents.and_then(serde_json::Value::as_u64).unwrap();
                assert!(cents >= position, "wrote {position} and read {cents}");
            }
        })
    });
    for client in join_all(clients).await {
        client.unwrap();
    }
    let last = written.load(Ordering::SeqCst);
    for app in [&fixture.app, &second] {
        let bearer = fixture.bearer(ADA, &[]);
        let headers = [("authorization", bearer.as_str())];
        eventually(SOON, async || {
            get_from(app, ROW, &headers).await.json()["cents"] == last
        })
        .await;
    }
}

#[tokio::test]
async fn what_cannot_be_followed_is_asked_of_the_database() {
    let fixture = Fixture::new().await;
    fixture
        .commit(&prices(), 0, 1, price("2026-11-01", 1))
        .await;
    fixture.warm(ROW).await;
    fixture.counting.cut_off(true);
    fixture
        .commit(&prices(), 0, 2, price("2026-11-01", 2))
        .await;
    // For a second at most what was known stands for what is.
    eventually(Duration::from_secs(3), async || {
        fixture.ask(ROW).await.json()["cents"] == 2
    })
    .await;
    assert_eq!(fixture.lists_for(ROW).await.1, 1);
    fixture.counting.cut_off(false);
    fixture.warm(ROW).await;
    assert_eq!(fixture.ask(ROW).await.json()["cents"], 2);
}

#[tokio::test]
async fn many_who_ask_the_same_at_once_ask_once() {
    let fixture = Fixture::new().await;
    fixture
        .commit(&prices(), 0, 1, price("2026-11-01", 1))
        .await;
    fixture.ask("/v1/prices/2026-12-24").await;
    let before = fixture.counting.lists();
    let gate = fixture.counting.close().await;
    let all = join_all((0..50).map(|_| fixture.ask(LIST)));
    let opens = async {
        eventually(SOON, async || fixture.counting.lists() > before).await;
        drop(gate);
    };
    let (answers, ()) = tokio::join!(all, opens);
    assert!(
        answers
            .iter()
            .all(|answer| answer.json() == json!([{ "cents": 1 }]))
    );
    assert_eq!(fixture.counting.lists() - before, 1);
}

#[tokio::test]
async fn a_cached_row_is_opened_for_each_caller() {
    let fixture = Fixture::new().await;
    fixture.account(ADA, 1).await;
    let path = format!("/v1/accounts/{ADA}?select=email,status");
    fixture.warm(&path).await;
    let before = fixture.counting.lists();
    let own = fixture.ask(&path).await.json();
    assert_eq!(own["email"], format!("{ADA}@example.org"));
    let other = fixture.get_as(BOB, &[], &path).await;
    assert_eq!(other.verdict(), (404, "not_found".into()));
    let clerk = fixture.get_as(BOB, &["read:accounts"], &path).await.json();
    assert_eq!(clerk, json!({ "email": null, "status": "pending" }));
    assert_eq!(fixture.counting.lists(), before);
}

#[tokio::test]
async fn nothing_is_remembered_where_the_cache_is_off() {
    let fixture = Fixture::new().await;
    fixture
        .commit(&prices(), 0, 1, price("2026-11-01", 1))
        .await;
    let settings = QuerySettings {
        cache_bytes: 0,
        ..QuerySettings::default()
    };
    let app = fixture.process_on(
        Arc::<crate::counting::Counting>::clone(&fixture.counting),
        fixture.vault.clone(),
        settings,
    );
    let bearer = fixture.bearer(ADA, &[]);
    let headers = [("authorization", bearer.as_str())];
    let before = fixture.counting.lists();
    for _ in 0..3 {
        assert_eq!(get_from(&app, ROW, &headers).await.json()["cents"], 1);
    }
    assert_eq!(fixture.counting.lists() - before, 3);
}
