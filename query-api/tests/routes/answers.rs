//! What answers look like: JSON, pages, validators.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use query_api::{Overview, QuerySettings};
use serde_json::json;

use crate::fixture::{ADA, BOB, Fixture, day, get_from, prices};

async fn priced() -> Fixture {
    let fixture = Fixture::new().await;
    let row = |d: i64| {
        (
            vec![day(&format!("2026-11-{d:02}"))],
            vec![(d * 100).into(), (d % 2 == 0).into()],
        )
    };
    fixture
        .commit(&prices(), 0, 9, (1..=9).map(row).collect())
        .await;
    fixture
}

#[tokio::test]
async fn a_row_has_its_columns_in_order_and_its_position() {
    let fixture = priced().await;
    let row = fixture.get_as(ADA, &[], "/v1/prices/2026-11-02").await;
    assert_eq!(
        row.text,
        r#"{"day":"2026-11-02","cents":200,"final":true,"_position":9,"_updated_at":"2026-11-22T10:00:00.123450Z"}"#
    );
    assert_eq!(row.header("content-type"), "application/json");
    fixture.account(ADA, 7).await;
    let row = fixture.get_as(ADA, &[], "/v1/accounts/me").await;
    let expected = format!(
        r#"{{"account_id":"{ADA}","status":"pending","email":"{ADA}@example.org","custom":{{"a":[true],"b":1}},"registered_at":"2026-11-22T10:00:00.123450Z","version":7,"_position":7,"_updated_at":"2026-11-22T10:00:00.123450Z"}}"#
    );
    assert_eq!(row.text, expected);
    assert_eq!(fixture.get_as(BOB, &[], "/v1/accounts").await.text, "[]");
}

#[tokio::test]
async fn a_list_is_paged_in_the_order_of_the_key() {
    let fixture = priced().await;
    let days = async |query: &str| {
        let rows = fixture
            .get_as(ADA, &[], &format!("/v1/prices{query}"))
            .await
            .json();
        let days = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["cents"].as_i64().unwrap() / 100);
        days.collect::<Vec<_>>()
    };
    assert_eq!(days("").await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(days("?limit=2&offset=3").await, [4, 5]);
    assert_eq!(days("?limit=0").await, [0; 0]);
    assert_eq!(days("?offset=100").await, [0; 0]);
}

#[tokio::test]
async fn unknown_parameters_and_keys_that_are_none_are_refused() {
    let fixture = priced().await;
    let answer = fixture
        .get_as(ADA, &[], "/v1/prices?dollars=eq.1&limit=5000")
        .await;
    assert_eq!(answer.verdict(), (400, "malformed".into()));
    let body = answer.json();
    assert_eq!(body["errors"][0]["pointer"], "dollars");
    assert_eq!(body["errors"][1]["code"], "out_of_range");
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("select, order, limit, offset"),
        "{body}"
    );
    assert!(body.get("hint").is_some() && body.get("details").is_some());
    for path in [
        "/v1/prices/monday",
        "/v1/prices/2026-11-02?limit=1",
        "/v1/prices/2026-11-02?select=dollars",
        "/v1/prices/2026-11-02,1",
        "/v1/accounts/x",
    ] {
        assert_eq!(
            fixture.get_as(ADA, &[], path).await.verdict(),
            (400, "malformed".into()),
            "{path}"
        );
    }
    assert_eq!(
        fixture
            .get_as(ADA, &[], "/v1/prices/2026-12-24")
            .await
            .verdict(),
        (404, "not_found".into())
    );
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let fixture = priced().await;
    let bearer = fixture.bearer(ADA, &[]);
    for path in ["/v1/prices", "/v1/prices/2026-11-02"] {
        let first = fixture.get(path, &[("authorization", &bearer)]).await;
        assert_eq!(first.header("cache-control"), "private, no-cache");
        assert_eq!(first.header("vary"), "Authorization");
        let etag = first.header("etag").to_owned();
        assert!(etag.starts_with('"') && etag.len() > 10, "{etag}");
        let again = fixture
            .get(
                path,
                &[("authorization", &bearer), ("if-none-match", &etag)],
            )
            .await;
        assert_eq!((again.status, again.text.as_str()), (304, ""));
        assert_eq!(
            (again.header("etag"), again.header("cache-control")),
            (&*etag, "private, no-cache")
        );
    }
    let etag = fixture
        .get_as(ADA, &[], "/v1/prices")
        .await
        .header("etag")
        .to_owned();
    fixture
        .commit(
            &prices(),
            0,
            10,
            vec![(vec![day("2026-11-02")], vec![1.into(), true.into()])],
        )
        .await;
    // Without a token of the write, the cache may know the old list for a moment.
    test_support::eventually(Duration::from_secs(5), async || {
        let headers = [("authorization", &*bearer), ("if-none-match", &etag)];
        fixture.get("/v1/prices", &headers).await.status == 200
    })
    .await;
    // Not even a validator is given to somebody who may not read.
    assert_eq!(
        fixture
            .get("/v1/prices", &[("if-none-match", &etag)])
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn a_rows_validator_begins_with_its_streams_version_and_differs_for_who_sees_less() {
    let fixture = Fixture::new().await;
    fixture.account(ADA, 7).await;
    let path = format!("/v1/accounts/{ADA}");
    let own = fixture.get_as(ADA, &[], &path).await;
    let masked = fixture.get_as(BOB, &["read:accounts"], &path).await;
    assert!(own.header("etag").starts_with("\"7.") && masked.header("etag").starts_with("\"7."));
    assert_ne!(own.header("etag"), masked.header("etag"));
    let bearer = fixture.bearer(BOB, &["read:accounts"]);
    let other = [
        ("authorization", bearer.as_str()),
        ("if-none-match", own.header("etag")),
    ];
    assert_eq!(fixture.get(&path, &other).await.status, 200);
}

#[tokio::test]
async fn operators_who_ask_at_once_are_told_what_one_look_saw() {
    let fixture = Fixture::new().await;
    let looks = Arc::new(AtomicUsize::new(0));
    let looked = Arc::clone(&looks);
    let overview = Overview::new(move || {
        let look = looked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            vec![json!({ "kind": "role", "name": "relay", "state": look.to_string() })]
        })
    });
    let settings = QuerySettings {
        overview: Some(overview),
        ..QuerySettings::default()
    };
    let app = fixture.process(settings).await;
    let path = "/v1/operator/status";
    let bearer = fixture.bearer(ADA, &["operator"]);
    let headers = [("authorization", bearer.as_str())];
    let (one, other) = tokio::join!(
        get_from(&app, path, &headers),
        get_from(&app, path, &headers)
    );
    assert_eq!(one.text, r#"[{"kind":"role","name":"relay","state":"0"}]"#);
    assert_eq!((other.text, looks.load(Ordering::SeqCst)), (one.text, 1));
    let other = fixture.bearer(BOB, &[]);
    let refused = get_from(&app, path, &[("authorization", &other)]).await;
    assert_eq!(refused.verdict(), (403, "forbidden".to_owned()));
}
