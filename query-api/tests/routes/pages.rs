//! Pages of lists: their links and cursors, counts and windows, forms, and position tokens.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use web::AFTER_HEADER;

use crate::fixture::{ADA, Answer, BOB, EVE, Fixture, day, prices, send, stream, takings};
use crate::queries::{days, priced, with};

/// The path of the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    let path = link
        .strip_prefix('<')
        .unwrap()
        .strip_suffix(">; rel=\"next\"")
        .unwrap();
    Some(path.to_owned())
}

#[tokio::test]
async fn links_lead_through_all_pages_and_keep_the_question() {
    let fixture = priced().await;
    let mut path =
        "/v1/prices?select=day&order=cents.desc.nullslast&cents=not.eq.500&limit=3&offset=1"
            .to_owned();
    let mut seen = Vec::new();
    loop {
        let answer = fixture.get_as(ADA, &[], &path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        seen.push(days(&answer));
        let Some(link) = next(&answer) else { break };
        assert!(
            link.starts_with("/v1/prices?select=day&order=") && link.contains("limit=3"),
            "{link}"
        );
        assert!(!link.contains("offset"), "{link}");
        path = link;
    }
    assert_eq!(seen, [vec![7, 6, 4], vec![3, 2, 1]]);
    // A window of the header goes on as a limit.
    let ranged = with(&fixture, "/v1/prices", &[("range", "0-3")]).await;
    let rest = fixture.get_as(ADA, &[], &next(&ranged).unwrap()).await;
    assert_eq!(
        (days(&ranged), days(&rest)),
        (vec![1, 2, 3, 4], vec![5, 6, 7, 8])
    );
    // A whole page that is the last has no link.
    assert_eq!(
        next(&fixture.get_as(ADA, &[], "/v1/prices?limit=9").await),
        None
    );
}

#[tokio::test]
async fn a_cursor_is_good_for_its_question_and_its_caller_alone() {
    let fixture = Fixture::new().await;
    for (person, position) in [(ADA, 1), (BOB, 2), (EVE, 3)] {
        fixture.account(person, position).await;
    }
    let scoped = ["read:accounts"];
    let first = fixture
        .get_as(ADA, &scoped, "/v1/accounts?limit=1&order=version")
        .await;
    let link = next(&first).unwrap();
    let second = fixture.get_as(ADA, &scoped, &link).await;
    assert_eq!(second.json()[0]["account_id"], json!(BOB));
    // Another holder of the scope reaches the same rows.
    assert_eq!(
        fixture.get_as(EVE, &scoped, &link).await.text.len(),
        second.text.len()
    );
    let cursor = link.split("_cursor=").nth(1).unwrap();
    let mut changed = cursor.to_owned();
    let flipped = if changed.ends_with('A') { 'B' } else { 'A' };
    changed.replace_range(0..1, &flipped.to_string());
    for path in [
        format!("/v1/accounts?limit=1&order=version.desc&_cursor={cursor}"),
        format!("/v1/accounts?limit=1&_cursor={cursor}"),
        format!("/v1/accounts?order=version&status=eq.pending&_cursor={cursor}"),
        format!("/v1/notes?_cursor={cursor}"),
        format!("/v1/accounts?order=version&_cursor={changed}"),
        format!("/v1/accounts?order=version&_cursor={}", &cursor[..10]),
        "/v1/accounts?order=version&_cursor=".to_owned(),
        format!("/v1/accounts?order=version&_cursor={}", "A".repeat(9000)),
    ] {
        let answer = fixture
            .get_as(ADA, &["read:accounts", "read:notes"], &path)
            .await;
        assert_eq!(answer.verdict(), (400, "malformed".into()), "{path}");
        assert_eq!(answer.json()["errors"][0]["code"], "foreign_cursor");
    }
    // Somebody who reaches their own row alone.
    let other = fixture.get_as(BOB, &[], &link).await;
    assert_eq!(other.verdict(), (400, "malformed".into()));
}

#[tokio::test]
async fn counts_and_windows_answer_as_postgrest_does() {
    let fixture = priced().await;
    let counted = [("prefer", "count=exact")];
    let answer = with(
        &fixture,
        "/v1/prices?cents=gt.100&limit=3&offset=2",
        &counted,
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (206, "2-4/7")
    );
    assert_eq!(answer.header("preference-applied"), "count=exact");
    let whole = with(&fixture, "/v1/prices", &counted).await;
    assert_eq!(
        (whole.status, whole.header("content-range")),
        (200, "0-8/9")
    );
    let uncounted = with(&fixture, "/v1/prices?limit=2", &[]).await;
    assert_eq!(
        (uncounted.status, uncounted.header("content-range")),
        (200, "0-1/*")
    );
    let none = with(&fixture, "/v1/prices?cents=gt.5000", &counted).await;
    assert_eq!((none.status, none.header("content-range")), (200, "*/0"));
    let beyond = with(&fixture, "/v1/prices?offset=10", &counted).await;
    assert_eq!(beyond.verdict(), (416, "range_not_satisfiable".into()));
    assert_eq!(beyond.header("content-range"), "*/9");
    let range = with(
        &fixture,
        "/v1/prices",
        &[
            ("range", "2-4"),
            ("range-unit", "items"),
            ("prefer", "count=exact"),
        ],
    )
    .await;
    assert_eq!((range.status, days(&range)), (206, vec![3, 4, 5]));
    assert_eq!(
        with(&fixture, "/v1/prices", &[("range", "4-2")])
            .await
            .status,
        416
    );
    assert_eq!(
        with(&fixture, "/v1/prices?limit=1", &[("range", "0-2")])
            .await
            .status,
        400
    );
    // The number of rows is part of what a client has, even where the rows are the same.
    let etag = answer.header("etag").to_owned();
    fixture
        .commit(
            &prices(),
            1,
            10,
            vec![(vec![day("2026-12-01")], vec![1000.into(), true.into()])],
        )
        .await;
    // Without the token, the cache may know the old page for a moment.
    let token = fixture.after(1, &stream("price-1"), 10);
    let known = [
        ("prefer", "count=exact"),
        ("if-none-match", etag.as_str()),
        (AFTER_HEADER, &token),
    ];
    let changed = with(&fixture, "/v1/prices?cents=gt.100&limit=3&offset=2", &known).await;
    assert_eq!(
        (changed.status, changed.header("content-range")),
        (206, "2-4/8")
    );
}

#[tokio::test]
async fn a_head_request_answers_with_the_headers_alone() {
    let fixture = priced().await;
    let request = Request::head("/v1/prices?limit=2")
        .header("authorization", fixture.bearer(ADA, &[]))
        .header("prefer", "count=exact");
    let answer = send(&fixture.app, request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.text.as_str()), (206, ""));
    assert_eq!(answer.header("content-range"), "0-1/9");
}

