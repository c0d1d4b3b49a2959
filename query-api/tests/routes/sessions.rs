//! An account's open sessions.

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;
use vault::{NewSession, Seen};

use crate::fixture::{ADA, BOB, EVE, Fixture, SESSION, moment, stream};

const MINE: &str = "/v1/accounts/me/sessions";
const OTHER: Uuid = Uuid::from_u128(6);

/// An hour from now, as the vault holds it.
fn later() -> DateTime<Utc> {
    (Utc::now() + TimeDelta::hours(1)).trunc_subsecs(3)
}

async fn begin(fixture: &Fixture, id: Uuid, account: Uuid, expires_at: DateTime<Utc>) {
    let session = NewSession {
        id,
        account,
        // The other one is newer.
        started_at: moment().trunc_subsecs(3) + TimeDelta::hours(i64::from(id == OTHER)),
        expires_at,
        second_factor: id == OTHER,
        seen: Seen {
            device: Some("Ada's phone".into()),
            address: Some("192.0.2.1".into()),
        },
    };
    fixture.vault.begin_session(session).await.unwrap();
}

/// Their ids, in order.
fn ids(list: &Value) -> Vec<Uuid> {
    let sessions = list.as_array().unwrap().iter();
    sessions
        .map(|session| session["id"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_list_says_of_each_open_session_when_where_and_whether_it_asks() {
    let fixture = Fixture::without_session().await;
    let end = later();
    begin(&fixture, SESSION, ADA, end).await;
    begin(&fixture, OTHER, ADA, end).await;
    begin(&fixture, Uuid::from_u128(7), BOB, end).await;
    begin(&fixture, Uuid::from_u128(8), ADA, moment()).await;
    let end = end.to_rfc3339_opts(SecondsFormat::Micros, true);
    let expected = format!(
        r#"[{{"id":"{OTHER}","started_at":"2026-11-22T11:00:00.123000Z","last_seen_at":"2026-11-22T11:00:00.123000Z","expires_at":"{end}","second_factor":true,"device":"Ada's phone","address":"192.0.2.1","current":false}},{{"id":"{SESSION}","started_at":"2026-11-22T10:00:00.123000Z","last_seen_at":"2026-11-22T10:00:00.123000Z","expires_at":"{end}","second_factor":false,"device":"Ada's phone","address":"192.0.2.1","current":true}}]"#
    );
    let own = format!("/v1/accounts/{ADA}/sessions");
    for path in [MINE, &own] {
        let answer = fixture.get_as(ADA, &[], path).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, expected.as_str()),
            "{path}"
        );
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let by_key = fixture.get_by_key(ADA, &["self:read"], MINE).await.json();
    assert_eq!(ids(&by_key), [OTHER, SESSION]);
    assert_eq!(
        (&by_key[1]["current"], &by_key[1]["device"]),
        (&json!(false), &json!("Ada's phone"))
    );
}

#[tokio::test]
async fn others_need_a_scope_for_the_list_and_one_more_for_what_is_personal() {
    let fixture = Fixture::new().await;
    begin(&fixture, OTHER, ADA, later()).await;
    let path = format!("/v1/accounts/{ADA}/sessions");
    let asked = async |scopes: &[&str]| fixture.get_as(BOB, scopes, &path).await;
    assert_eq!(fixture.get(&path, &[]).await.status, 401);
    assert_eq!(
        asked(&["read:accounts", "read:personal"]).await.verdict(),
        (404, "not_found".into())
    );
    let nobodys = format!("/v1/accounts/{}/sessions", Uuid::from_u128(1));
    assert_eq!(
        fixture.get_as(BOB, &[], &nobodys).await.verdict(),
        (404, "not_found".into())
    );
    assert_eq!(
        fixture.get_as(BOB, &["read:sessions"], &nobodys).await.text,
        "[]"
    );
    for (scopes, device, address) in [
        (&["read:sessions"][..], Value::Null, Value::Null),
        (&["read:*", "*"], Value::Null, Value::Null),
        (
            &["read:sessions", "read:personal"],
            json!("Ada's phone"),
            json!("192.0.2.1"),
        ),
    ] {
        let list = asked(scopes).await.json();
        assert_eq!(ids(&list), [OTHER], "{scopes:?}");
        assert_eq!(
            (&list[0]["device"], &list[0]["address"]),
            (&device, &address),
            "{scopes:?}"
        );
    }
}

#[tokio::test]
async fn the_list_is_never_kept_and_never_waits() {
    let fixture = Fixture::without_session().await;
    begin(&fixture, SESSION, ADA, later()).await;
    begin(&fixture, OTHER, ADA, later()).await;
    // No read model is ever this far.
    let token = fixture.after(1, &stream("session-5"), 1_000_000);
    let answer = fixture.get_after(ADA, MINE, &token).await;
    assert_eq!(ids(&answer.json()), [OTHER, SESSION]);
    assert_eq!(
        (answer.header("cache-control"), answer.header("etag")),
        ("no-store", "")
    );
    fixture.vault.end_session(OTHER, Utc::now()).await.unwrap();
    assert_eq!(ids(&fixture.get_as(ADA, &[], MINE).await.json()), [SESSION]);
}

#[tokio::test]
async fn where_an_erased_persons_sessions_were_is_gone() {
    let fixture = Fixture::new().await;
    begin(&fixture, OTHER, EVE, later()).await;
    fixture.vault.erase_person(EVE, Utc::now()).await.unwrap();
    let path = format!("/v1/accounts/{EVE}/sessions");
    let scopes = ["read:sessions", "read:personal"];
    let answer = fixture.get_as(ADA, &scopes, &path).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let session = &answer.json()[0];
    assert_eq!(
        (&session["device"], &session["address"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_beginning_that_nobody_knows_is_null() {
    let fixture = Fixture::new().await;
    let session = NewSession {
        id: OTHER,
        account: ADA,
        started_at: DateTime::UNIX_EPOCH,
        expires_at: later(),
        second_factor: false,
        seen: Seen::default(),
    };
    fixture.vault.begin_session(session).await.unwrap();
    let list = fixture.get_as(ADA, &[], MINE).await.json();
    assert_eq!(
        (&list[0]["started_at"], &list[0]["device"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn paths_parameters_and_tokens_that_are_none_are_refused() {
    let fixture = Fixture::new().await;
    for path in [
        "/v1/accounts/ada/sessions",
        "/v1/accounts/me/sessions?limit=1",
    ] {
        let answer = fixture.get_as(ADA, &[], path).await;
        assert_eq!(answer.verdict(), (400, "malformed".into()), "{path}");
    }
    let torn = fixture.get_after(ADA, MINE, "torn").await;
    assert_eq!(torn.verdict(), (400, "malformed".into()));
}
