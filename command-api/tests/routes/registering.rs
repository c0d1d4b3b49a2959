//! Registering: what it answers, what it refuses, and what a retry gets.

use axum::http::StatusCode;
use serde_json::json;

use crate::system::{PASSWORD, event_types, post, register, registration, system};

#[tokio::test]
async fn registering_answers_with_everything_a_client_goes_on_with() {
    let system = system().await;
    let answer = register(&system.one, "ada@example.org").send().await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("etag"), "\"1\"");
    let id = answer
        .header("location")
        .strip_prefix("/v1/accounts/")
        .unwrap()
        .to_owned();
    assert_eq!(answer.body["stream"], format!("account-{id}"));
    assert_eq!(answer.body["events"], json!(["AccountRegistered"]));
    assert_eq!(answer.body["version"], 1);
    assert_eq!(answer.body["token"], answer.header("showcaller-position"));
    assert_eq!(event_types(&system, &id).await, ["AccountRegistered"]);
}

#[tokio::test]
async fn every_problem_of_a_registration_is_named_at_once() {
    let system = system().await;
    let body = json!({"email": "ada", "password": "short", "profile": {"display_name": "", "phone": "1"}, "admin": true});
    let answer = post(&system.one, "/v1/accounts").body(body).send().await;
    assert_eq!(answer.code(), (422, "invalid"));
    let mut found: Vec<_> = answer.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "/admin",
            "/email",
            "/password",
            "/profile/display_name",
            "/profile/phone"
        ]
    );
}

#[tokio::test]
async fn a_known_address_registers_like_an_unknown_one() {
    let system = system().await;
    let first = register(&system.one, "ada@example.org").send().await;
    let second = register(&system.one, "ADA@example.org").send().await;
    assert_eq!(
        (first.status, second.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_ne!(first.body["stream"], second.body["stream"]);
}

#[tokio::test]
async fn a_retried_registration_gets_the_first_answer_from_any_process() {
    let system = system().await;
    let send = |router, body| {
        post(router, "/v1/accounts")
            .header("idempotency-key", "k1")
            .body(body)
            .send()
    };
    let first = send(&system.one, registration("ada@example.org")).await;
    let again = send(&system.two, registration("ada@example.org")).await;
    assert_eq!(
        (first.status, &first.body["stream"]),
        (again.status, &again.body["stream"])
    );
    assert_eq!(first.body["events"], again.body["events"]);

    let mut other_body = registration("ada@example.org");
    other_body["profile"]["display_name"] = json!("Eve");
    assert_eq!(
        send(&system.two, other_body).await.code(),
        (422, "idempotency_key_reused")
    );

    let mut other_password = registration("ada@example.org");
    other_password["password"] = json!("another lighthouse");
    assert_eq!(
        send(&system.two, other_password).await.code(),
        (401, "invalid_credentials")
    );
}

#[tokio::test]
async fn a_registration_cut_off_before_its_event_is_finished_by_the_retry() {
    let system = system().await;
    // What the first try leaves behind when it dies before the append.
    let command = system.keys.command_id("ada@example.org", "account", "k1");
    let account = command.derive("stream");
    system.vault.create_data_key(account).await.unwrap();
    let phc = system
        .vault
        .hash_password(PASSWORD.to_owned().into())
        .await
        .unwrap();
    system
        .vault
        .store_credential(command.derive("credential"), account, &phc)
        .await
        .unwrap();
    let answer = register(&system.one, "ada@example.org")
        .header("idempotency-key", "k1")
        .send()
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.body["stream"], format!("account-{account}"));
}
