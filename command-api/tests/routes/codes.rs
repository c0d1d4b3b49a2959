//! One-time codes and links: each for one purpose, one account and one use.

use serde_json::{Value, json};

use crate::people::Person;
use crate::system::{Answer, PASSWORD, System, log_in, post, system};

const REFUSED: (u16, &str) = (409, "challenge_refused");

async fn link(system: &System, path: &str, token: &Value) -> Answer {
    let mut body = json!({ "token": token });
    if path == "reset-password" {
        body["new_password"] = json!("another lighthouse");
    }
    let path = format!("/v1/accounts/{path}");
    post(&system.one, &path).body(body).send().await
}

async fn forgot(system: &System, email: &str) -> Value {
    let body = json!({ "email": email });
    let asked = post(&system.one, "/v1/accounts/forgot-password")
        .body(body)
        .send()
        .await;
    asked.expect(202);
    system.mail("reset_password", email).await
}

async fn change_email(system: &System, person: &Person, email: &str) -> Value {
    let body = json!({"email": email, "password": PASSWORD});
    system.give(person, "change-email", body).await.expect(200);
    system.mail("change_email_confirm", email).await
}

#[tokio::test]
async fn a_code_of_a_device_lets_nobody_in_twice() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let device = system.second_factor(&ada).await;
    let code = device.next_code(&system);
    system.with_code(&ada.email, &code).await.expect(201);
    let again = system.with_code(&ada.email, &code).await;
    assert_eq!(again.code(), (401, "invalid_credentials"));
    // Nor does it confirm anything else.
    let removed = system
        .give(&ada, "remove-totp", json!({ "code": code }))
        .await;
    assert_eq!(removed.code(), REFUSED);
}

#[tokio::test]
async fn a_recovery_code_lets_in_once() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let device = system.second_factor(&ada).await;
    let code = &device.recovery_codes[0];
    system.with_code(&ada.email, code).await.expect(201);
    let again = system.with_code(&ada.email, code).await;
    assert_eq!(again.code(), (401, "invalid_credentials"));
    system
        .with_code(&ada.email, &device.recovery_codes[1])
        .await
        .expect(201);
}

#[tokio::test]
async fn a_password_alone_does_not_open_an_account_with_a_second_factor() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    system.second_factor(&ada).await;
    let answer = log_in(&system.one, &ada.email).send().await;
    assert_eq!(answer.code(), (401, "second_factor_required"));
    assert_eq!(answer.body["access_token"], Value::Null);
}

#[tokio::test]
async fn a_verification_code_of_another_account_proves_nothing() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let ada_code = system.mail("verify_email", "ada@example.org").await["code"].clone();
    let eve = system.person("eve@example.org").await;
    let eve_code = system.mail("verify_email", "eve@example.org").await["code"].clone();
    let crossed = system
        .give(&ada, "verify-email", json!({ "code": eve_code }))
        .await;
    assert_eq!(crossed.code(), REFUSED);
    system
        .give(&ada, "verify-email", json!({ "code": ada_code }))
        .await
        .expect(200);
    system
        .give(&eve, "verify-email", json!({ "code": eve_code }))
        .await
        .expect(200);
}

#[tokio::test]
async fn an_address_is_sent_ten_codes_an_hour_whoever_asks() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    // Registering brought the first.
    for _ in 0..9 {
        system.mails().await;
        let answer = system.give(&ada, "resend-verification", json!({})).await;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
    }
    let answer = system.give(&ada, "resend-verification", json!({})).await;
    assert_eq!(answer.code(), (409, "too_many"));
    // The last one that was sent still counts.
    let code = system.mail("verify_email", "ada@example.org").await["code"].clone();
    let answer = system
        .give(&ada, "verify-email", json!({ "code": code }))
        .await;
    assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
}

#[tokio::test]
async fn a_code_may_be_tried_five_times() {
    let system = system().await;
    for (email, wrong, status) in [("ada@example.org", 4, 200), ("eve@example.org", 5, 409)] {
        let person = system.person(email).await;
        let code = system.mail("verify_email", email).await["code"].clone();
        let other = if code == "00000000" {
            "00000001"
        } else {
            "00000000"
        };
        for _ in 0..wrong {
            let answer = system
                .give(&person, "verify-email", json!({ "code": other }))
                .await;
            assert_eq!(answer.code(), REFUSED);
        }
        let answer = system
            .give(&person, "verify-email", json!({ "code": code }))
            .await;
        assert_eq!(answer.status.as_u16(), status, "after {wrong}: {answer:?}");
    }
}