#[tokio::test]
async fn lists_come_as_csv_and_as_one_object() {
    let fixture = priced().await;
    let csv = with(
        &fixture,
        "/v1/prices?select=day,cents,ready:final&day=gte.2026-11-08",
        &[("accept", "text/csv")],
    )
    .await;
    assert_eq!(
        csv.text,
        "day,cents,ready\r\n2026-11-08,800,true\r\n2026-11-09,,false\r\n"
    );
    assert!(
        csv.header("content-type")
            .starts_with("text/csv; charset=utf-8")
    );
    let object = [("accept", "application/vnd.pgrst.object+json")];
    let one = with(
        &fixture,
        "/v1/prices?day=eq.2026-11-03&select=cents",
        &object,
    )
    .await;
    assert_eq!((one.status, one.text.as_str()), (200, r#"{"cents":300}"#));
    for (query, count) in [("day=eq.2030-01-01", 0), ("limit=3", 3)] {
        let answer = with(&fixture, &format!("/v1/prices?{query}"), &object).await;
        assert_eq!(answer.verdict(), (406, "PGRST116".into()));
        assert_eq!(
            answer.json()["details"],
            format!("The result contains {count} rows")
        );
    }
    let row = with(&fixture, "/v1/prices/2026-11-03", &object).await;
    assert_eq!(row.status, 200);
    for (path, accept) in [
        ("/v1/prices", "text/html"),
        ("/v1/prices/2026-11-03", "text/csv"),
    ] {
        let answer = with(&fixture, path, &[("accept", accept)]).await;
        assert_eq!(answer.verdict(), (406, "not_acceptable".into()));
    }
}

#[tokio::test]
async fn every_form_of_a_list_waits_for_the_position_token() {
    let fixture = priced().await;
    let (other, _) = fixture.second().await;
    let token = fixture.after(1, &stream("price-1"), 20);
    let first = fixture.get_as(ADA, &[], "/v1/prices?limit=2").await;
    let paths = [
        ("/v1/prices?cents=gt.1000".to_owned(), "application/json"),
        ("/v1/prices?cents=gt.1000".to_owned(), "text/csv"),
        (
            "/v1/prices?cents=gt.1000".to_owned(),
            "application/vnd.pgrst.object+json",
        ),
        (next(&first).unwrap(), "application/json"),
        (
            "/v1/prices/2026-12-31?select=cents".to_owned(),
            "application/json",
        ),
    ];
    let asks = |app: &axum::Router, path: &str, accept: &str| {
        let request = Request::get(path)
            .header("authorization", fixture.bearer(ADA, &[]))
            .header("showcaller-after", &token)
            .header("accept", accept)
            .header("prefer", "count=exact");
        let (app, request) = (app.clone(), request.body(Body::empty()).unwrap());
        async move { send(&app, request).await }
    };
    let asked = paths
        .iter()
        .flat_map(|(path, accept)| [asks(&fixture.app, path, accept), asks(&other, path, accept)]);
    let written = async {
        tokio::task::yield_now().await;
        let row = vec![(vec![day("2026-12-31")], vec![5000.into(), true.into()])];
        fixture.commit(&prices(), 1, 20, row).await;
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(asked), written);
    for answer in answers {
        assert!(
            matches!(answer.status, 200 | 206),
            "{} {}",
            answer.status,
            answer.text
        );
        assert!(
            answer.text.contains("5000") || answer.header("content-range").ends_with("/10"),
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn sums_are_filtered_and_paged() {
    let fixture = Fixture::new().await;
    for partition in 0..2 {
        let row = |d: i64| (vec![day(&format!("2026-11-{d:02}"))], vec![(d * 10).into()]);
        fixture
            .commit(&takings(), partition, 5, (1..=6).map(row).collect())
            .await;
    }
    let path = "/v1/takings?cents=gte.60&order=cents.desc&limit=2";
    let first = fixture.get_as(ADA, &["read:takings"], path).await;
    let second = fixture
        .get_as(ADA, &["read:takings"], &next(&first).unwrap())
        .await;
    assert_eq!((days(&first), days(&second)), (vec![6, 5], vec![4, 3]));
    assert_eq!(first.json()[0]["cents"], 120);
}
