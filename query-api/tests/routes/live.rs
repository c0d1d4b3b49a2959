//! Live answers: the rows as they are, what becomes of them, to whom, and going on where one was.

use std::time::Duration;

use query_api::QuerySettings;
use read_models::{RowKey, RowWrites, Value};
use serde_json::{Value as Json, json};
use uuid::Uuid;
use web::AFTER_HEADER;

use crate::fixture::{ADA, BOB, Fixture, LOG, day, devices, notes, prices, stream, takings};
use crate::listener::Listener;

fn price(date: &str, cents: i64) -> (RowKey, Vec<Value>) {
    (vec![day(date)], vec![cents.into(), true.into()])
}

fn device(name: &str, owner: Uuid) -> (RowKey, Vec<Value>) {
    (vec![name.into()], vec![owner.into(), "phone".into()])
}

const DAYS: &str = "/v1/prices?select=day,cents";

fn shown(date: &str, cents: i64) -> Json {
    json!({ "day": date, "cents": cents })
}

#[tokio::test]
async fn a_stream_begins_with_the_rows_as_they_are() {
    let fixture = Fixture::new().await;
    let rows = (0..1_200).map(|n: i64| {
        let date = chrono::NaiveDate::from_num_days_from_ce_opt(730_000 + n as i32).unwrap();
        (vec![date.into()], vec![n.into(), true.into()])
    });
    fixture.commit(&prices(), 0, 1, rows.collect()).await;
    let mut live = fixture
        .listen(ADA, &[], "/v1/prices?select=cents&cents=gte.50")
        .await;
    assert_eq!(live.headers["content-type"], "text/event-stream");
    assert_eq!(live.headers["x-accel-buffering"], "no");
    assert_eq!(live.headers["cache-control"], "private, no-cache");
    let cents: Vec<i64> = live
        .list()
        .await
        .iter()
        .map(|row| row["cents"].as_i64().unwrap())
        .collect();
    assert_eq!(
        cents,
        (50..1_200).collect::<Vec<_>>(),
        "in the order of the key"
    );
    assert!(live.last_id.ends_with(":1.0"), "{}", live.last_id);
}

#[tokio::test]
async fn every_kind_of_change_is_told_as_the_net_state_of_the_row() {
    let fixture = Fixture::new().await;
    fixture
        .commit(&prices(), 0, 1, vec![price("2026-11-01", 10)])
        .await;
    let mut live = fixture
        .listen(ADA, &[], &format!("{DAYS}&cents=lt.100"))
        .await;
    assert_eq!(live.list().await, [shown("2026-11-01", 10)]);
    // A new row, a changed one, one that comes into the filter, one that leaves it, and one that is removed.
    fixture
        .commit(&prices(), 0, 2, vec![price("2026-11-02", 20)])
        .await;
    live.expect("row", shown("2026-11-02", 20)).await;
    fixture
        .commit(&prices(), 0, 3, vec![price("2026-11-01", 11)])
        .await;
    live.expect("row", shown("2026-11-01", 11)).await;
    fixture
        .commit(&prices(), 1, 4, vec![price("2026-11-03", 500)])
        .await;
    live.expect("gone", json!({ "day": "2026-11-03" })).await;
    fixture
        .commit(&prices(), 1, 5, vec![price("2026-11-03", 50)])
        .await;
    live.expect("row", shown("2026-11-03", 50)).await;
    fixture
        .commit(&prices(), 0, 6, vec![price("2026-11-02", 100)])
        .await;
    live.expect("gone", json!({ "day": "2026-11-02" })).await;
    fixture
        .delete(&prices(), 0, 7, vec![vec![day("2026-11-01")]])
        .await;
    let last = live.expect("gone", json!({ "day": "2026-11-01" })).await;
    assert!(
        last.id.unwrap().ends_with(":7.5"),
        "the place that it leads to"
    );
}

