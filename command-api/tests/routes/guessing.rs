//! Guessing passwords and codes: what it costs, wherever it is tried, and however many try at once.

use std::time::Duration;

use command_api::Clock;
use futures::future::join_all;
use serde_json::json;

use crate::system::{Answer, PASSWORD, System, post, registration, system};

const ADA: &str = "ada@example.org";

async fn try_password(system: &System, password: &str, from: &str) -> Answer {
    let body = json!({"email": ADA, "password": password});
    post(&system.one, "/v1/sessions")
        .from(from)
        .body(body)
        .send()
        .await
}

/// Each try comes from another network address.
async fn wrong(system: &System, times: u8) {
    for n in 0..times {
        let answer = try_password(system, "not this one", &format!("198.51.100.{n}")).await;
        assert_eq!(answer.code(), (401, "invalid_credentials"));
    }
}

async fn right(system: &System) -> u16 {
    try_password(system, PASSWORD, "203.0.113.1")
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn four_wrong_passwords_are_free_and_each_further_one_waits_twice_as_long() {
    let system = system().await;
    system.person(ADA).await;
    wrong(&system, 4).await;
    assert_eq!(right(&system).await, 201, "four are free");
    // That one was right: counting began anew.
    wrong(&system, 4).await;
    for delay in [10, 20, 40, 80, 160, 300, 300] {
        wrong(&system, 1).await;
        system.clock.advance(delay - 1);
        assert_eq!(right(&system).await, 401, "after {delay} s without one");
        system.clock.advance(1);
    }
    assert_eq!(right(&system).await, 201, "the longest delay is over");
    wrong(&system, 4).await;
    assert_eq!(right(&system).await, 201, "success forgot the failures");
}

#[tokio::test]
async fn during_the_delay_the_right_password_looks_like_a_wrong_one() {
    let system = system().await;
    system.person(ADA).await;
    wrong(&system, 5).await;
    let right = try_password(&system, PASSWORD, "203.0.113.1").await;
    let wrong = try_password(&system, "not this one", "203.0.113.1").await;
    assert_eq!(right.code(), (401, "invalid_credentials"));
    assert_eq!(right.seen(), wrong.seen());
}

#[tokio::test]
async fn whoever_registers_with_an_address_cannot_reset_the_count_of_its_holder() {
    let system = system().await;
    system.verified(ADA).await;
    let mut body = registration(ADA);
    body["password"] = json!("mallory's own one");
    post(&system.one, "/v1/accounts")
        .body(body)
        .send()
        .await
        .expect(201);
    wrong(&system, 4).await;
    let own = try_password(&system, "mallory's own one", "203.0.113.2").await;
    assert_eq!(own.status.as_u16(), 201, "{own:?}");
    wrong(&system, 1).await;
    assert_eq!(right(&system).await, 401, "the fifth failure began a delay");
}

#[tokio::test]
async fn twenty_guesses_at_once_are_worth_no_more_than_one_after_another() {
    let system = system().await;
    system.person(ADA).await;
    let guesses = (0..20).map(|_| try_password(&system, "not this one", "203.0.113.1"));
    for answer in join_all(guesses).await {
        assert_eq!(answer.code(), (401, "invalid_credentials"));
    }
    let now = system.clock.now();
    let address = system.keys.claim_hash(ADA);
    let until = system
        .vault
        .throttle(address, now)
        .await
        .unwrap()
        .blocked_until;
    let waits = until.expect("a delay began") - now;
    assert_eq!(
        waits.num_seconds(),
        10,
        "five were tried, the others waited"
    );
}

#[tokio::test]
async fn a_wrong_code_counts_like_a_wrong_password() {
    let system = system().await;
    let ada = system.person(ADA).await;
    let device = system.second_factor(&ada).await;
    let right = device.next_code(&system);
    let other = if right == "000000" {
        "000001"
    } else {
        "000000"
    };
    for _ in 0..5 {
        let answer = system.with_code(ADA, other).await;
        assert_eq!(answer.code(), (401, "invalid_credentials"));
    }
    let blocked = system.with_code(ADA, &right).await;
    assert_eq!(blocked.code(), (401, "invalid_credentials"));
    system.clock.advance(10);
    let code = device.code(&system);
    system.with_code(ADA, &code).await.expect(201);
}

#[tokio::test]
async fn a_stolen_token_guesses_passwords_no_faster_than_anybody() {
    let system = system().await;
    let ada = system.person(ADA).await;
    let change = |password: &str| {
        let body = json!({"password": password, "new_password": "another lighthouse"});
        let (system, ada) = (&system, &ada);
        async move { system.give(ada, "change-password", body).await }
    };
    for _ in 0..5 {
        assert_eq!(
            change("not this one").await.code(),
            (401, "invalid_credentials")
        );
    }
    assert_eq!(change(PASSWORD).await.code(), (401, "invalid_credentials"));
    for (name, body) in [
        ("enroll-totp", json!({"password": PASSWORD})),
        ("erase", json!({"password": PASSWORD})),
    ] {
        let answer = system.give(&ada, name, body).await;
        assert_eq!(answer.code(), (401, "invalid_credentials"), "{name}");
    }
    assert_eq!(right(&system).await, 401, "logging in waits as well");
    system.clock.advance(10);
    change(PASSWORD).await.expect(200);
}

#[tokio::test]
async fn a_stolen_token_guesses_codes_no_faster_than_anybody() {
    let system = system().await;
    let ada = system.person(ADA).await;
    let device = system.second_factor(&ada).await;
    let code = device.next_code(&system);
    let other = if code == "000000" { "000001" } else { "000000" };
    for name in [
        "remove-totp",
        "replace-recovery-codes",
        "remove-totp",
        "remove-totp",
        "remove-totp",
    ] {
        let answer = system.give(&ada, name, json!({"code": other})).await;
        assert_eq!(answer.code(), (409, "challenge_refused"));
    }
    let blocked = system
        .give(&ada, "remove-totp", json!({"code": code}))
        .await;
    assert_eq!(blocked.code(), (409, "challenge_refused"));
    system.clock.advance(10);
    let body = json!({"code": device.code(&system)});
    system.give(&ada, "remove-totp", body).await.expect(200);
}

#[tokio::test]
async fn a_network_address_gets_a_hundred_log_ins_a_minute() {
    let system = system().await;
    system.person(ADA).await;
    // The first 99 of each minute, without the work of hashing.
    let spend = async |network: &str| {
        let key = system.keys.rate_key("log-in", network);
        for _ in 0..99 {
            let minute = Duration::from_mins(1);
            system
                .vault
                .count_rate(key, minute, system.clock.now())
                .await
                .unwrap();
        }
    };
    spend("203.0.113.1").await;
    assert_eq!(right(&system).await, 201, "the hundredth");
    system.clock.advance(20);
    let refused = try_password(&system, PASSWORD, "203.0.113.1").await;
    assert_eq!(refused.code(), (429, "too_many_log_ins"));
    for (name, value) in [
        ("retry-after", "40"),
        ("ratelimit-limit", "100"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "40"),
    ] {
        assert_eq!(refused.header(name), value, "{name}");
    }
    let elsewhere = try_password(&system, PASSWORD, "203.0.113.2").await;
    assert_eq!(
        elsewhere.status.as_u16(),
        201,
        "another address is another customer"
    );
    system.clock.advance(40);
    assert_eq!(right(&system).await, 201, "a new minute");
    // Whoever has an IPv6 network has all of its addresses.
    spend("2001:db8:1:2::/64").await;
    let one = try_password(&system, PASSWORD, "2001:db8:1:2::1").await;
    let two = try_password(&system, PASSWORD, "2001:db8:1:2:ffff::9").await;
    let neighbour = try_password(&system, PASSWORD, "2001:db8:1:3::1").await;
    let statuses = [one, two, neighbour].map(|answer| answer.status.as_u16());
    assert_eq!(statuses, [201, 429, 201]);
}
