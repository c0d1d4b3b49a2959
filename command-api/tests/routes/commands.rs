//! Commands on a stream: who may, retries, conflicts between processes, and what reaches the log.

use axum::http::StatusCode;
use events::{StreamId, Version};
use serde_json::{Value, json};

use crate::system::{Answer, PASSWORD, account, command, event_types, post, register, system};

#[tokio::test]
async fn commands_are_denied_to_everyone_but_the_owner_and_the_scope() {
    let system = system().await;
    let (ada, owner) = account(&system.one, "ada@example.org").await;
    let (_, other) = account(&system.one, "eve@example.org").await;
    let (olga, _) = account(&system.one, "olga@example.org").await;
    let scoped = system.api_key(&olga, &["accounts:write"]).await;
    let bodies = [
        ("update-profile", json!({"given_name": "A"})),
        ("change-settings", json!({"theme": "dark"})),
        ("close", json!({})),
    ];
    for (command, body) in bodies {
        let path = format!("/v1/accounts/{ada}/{command}");
        let send = |token: Option<String>| {
            let call = post(&system.one, &path).body(body.clone());
            match token {
                Some(token) => call.bearer(&token).send(),
                None => call.send(),
            }
        };
        assert_eq!(send(None).await.code(), (401, "unauthorized"), "{command}");
        assert_eq!(
            send(Some("x.y.z".into())).await.code(),
            (401, "invalid_token"),
            "{command}"
        );
        assert_eq!(
            send(Some(other.clone())).await.code(),
            (403, "forbidden"),
            "{command}"
        );
        assert_eq!(
            send(Some(owner.clone())).await.status,
            StatusCode::OK,
            "{command}"
        );
        let expected = if command == "close" {
            200
        } else {
            send(Some(scoped.clone())).await.status.as_u16()
        };
        assert_eq!(expected, 200, "{command}");
    }
}

#[tokio::test]
async fn a_stale_if_match_is_refused_and_a_fresh_one_is_not() {
    let system = system().await;
    let (ada, token) = account(&system.one, "ada@example.org").await;
    let path = format!("/v1/accounts/{ada}/change-settings");
    let change = |router, version: &str, theme: &str| {
        post(router, &path)
            .bearer(&token)
            .header("if-match", version)
            .body(json!({"theme": theme}))
            .send()
    };
    let changed = change(&system.one, "\"1\"", "dark").await;
    assert_eq!(
        (changed.status, changed.header("etag")),
        (StatusCode::OK, "\"2\"")
    );
    assert_eq!(
        change(&system.two, "\"1\"", "light").await.code(),
        (412, "precondition_failed")
    );
    assert_eq!(
        change(&system.two, "\"2\"", "light").await.status,
        StatusCode::OK
    );
    // The first process has version 2 cached: the answer comes from the log all the same.
    assert_eq!(
        change(&system.one, "\"3\"", "system").await.status,
        StatusCode::OK
    );
    assert_eq!(
        change(&system.one, "3", "dark").await.code(),
        (400, "malformed")
    );
}

#[tokio::test]
async fn a_refusal_speaks_of_the_log_as_it_is_now() {
    let system = system().await;
    let (_, token) = account(&system.one, "ada@example.org").await;
    let dark = |router| {
        command(router, &token, "change-settings")
            .body(json!({"theme": "dark"}))
            .send()
    };
    let light = |router| {
        command(router, &token, "change-settings")
            .body(json!({"theme": "light"}))
            .send()
    };
    assert_eq!(dark(&system.one).await.body["version"], 2);
    assert_eq!(light(&system.two).await.body["version"], 3);
    // Process one still has "dark" cached, and would find nothing to do.
    let again = dark(&system.one).await;
    assert_eq!(
        (again.status, &again.body["version"], &again.body["events"]),
        (StatusCode::OK, &json!(4), &json!(["SettingsChanged"]))
    );
    // Now there really is nothing to do, and that is a success without events.
    assert_eq!(dark(&system.two).await.body["events"], json!([]));
}

