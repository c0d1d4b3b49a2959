//! Logging in, refreshing, and what closing an account does to both.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::system::{account, command, log_in, post, system};

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