#[tokio::test]
async fn a_code_or_link_that_was_used_is_used_up() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let mail = system.mail("verify_email", "ada@example.org").await;
    link(&system, "verify-email", &mail["token"])
        .await
        .expect(200);
    assert_eq!(
        link(&system, "verify-email", &mail["token"]).await.code(),
        REFUSED
    );
    let code = system
        .give(&ada, "verify-email", json!({ "code": mail["code"] }))
        .await;
    assert_eq!(code.code(), REFUSED);

    let reset = forgot(&system, &ada.email).await;
    link(&system, "reset-password", &reset["token"])
        .await
        .expect(200);
    assert_eq!(
        link(&system, "reset-password", &reset["token"])
            .await
            .code(),
        REFUSED
    );
    let old = log_in(&system.one, &ada.email).send().await;
    assert_eq!(
        old.code(),
        (401, "invalid_credentials"),
        "the password changed"
    );
}

#[tokio::test]
async fn a_link_or_code_serves_its_own_purpose_alone() {
    let system = system().await;
    let ada = system.verified("ada@example.org").await;
    let change = change_email(&system, &ada, "lovelace@example.org").await;
    let reset = forgot(&system, &ada.email).await;
    let eve = system.person("eve@example.org").await;
    let verify = system.mail("verify_email", "eve@example.org").await;
    for (path, mail) in [
        ("verify-email", &change),
        ("verify-email", &reset),
        ("confirm-email", &verify),
        ("confirm-email", &reset),
        ("reset-password", &verify),
        ("reset-password", &change),
    ] {
        let answer = link(&system, path, &mail["token"]).await;
        assert_eq!(answer.code(), REFUSED, "{path} with {mail}");
    }
    for (person, name, mail) in [
        (&ada, "verify-email", &change),
        (&eve, "confirm-email", &verify),
    ] {
        let answer = system
            .give(person, name, json!({ "code": mail["code"] }))
            .await;
        assert_eq!(answer.code(), REFUSED, "{name} with {mail}");
    }
    // Where they belong all of them are good, still.
    link(&system, "confirm-email", &change["token"])
        .await
        .expect(200);
    link(&system, "verify-email", &verify["token"])
        .await
        .expect(200);
    link(&system, "reset-password", &reset["token"])
        .await
        .expect(200);
}

#[tokio::test]
async fn codes_count_for_ten_minutes_and_reset_links_for_thirty() {
    let system = system().await;
    system.person("ada@example.org").await;
    let verify = system.mail("verify_email", "ada@example.org").await;
    let reset = forgot(&system, "ada@example.org").await;
    system.clock.advance(10 * 60);
    let ada = system.returning("ada@example.org").await;
    let late = system
        .give(&ada, "verify-email", json!({ "code": verify["code"] }))
        .await;
    assert_eq!(late.code(), REFUSED);
    assert_eq!(
        link(&system, "verify-email", &verify["token"]).await.code(),
        REFUSED
    );
    system.clock.advance(20 * 60 - 1);
    let newer = forgot(&system, "ada@example.org").await;
    assert_eq!(
        link(&system, "reset-password", &reset["token"])
            .await
            .code(),
        REFUSED,
        "the newer one replaced it"
    );
    system.clock.advance(30 * 60 - 1);
    let in_time = link(&system, "reset-password", &newer["token"]).await;
    in_time.expect(200);
    let last = forgot(&system, "ada@example.org").await;
    system.clock.advance(30 * 60);
    assert_eq!(
        link(&system, "reset-password", &last["token"]).await.code(),
        REFUSED
    );
}

#[tokio::test]
async fn an_address_that_was_proven_meanwhile_is_not_proven_twice() {
    let system = system().await;
    let first = system.person("ada@example.org").await;
    let mail = system.mail("verify_email", "ada@example.org").await;
    // The second registers before the first has proven anything, and gets a code too.
    let body = crate::system::registration("ada@example.org");
    post(&system.one, "/v1/accounts")
        .body(body)
        .send()
        .await
        .expect(201);
    let second = system.mail("verify_email", "ada@example.org").await;
    system
        .give(&first, "verify-email", json!({ "code": mail["code"] }))
        .await
        .expect(200);
    let taken = link(&system, "verify-email", &second["token"]).await;
    assert_eq!(taken.code(), (409, "email_taken"));
}