#[tokio::test]
async fn what_could_never_pass_the_filter_is_not_told() {
    let fixture = Fixture::new().await;
    let path = format!("{DAYS}&day=gte.2026-11-10");
    let mut live = fixture.listen(ADA, &[], &path).await;
    assert_eq!(live.list().await, Vec::<Json>::new());
    fixture
        .commit(&prices(), 0, 1, vec![price("2026-11-09", 1)])
        .await;
    fixture
        .delete(&prices(), 0, 2, vec![vec![day("2026-11-09")]])
        .await;
    fixture
        .commit(&prices(), 0, 3, vec![price("2026-11-11", 2)])
        .await;
    live.expect("row", shown("2026-11-11", 2)).await;
}

#[tokio::test]
async fn an_owner_hears_of_own_rows_alone() {
    let fixture = Fixture::new().await;
    let path = "/v1/devices?select=device,name";
    let all = vec![device("a", ADA), device("b", BOB), device("c", ADA)];
    fixture.commit(&devices(), 0, 1, all).await;
    let mut ada = fixture.listen(ADA, &[], path).await;
    let mut bob = fixture.listen(BOB, &[], path).await;
    let mut clerk = fixture.listen(BOB, &["read:devices"], path).await;
    assert_eq!(
        (
            ada.list().await.len(),
            bob.list().await.len(),
            clerk.list().await.len()
        ),
        (2, 1, 3)
    );
    // Removed rows are told to whom they belonged, though their keys do not say it.
    fixture
        .delete(&devices(), 0, 2, vec![vec!["a".into()], vec!["b".into()]])
        .await;
    ada.expect("gone", json!({ "device": "a" })).await;
    bob.expect("gone", json!({ "device": "b" })).await;
    let mut gone = vec![
        clerk.next().await.unwrap().data,
        clerk.next().await.unwrap().data,
    ];
    gone.sort_by_key(ToString::to_string);
    assert_eq!(gone, [json!({ "device": "a" }), json!({ "device": "b" })]);
    // A key that comes back as another's is theirs alone.
    fixture
        .commit(&devices(), 0, 3, vec![device("a", BOB)])
        .await;
    bob.expect("row", json!({ "device": "a", "name": "phone" }))
        .await;
    fixture
        .commit(&devices(), 0, 4, vec![device("d", ADA)])
        .await;
    ada.expect("row", json!({ "device": "d", "name": "phone" }))
        .await;
}

#[tokio::test]
async fn personal_values_are_opened_for_each_listener() {
    let fixture = Fixture::new().await;
    let path = "/v1/notes?select=title,about";
    let mut ada = fixture.listen(ADA, &[], path).await;
    let mut clerk = fixture.listen(BOB, &["read:notes"], path).await;
    ada.list().await;
    clerk.list().await;
    let about = fixture.sealed(ADA, json!("hush")).await;
    let row = (vec![ADA.into(), "t".into()], vec![about]);
    fixture.commit(&notes(), 0, 1, vec![row]).await;
    ada.expect("row", json!({ "title": "t", "about": "hush" }))
        .await;
    clerk
        .expect("row", json!({ "title": "t", "about": null }))
        .await;
}

#[tokio::test]
async fn shared_rows_are_told_merged() {
    let fixture = Fixture::new().await;
    let mut live = fixture
        .listen(ADA, &["read:takings"], "/v1/takings?select=day,cents")
        .await;
    live.list().await;
    let one = |cents: i64| vec![(vec![day("2026-11-01")], vec![cents.into()])];
    fixture.commit(&takings(), 0, 1, one(5)).await;
    live.expect("row", shown("2026-11-01", 5)).await;
    fixture.commit(&takings(), 1, 2, one(6)).await;
    live.expect("row", shown("2026-11-01", 11)).await;
}

#[tokio::test]
async fn a_single_row_is_followed_before_it_is_there_and_after_it_is_gone() {
    let fixture = Fixture::new().await;
    let mut live = fixture
        .listen(ADA, &[], "/v1/prices/2026-11-01?select=day,cents")
        .await;
    assert_eq!(live.list().await, Vec::<Json>::new());
    let both = vec![price("2026-11-01", 1), price("2026-11-02", 1)];
    fixture.commit(&prices(), 0, 1, both).await;
    live.expect("row", shown("2026-11-01", 1)).await;
    fixture
        .delete(&prices(), 0, 2, vec![vec![day("2026-11-01")]])
        .await;
    live.expect("gone", json!({ "day": "2026-11-01" })).await;
    // Another's row looks like none.
    let mut other = fixture.listen(BOB, &[], "/v1/devices/a").await;
    assert_eq!(other.list().await, Vec::<Json>::new());
    fixture
        .commit(&devices(), 0, 1, vec![device("a", ADA)])
        .await;
    fixture
        .delete(&devices(), 0, 2, vec![vec!["a".into()]])
        .await;
    fixture
        .commit(&devices(), 0, 3, vec![device("a", BOB)])
        .await;
    assert_eq!(other.next().await.unwrap().data["device"], "a");
}

