//! PostgREST's grammar over HTTP: filters, orders and columns, mistakes, what nobody may reach, and hostile text.

use axum::body::Body;
use axum::http::Request;
use read_models::{Access, ColumnType, ReadModel, Value};
use serde_json::Value as Json;

use crate::fixture::{ADA, Answer, BOB, Fixture, day, prices, send};

/// Rows of a day each, cents 100 to 900, final on even days; the ninth has no cents.
pub async fn priced() -> Fixture {
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

pub fn days(answer: &Answer) -> Vec<u32> {
    let rows = answer.json();
    let rows = rows.as_array().unwrap_or_else(|| panic!("{}", answer.text));
    let day = |row: &Json| row["day"].as_str().unwrap()[8..].parse().unwrap();
    rows.iter().map(day).collect()
}

pub async fn with(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> Answer {
    let bearer = fixture.bearer(ADA, &[]);
    let headers = [headers, &[("authorization", &bearer)]].concat();
    fixture.get(path, &headers).await
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
            answer.status != 200 || !answer.header("etag").is_empty(),
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
