//! API keys: programs that are somebody only where a scope says so.

use serde_json::{Value, json};

use crate::fixture::{ADA, BOB, Fixture, day, prices};

async fn filled() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.account(ADA, 1).await;
    fixture.account(BOB, 2).await;
    let row = (vec![day("2026-11-22")], vec![7.into(), true.into()]);
    fixture.commit(&prices(), 0, 1, vec![row]).await;
    fixture
}

#[tokio::test]
async fn each_route_answers_each_key_as_its_scopes_say() {
    let fixture = filled().await;
    let (ada, bob) = (format!("/v1/accounts/{ADA}"), format!("/v1/accounts/{BOB}"));
    let (sessions, bobs) = (format!("{ada}/sessions"), format!("{bob}/sessions"));
    // route, for keys of Ada's: no scope, self:read, the scope of the route, all scopes to read
    let matrix: [(&str, &str, [u16; 4]); 11] = [
        ("/v1/accounts", "read:accounts", [403, 200, 200, 200]),
        ("/v1/accounts/me", "read:accounts", [403, 200, 403, 403]),
        (&ada, "read:accounts", [403, 200, 200, 200]),
        (&bob, "read:accounts", [403, 404, 200, 200]),
        ("/v1/notes", "read:notes", [403, 200, 200, 200]),
        ("/v1/prices", "read:prices", [403, 200, 200, 200]),
        ("/v1/prices/2026-11-22", "read:prices", [403, 200, 200, 200]),
        ("/v1/takings", "read:takings", [403, 403, 200, 200]),
        (
            "/v1/accounts/me/sessions",
            "read:sessions",
            [403, 200, 403, 403],
        ),
        (&sessions, "read:sessions", [403, 200, 200, 200]),
        (&bobs, "read:sessions", [404, 404, 200, 200]),
    ];
    for (path, scope, expected) in matrix {
        let scopes: [&[&str]; 4] = [&["self:write"], &["self:read"], &[scope], &["read:*"]];
        for (scopes, expected) in scopes.into_iter().zip(expected) {
            let answer = fixture.get_by_key(ADA, scopes, path).await;
            assert_eq!(answer.status, expected, "{path} with {scopes:?}");
        }
    }
    let refusal = fixture.get_by_key(ADA, &[], "/v1/accounts/me").await;
    assert!(refusal.text.contains("self:read"), "{}", refusal.text);
}

#[tokio::test]
async fn a_key_sees_its_owners_rows_and_values_with_one_scope() {
    let fixture = filled().await;
    let emails = async |scopes: &[&str]| {
        let rows = fixture.get_by_key(ADA, scopes, "/v1/accounts").await.json();
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["email"].clone()).collect::<Vec<Value>>()
    };
    let email = |person| json!(format!("{person}@example.org"));
    assert_eq!(emails(&["self:read"]).await, [email(ADA)]);
    // Every row, and nobody's values; not even its owner's.
    assert_eq!(emails(&["read:accounts"]).await, [Value::Null, Value::Null]);
    let mut both = emails(&["read:accounts", "self:read"]).await;
    both.retain(|email| !email.is_null());
    assert_eq!(both, [email(ADA)]);
    let all = emails(&["read:accounts", "read:personal"]).await;
    assert!(
        all.contains(&email(ADA)) && all.contains(&email(BOB)),
        "{all:?}"
    );
}