#[tokio::test]
async fn a_client_goes_on_where_it_was_at_whichever_process() {
    let fixture = Fixture::new().await;
    let bearer = fixture.bearer(ADA, &[]);
    let first_two = vec![price("2026-11-01", 1), price("2026-11-02", 2)];
    fixture.commit(&prices(), 0, 1, first_two).await;
    let mut live = fixture.listen(ADA, &[], DAYS).await;
    assert_eq!(live.list().await.len(), 2);
    let at_the_start = live.last_id.clone();
    fixture
        .commit(&prices(), 1, 2, vec![price("2026-11-03", 3)])
        .await;
    let seen = live.expect("row", shown("2026-11-03", 3)).await.id.unwrap();
    drop(live);
    // While it is away.
    fixture
        .commit(&prices(), 0, 3, vec![price("2026-11-01", 10)])
        .await;
    fixture
        .commit(&prices(), 0, 4, vec![price("2026-11-01", 11)])
        .await;
    fixture
        .delete(&prices(), 0, 5, vec![vec![day("2026-11-02")]])
        .await;
    let (restarted, _) = fixture.second().await;
    let headers = [("authorization", bearer.as_str()), ("last-event-id", &seen)];
    let mut live = Listener::open(&restarted, DAYS, &headers).await;
    let mut missed = [live.next().await.unwrap(), live.next().await.unwrap()];
    assert_eq!(
        (&missed[0].id, missed[1].id.is_some()),
        (&None, true),
        "only the last leads on"
    );
    missed.sort_by_key(|event| event.name.clone());
    assert_eq!(missed[0].data, json!({ "day": "2026-11-02" }));
    assert_eq!(missed[1].data, shown("2026-11-01", 11));
    live.expect("ready", json!({})).await;
    assert!(live.last_id.ends_with(":5.2"), "{}", live.last_id);
    fixture
        .commit(&prices(), 0, 6, vec![price("2026-11-04", 4)])
        .await;
    live.expect("row", shown("2026-11-04", 4)).await;
    // From further back, more.
    let headers = [
        ("authorization", bearer.as_str()),
        ("last-event-id", &at_the_start),
    ];
    let mut live = Listener::open(&restarted, DAYS, &headers).await;
    let mut events = Vec::new();
    loop {
        let event = live.next().await.unwrap();
        if event.name == "ready" {
            break;
        }
        events.push(event.name);
    }
    events.sort();
    assert_eq!(events, ["gone", "row", "row", "row"]);
}

#[tokio::test]
async fn an_id_that_the_journal_does_not_lead_on_from_begins_anew() {
    let fixture = Fixture::new().await;
    let bearer = fixture.bearer(ADA, &[]);
    fixture
        .commit(&prices(), 0, 1, vec![price("2026-11-01", 1)])
        .await;
    let mut live = fixture.listen(ADA, &[], DAYS).await;
    live.list().await;
    let (table, _) = live.last_id.split_once(':').unwrap();
    for id in [
        String::new(),
        "x".into(),
        live.last_id.replace(':', ""),
        format!("9{table}:1.0"),
        format!("{table}:1"),
        format!("{table}:1.0.0"),
        format!("{table}:-1.x"),
        format!("{table}:99.0"),
        "9".repeat(8_000),
    ] {
        let headers = [("authorization", bearer.as_str()), ("last-event-id", &id)];
        let mut anew = Listener::open(&fixture.app, DAYS, &headers).await;
        assert_eq!(anew.list().await, [shown("2026-11-01", 1)], "{id}");
    }
    // What no journal noted: too many rows at once.
    let many = (0..1_001).map(|n: i32| {
        let date = chrono::NaiveDate::from_num_days_from_ce_opt(730_000 + n).unwrap();
        (vec![date.into()], vec![1.into(), true.into()])
    });
    fixture.commit(&prices(), 0, 2, many.collect()).await;
    assert_eq!(
        live.list().await.len(),
        1_002,
        "and streams that are open begin anew"
    );
}