#[tokio::test]
async fn a_retried_command_gets_its_first_answer_even_after_others_followed() {
    let system = system().await;
    let (ada, token) = account(&system.one, "ada@example.org").await;
    // Ada's own token is refused soon after the account closed; an operator's program goes on.
    let (olga, _) = account(&system.one, "olga@example.org").await;
    let program = system.api_key(&olga, &["accounts:write"]).await;
    let path = format!("/v1/accounts/{ada}/change-settings");
    let change = |router, key: &str, body: Value| {
        post(router, &path)
            .bearer(&program)
            .header("idempotency-key", key)
            .body(body)
            .send()
    };
    let first = change(&system.one, "k1", json!({"theme": "dark"})).await;
    change(&system.one, "k2", json!({"theme": "light"})).await;
    command(&system.one, &token, "close").send().await;
    for router in [&system.one, &system.two] {
        let again = change(router, "k1", json!({"theme": "dark"})).await;
        assert_eq!(
            (again.status, again.header("etag")),
            (StatusCode::OK, first.header("etag")),
            "{again:?}"
        );
        assert_eq!(again.body["events"], json!(["SettingsChanged"]));
        assert_eq!(
            change(router, "k1", json!({"theme": "light"})).await.code(),
            (422, "idempotency_key_reused")
        );
        assert_eq!(
            change(router, "k3", json!({"theme": "dark"})).await.code(),
            (409, "account_closed")
        );
    }
}

#[tokio::test]
async fn the_same_command_sent_fifty_times_at_once_is_carried_out_once() {
    let system = system().await;
    let (ada, token) = account(&system.one, "ada@example.org").await;
    let calls = (0..50).map(|n| {
        let router = if n % 2 == 0 { &system.one } else { &system.two };
        command(router, &token, "change-settings")
            .header("idempotency-key", "k")
            .body(json!({"custom": {"n": 1}}))
            .send()
    });
    for answer in futures::future::join_all(calls).await {
        assert!(
            matches!(answer.code(), (200, "") | (409, "in_flight")),
            "{answer:?}"
        );
    }
    assert_eq!(
        event_types(&system, &ada).await,
        ["AccountRegistered", "SettingsChanged"]
    );
}

#[tokio::test]
async fn two_processes_writing_one_stream_lose_nothing() {
    let system = system().await;
    let (ada, token) = account(&system.one, "ada@example.org").await;
    let calls = (0..40).map(|n| {
        let router = if n % 2 == 0 { &system.one } else { &system.two };
        command(router, &token, "change-settings")
            .body(json!({"custom": {"n": n}}))
            .send()
    });
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(event_types(&system, &ada).await.len(), 41);
}

#[tokio::test]
async fn nothing_personal_reaches_the_log() {
    let system = system().await;
    let (ada, token) = account(&system.one, "canary@example.org").await;
    let body = json!({"custom": {"canary-key": "canary-value"}, "locale": "de"});
    command(&system.one, &token, "change-settings")
        .body(body)
        .send()
        .await;
    command(&system.one, &token, "update-profile")
        .body(json!({"phone": "+4930123456"}))
        .send()
        .await;
    let stream = StreamId::new("account", &ada).unwrap();
    for event in system
        .log
        .read_stream(&stream, Version::ZERO, 100)
        .await
        .unwrap()
    {
        let stored = format!("{}{}", event.data, event.metadata);
        for secret in ["canary", "Ada", "4930123456", PASSWORD] {
            assert!(!stored.contains(secret), "{secret} in {stored}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let system = system().await;
    let (_, token) = account(&system.one, "ada@example.org").await;
    let answer = post(&system.one, "/v1/orders").bearer(&token).send().await;
    assert_eq!(answer.code(), (404, "not_found"));
    assert!(answer.body["detail"].as_str().unwrap().contains("accounts"));
    let answer = command(&system.one, &token, "promote").send().await;
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("update-profile"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_position_token_grows_with_every_stream_that_is_written() {
    let system = system().await;
    let first = register(&system.one, "ada@example.org").send().await;
    let second = register(&system.one, "eve@example.org")
        .header("showcaller-after", first.header("showcaller-position"))
        .send()
        .await;
    let open = |answer: &Answer| {
        web::PositionToken::open(answer.header("showcaller-position"), &system.keys).unwrap()
    };
    assert_eq!(
        (open(&first).streams.len(), open(&second).streams.len()),
        (1, 2)
    );
    let forged = register(&system.one, "x@example.org")
        .header("showcaller-after", "AAAA")
        .send()
        .await;
    assert_eq!(forged.code(), (400, "malformed"));
}
