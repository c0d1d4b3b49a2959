//! PostgREST's grammar over HTTP: filters, pages and their links, counts, forms, what nobody may reach, and hostile text.

use axum::body::Body;
use axum::http::Request;
use read_models::{Access, ColumnType, ReadModel, Value};
use serde_json::{Value as Json, json};

use crate::fixture::{ADA, Answer, BOB, EVE, Fixture, day, prices, send, stream, takings};

/// Rows of a day each, cents 100 to 900, final on even days; the ninth has no cents.
async fn priced() -> Fixture {
    let fixture = Fixture::new().await;
    let row = |d: i64| {
        let cents: Value = if d == 9 {
            Value::Null
        } else {
            (d * 100).into()
        };
        (
            vec![day(&format!("2026-11-{d:02}"))],
            vec![cents, (d % 2 == 0).into()],
        )
    };
    fixture
        .commit(&prices(), 0, 9, (1..=9).map(row).collect())
        .await;
    fixture
}

fn days(answer: &Answer) -> Vec<u32> {
    let rows = answer.json();
    let rows = rows.as_array().unwrap_or_else(|| panic!("{}", answer.text));
    let day = |row: &Json| row["day"].as_str().unwrap()[8..].parse().unwrap();
    rows.iter().map(day).collect()
}

