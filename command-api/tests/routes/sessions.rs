//! Logging in, refreshing, and what closing an account does to both.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::access::until_refused;
use crate::system::{PASSWORD, account, command, log_in, post, system};

#[tokio::test]
async fn wrong_password_and_unknown_address_get_the_same_answer() {
    let system = system().await;
    account(&system.one, "ada@example.org").await;
    let log_in = |email: &str, password: &str| {
        post(&system.one, "/v1/sessions")
            .body(json!({"email": email, "password": password}))
            .send()
    };
    let mut wrong = log_in("ada@example.org", "not this one").await;
    let mut unknown = log_in("eve@example.org", "not this one").await;
    assert_eq!(wrong.code(), (401, "invalid_credentials"));
    for answer in [&mut wrong, &mut unknown] {
        answer.body["trace_id"] = Value::Null;
    }
    assert_eq!((wrong.status, wrong.body), (unknown.status, unknown.body));
}

#[tokio::test]
async fn a_closed_account_is_closed_everywhere_at_once() {
    let system = system().await;
    let (_, token) = account(&system.one, "ada@example.org").await;
    let session = log_in(&system.two, "ada@example.org").send().await;
    let closed = command(&system.one, &token, "close").send().await;
    assert_eq!(closed.body["events"], json!(["AccountClosed"]));
    assert_eq!(
        log_in(&system.two, "ada@example.org").send().await.code(),
        (401, "invalid_credentials")
    );
    let refresh = json!({"refresh_token": session.body["refresh_token"]});
    assert_eq!(
        post(&system.two, "/v1/sessions/refresh")
            .body(refresh)
            .send()
            .await
            .code(),
        (401, "invalid_refresh_token")
    );
}

#[tokio::test]
async fn a_refresh_token_gives_new_tokens() {
    let system = system().await;
    account(&system.one, "ada@example.org").await;
    let session = log_in(&system.one, "ada@example.org").send().await;
    let refresh = json!({"refresh_token": session.body["refresh_token"]});
    let refreshed = post(&system.two, "/v1/sessions/refresh")
        .body(refresh)
        .send()
        .await;
    assert_eq!(refreshed.status, StatusCode::OK, "{refreshed:?}");
    let token = refreshed.body["access_token"].as_str().unwrap();
    let changed = command(&system.two, token, "change-settings")
        .body(json!({"theme": "dark"}))
        .send()
        .await;
    assert_eq!(changed.status, StatusCode::OK);
    let nonsense = json!({"refresh_token": "nonsense"});
    assert_eq!(
        post(&system.one, "/v1/sessions/refresh")
            .body(nonsense)
            .send()
            .await
            .code(),
        (401, "invalid_refresh_token")
    );
}

#[tokio::test]
async fn a_refresh_token_that_was_used_ends_the_session_after_the_grace() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let refresh = |token: &str| {
        let body = json!({ "refresh_token": token });
        post(&system.one, "/v1/sessions/refresh").body(body).send()
    };
    let second = refresh(&ada.refresh)
        .await
        .expect(200)
        .text("refresh_token");
    let same = refresh(&ada.refresh)
        .await
        .expect(200)
        .text("refresh_token");
    assert_eq!(same, second, "within the grace it is the same successor");
    system.clock.advance(11);
    for token in [&ada.refresh, &second] {
        assert_eq!(refresh(token).await.code(), (401, "invalid_refresh_token"));
    }
    until_refused(&system, &ada.access).await;
}

#[tokio::test]
async fn twenty_refreshes_at_once_get_one_successor() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let body = json!({ "refresh_token": ada.refresh });
    let calls = (0..20).map(|n| {
        let router = if n % 2 == 0 { &system.one } else { &system.two };
        post(router, "/v1/sessions/refresh")
            .body(body.clone())
            .send()
    });
    let mut successors: Vec<String> = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(|answer| answer.expect(200).text("refresh_token"))
        .collect();
    successors.dedup();
    assert_eq!(successors.len(), 1);
}

#[tokio::test]
async fn tokens_of_before_a_password_change_are_refused_but_for_its_own_session() {
    let system = system().await;
    let thief = system.person("ada@example.org").await;
    let ada = system.returning("ada@example.org").await;
    let body = json!({"password": PASSWORD, "new_password": "another lighthouse"});
    system.give(&ada, "change-password", body).await.expect(200);
    let refresh = json!({ "refresh_token": thief.refresh });
    let refreshed = post(&system.two, "/v1/sessions/refresh")
        .body(refresh)
        .send()
        .await;
    assert_eq!(refreshed.code(), (401, "invalid_refresh_token"));
    until_refused(&system, &thief.access).await;
    let old = log_in(&system.one, "ada@example.org").send().await;
    assert_eq!(old.code(), (401, "invalid_credentials"));
    system
        .give(&ada, "change-settings", json!({"theme": "dark"}))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_log_in_with_the_old_password_outlives_no_password_change() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let log_ins = (0..12).map(|n| {
        let router = if n % 2 == 0 { &system.one } else { &system.two };
        log_in(router, "ada@example.org").send()
    });
    let body = json!({"password": PASSWORD, "new_password": "another lighthouse"});
    let change = system.give(&ada, "change-password", body);
    let (changed, log_ins) = futures::join!(change, futures::future::join_all(log_ins));
    changed.expect(200);
    for log_in in log_ins {
        if log_in.status != StatusCode::CREATED {
            assert_eq!(log_in.code(), (401, "invalid_credentials"));
            continue;
        }
        let body = json!({ "refresh_token": log_in.text("refresh_token") });
        let refreshed = post(&system.one, "/v1/sessions/refresh")
            .body(body)
            .send()
            .await;
        assert_eq!(refreshed.code(), (401, "invalid_refresh_token"));
    }
}

#[tokio::test]
async fn an_erased_account_says_so_with_one_status() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let (_, operator, _) = system.operator("olga@example.org").await;
    system
        .give(&ada, "erase", json!({"password": PASSWORD}))
        .await
        .expect(200);
    for (name, body) in [
        ("update-profile", json!({"display_name": "Eve"})),
        ("change-settings", json!({"theme": "dark"})),
        ("close", json!({})),
        ("grant-role", json!({"role": "operator"})),
        ("export", json!({})),
        ("erase", json!({})),
    ] {
        let path = format!("/v1/accounts/{}/{name}", ada.account);
        let answer = post(&system.one, &path)
            .bearer(&operator.access)
            .body(body)
            .send()
            .await;
        assert_eq!(answer.code(), (410, "erased"), "{name}");
    }
}