#[tokio::test]
async fn a_switch_of_the_live_table_begins_anew() {
    let fixture = Fixture::new().await;
    fixture
        .commit(&prices(), 0, 1, vec![price("2026-11-01", 1)])
        .await;
    let mut live = fixture.listen(ADA, &[], DAYS).await;
    live.list().await;
    let old = live.last_id.clone();
    let changed = prices().revision(2);
    let generation = fixture.store.prepare(&changed, LOG).await.unwrap();
    let upserts = vec![(
        vec![day("2026-11-01")],
        read_models::Row {
            values: vec![2.into(), true.into()],
            partition: events::Partition(0),
            position: events::Position::new(1),
            updated_at: None,
        },
    )];
    let writes = RowWrites {
        upserts,
        ..RowWrites::default()
    };
    fixture.write_to(&changed, &generation, 0, 1, &writes).await;
    assert!(fixture.store.swap(&generation).await.unwrap());
    assert_eq!(live.list().await, [shown("2026-11-01", 2)]);
    assert_ne!(live.last_id, old);
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_the_net_states_later() {
    let fixture = Fixture::new().await;
    let mut live = fixture.listen(ADA, &[], DAYS).await;
    live.list().await;
    // Another one reads along, so that it is known when the hub has told of each.
    let mut other = fixture.listen(ADA, &[], DAYS).await;
    other.list().await;
    for n in 1..=100 {
        fixture
            .commit(&prices(), 0, n, vec![price("2026-11-01", n as i64)])
            .await;
        other.expect("row", shown("2026-11-01", n as i64)).await;
    }
    live.expect("row", shown("2026-11-01", 100)).await;
    live.expect("ready", json!({})).await;
    fixture
        .commit(&prices(), 0, 101, vec![price("2026-11-01", 101)])
        .await;
    live.expect("row", shown("2026-11-01", 101)).await;
}

#[tokio::test]
async fn a_stream_begins_after_the_position_token() {
    let fixture = Fixture::new().await;
    let bearer = fixture.bearer(ADA, &[]);
    let token = fixture.after(1, &stream("price-1"), 5);
    let headers = [("authorization", bearer.as_str()), (AFTER_HEADER, &token)];
    let opens = Listener::open(&fixture.app, DAYS, &headers);
    let commits = async {
        let asked = async || fixture.counting.looks() > 0;
        test_support::eventually(Duration::from_secs(5), asked).await;
        fixture
            .commit(&prices(), 1, 5, vec![price("2026-11-01", 5)])
            .await;
    };
    let (mut live, ()) = tokio::join!(opens, commits);
    assert_eq!(live.list().await, [shown("2026-11-01", 5)]);
    let token = fixture.after(1, &stream("price-1"), 6);
    let headers = [
        ("authorization", bearer.as_str()),
        ("accept", "text/event-stream"),
        (AFTER_HEADER, &token),
    ];
    let refused = fixture.get(DAYS, &headers).await;
    assert_eq!(refused.verdict(), (503, "not_yet_projected".into()));
}

#[tokio::test]
async fn two_processes_tell_the_same() {
    let fixture = Fixture::new().await;
    let bearer = fixture.bearer(ADA, &[]);
    let second = fixture.process(QuerySettings::default()).await;
    let headers = [("authorization", bearer.as_str())];
    let mut one = Listener::open(&fixture.app, DAYS, &headers).await;
    let mut two = Listener::open(&second, DAYS, &headers).await;
    one.list().await;
    two.list().await;
    for n in 1..=5 {
        fixture
            .commit(&prices(), 0, n, vec![price("2026-11-01", n as i64)])
            .await;
        let ids = (
            one.expect("row", shown("2026-11-01", n as i64)).await.id,
            two.expect("row", shown("2026-11-01", n as i64)).await.id,
        );
        assert_eq!(ids.0, ids.1);
    }
}