async fn with(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = fixture.bearer(ADA, &[]);
    let headers = [headers, &[("authorization", &bearer)]].concat();
    fixture.get(path, &headers).await
}

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
async fn filters_orders_and_columns_are_as_postgrest_has_them() {
    let fixture = priced().await;
    for (query, expected) in [
        ("cents=gte.300&cents=lt.500", &[3, 4][..]),
        ("cents=not.gt.200", &[1, 2]),
        ("cents=is.null", &[9]),
        ("final=is.true&order=day.desc&limit=2", &[8, 6]),
        ("day=in.(2026-11-01,2026-11-09,2027-01-01)", &[1, 9]),
        (
            "or=(cents.eq.100,and(final.is.true,day.gt.2026-11-06))",
            &[1, 8],
        ),
        ("not.or=(cents.gt.200,cents.is.null)", &[1, 2]),
        ("order=cents.desc&limit=2", &[9, 8]),
        ("order=cents.desc.nullslast&limit=2", &[8, 7]),
        ("order=cents.nullsfirst&limit=2&offset=1", &[1, 2]),
        (
            "_position=eq.9&order=_updated_at,final.desc,day.desc&limit=1",
            &[8],
        ),
    ] {
        let answer = fixture
            .get_as(ADA, &[], &format!("/v1/prices?{query}"))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(days(&answer), expected, "{query}");
    }
    let answer = fixture
        .get_as(ADA, &[], "/v1/prices?select=price:cents,day&limit=1")
        .await;
    assert_eq!(answer.text, r#"[{"price":100,"day":"2026-11-01"}]"#);
    let row = fixture
        .get_as(ADA, &[], "/v1/prices/2026-11-02?select=cents")
        .await;
    assert_eq!(row.text, r#"{"cents":200}"#);
}

#[tokio::test]
async fn mistakes_are_told_with_what_is_allowed_in_postgrests_fields() {
    let fixture = priced().await;
    let path = "/v1/prices?cents=eq.many&final=like.x&price=eq.1&order=cost&select=day::text";
    let answer = fixture.get_as(ADA, &[], path).await;
    assert_eq!(answer.verdict(), (400, "malformed".into()));
    let body = answer.json();
    let pointers: Vec<_> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["pointer"])
        .collect();
    assert_eq!(pointers, ["cents", "final", "price", "select", "order"]);
    let message = body["message"].as_str().unwrap();
    for told in [
        "\"many\"",
        "eq, neq, gt, gte, lt, lte, in, is",
        "day, cents, final, _position, _updated_at",
    ] {
        assert!(message.contains(told), "{told}: {message}");
    }
    assert_eq!(body["details"], body["message"]);
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
    let known = [("prefer", "count=exact"), ("if-none-match", etag.as_str())];
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
async fn personal_values_are_selected_and_never_filtered_and_are_opened_in_csv_too() {
    let fixture = Fixture::new().await;
    fixture.account(ADA, 1).await;
    let csv = with(
        &fixture,
        "/v1/accounts?select=email,custom",
        &[("accept", "text/csv")],
    )
    .await;
    assert_eq!(
        csv.text,
        format!("email,custom\r\n{ADA}@example.org,\"{{\"\"a\"\":[true],\"\"b\"\":1}}\"\r\n")
    );
    let masked = fixture
        .get_as(BOB, &["read:accounts"], "/v1/accounts?select=email")
        .await;
    assert_eq!(masked.text, r#"[{"email":null}]"#);
    for query in [
        "email=eq.a",
        "email=like.*",
        "email=in.(a)",
        "order=email",
        "or=(email.gt.a)",
    ] {
        let answer = fixture
            .get_as(
                ADA,
                &["read:personal", "read:*"],
                &format!("/v1/accounts?{query}"),
            )
            .await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text.contains("personal"), "{}", answer.text);
    }
    assert_eq!(
        fixture
            .get_as(ADA, &[], "/v1/accounts?email=not.is.null")
            .await
            .json()[0]["version"],
        1
    );
}

#[tokio::test]
async fn a_filter_never_reaches_rows_of_others() {
    let fixture = Fixture::new().await;
    for (person, position) in [(ADA, 1), (BOB, 2)] {
        fixture.account(person, position).await;
    }
    for query in [
        format!("account_id=eq.{BOB}"),
        format!("or=(account_id.eq.{BOB},version.gt.0)"),
        "not.and=(version.gt.100)".to_owned(),
        "limit=1000&offset=0&order=version.desc".to_owned(),
    ] {
        let bearer = fixture.bearer(ADA, &[]);
        let headers = [
            ("authorization", bearer.as_str()),
            ("prefer", "count=exact"),
        ];
        let answer = fixture
            .get(&format!("/v1/accounts?{query}"), &headers)
            .await;
        assert!(!answer.text.contains(&BOB.to_string()), "{query}");
        let total = answer
            .header("content-range")
            .split('/')
            .nth(1)
            .unwrap()
            .to_owned();
        assert!(["0", "1"].contains(&total.as_str()), "{query}: {total}");
    }
}

/// A read model with a column for holders of a scope.
pub fn salaries() -> ReadModel {
    ReadModel::new("salaries")
        .key("id", ColumnType::Integer)
        .column("name", ColumnType::Text)
        .column_with_scope("cents", ColumnType::Integer, "read:salaries-cents")
        .readable_by(Access::Authenticated)
}

#[tokio::test]
async fn a_column_does_not_exist_for_who_lacks_its_scope() {
    let fixture = Fixture::new().await;
    let row = vec![(vec![1.into()], vec!["=cmd".into(), 500.into()])];
    fixture.commit(&salaries(), 0, 1, row).await;
    let plain = fixture.get_as(ADA, &[], "/v1/salaries?select=*").await;
    assert!(!plain.text.contains("cents"), "{}", plain.text);
    let one = fixture.get_as(ADA, &[], "/v1/salaries/1").await;
    assert!(
        !one.text.contains("cents") && one.status == 200,
        "{}",
        one.text
    );
    for query in [
        "select=cents",
        "cents=gt.1",
        "order=cents",
        "or=(cents.gt.1,id.eq.1)",
    ] {
        let answer = fixture
            .get_as(ADA, &[], &format!("/v1/salaries?{query}"))
            .await;
        assert_eq!(answer.status, 400, "{query}");
        let allowed = answer.json()["message"]
            .as_str()
            .unwrap()
            .replace("\"cents\"", "");
        assert!(!allowed.contains("cents"), "{allowed}");
    }
    assert_eq!(
        fixture
            .get_as(ADA, &[], "/v1/salaries/1?select=cents")
            .await
            .status,
        400
    );
    let scoped = fixture
        .get_as(
            ADA,
            &["read:salaries-cents"],
            "/v1/salaries?cents=gt.1&select=cents",
        )
        .await;
    assert_eq!(scoped.text, r#"[{"cents":500}]"#);
    let csv = with(
        &fixture,
        "/v1/salaries?select=id,name",
        &[("accept", "text/csv")],
    )
    .await;
    assert_eq!(csv.text, "id,name\r\n1,'=cmd\r\n");
}

#[tokio::test]
async fn every_form_of_a_list_waits_for_the_position_token() {
    let fixture = priced().await;
    let other = Fixture::second(&fixture).await;
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

/// Text that is thrown at the route: pieces of the grammar, in any order, broken in any way.
const PIECES: [&str; 44] = [
    "cents",
    "day",
    "final",
    "select",
    "order",
    "limit",
    "offset",
    "or",
    "and",
    "not.",
    "not.or",
    "_cursor",
    "_position",
    "=",
    "&",
    ".",
    ",",
    "(",
    ")",
    "eq.",
    "in.(",
    "is.null",
    "like.",
    "gte",
    "desc",
    "nullsfirst",
    "*",
    "::text",
    "->",
    "\"",
    "%22",
    "%00",
    "%FF",
    "%F0%9F%92%A9",
    "'",
    ";--",
    "9223372036854775808",
    "-1",
    "2026-11-02",
    "{",
    "}",
    "\\",
    "%5C",
    "%",
];

#[tokio::test]
async fn no_query_string_makes_the_server_fail() {
    let fixture = priced().await;
    let bearer = fixture.bearer(ADA, &[]);
    let mut state = 0x5eed_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut fine = 0;
    for _ in 0..3_000 {
        let mut query = String::new();
        if draw(2) == 0 {
            query.push_str(["cents=", "or=(cents.", "select=", "order=", "day=in.("][draw(5)]);
        }
        for _ in 0..draw(12) {
            query.push_str(PIECES[draw(PIECES.len())]);
        }
        let Ok(uri) = format!("/v1/prices?{query}").parse::<axum::http::Uri>() else {
            continue;
        };
        let accept = ["application/json", "text/csv", "*/*"][draw(3)];
        let request = Request::get(uri)
            .header("authorization", &bearer)
            .header("accept", accept);
        let answer = send(&fixture.app, request.body(Body::empty()).unwrap()).await;
        assert!(answer.status < 500, "{query}: {}", answer.text);
        assert!(
            answer.status != 200 || answer.header("etag") != "",
            "{query}"
        );
        fine += u32::from(answer.status == 200);
    }
    assert!(fine > 50, "{fine} were questions");
    let deep = format!(
        "/v1/prices?or={}cents.eq.1{}",
        "(or".repeat(3000),
        ")".repeat(3000)
    );
    assert_eq!(
        fixture
            .get(&deep, &[("authorization", &bearer)])
            .await
            .status,
        400
    );
    let long = format!("/v1/prices?day=in.({})", "2026-11-02,".repeat(2000));
    assert_eq!(
        fixture
            .get(&long, &[("authorization", &bearer)])
            .await
            .verdict(),
        (414, "uri_too_long".into())
    );
}
