//! What is sent to do harm: fields that nobody may set, bodies that are none, control characters, SQL.

use axum::http::HeaderValue;
use command_api::policy::{self, Rule};
use serde_json::{Value, json};

use crate::people::Person;
use crate::system::{Answer, PASSWORD, System, log_in, post, registration, system};

/// Fields of the domain that no caller sets directly; `role` and the like are fields of one command each.
const FORBIDDEN: [&str; 12] = [
    "role",
    "roles",
    "scopes",
    "status",
    "account_id",
    "id",
    "email",
    "verified",
    "second_factor",
    "credential_id",
    "version",
    "is_admin",
];

/// Somebody who may give each command, if only to themselves.
async fn operator(system: &System) -> Person {
    system.operator("olga@example.org").await.1
}

async fn send(system: &System, rule: &Rule, person: &Person, body: impl Into<Vec<u8>>) -> Answer {
    let id = if rule.path.starts_with("/sessions") {
        &person.session
    } else {
        &person.account
    };
    let path = format!("/v1{}", rule.path.replace("{id}", id));
    post(&system.one, &path)
        .bearer(&person.access)
        .raw(body)
        .send()
        .await
}

/// A revocation needs a key of one's own to get as far as the body.
fn acts_on_a_key(rule: &Rule) -> bool {
    rule.path == "/api-keys/{id}/revoke"
}

fn own_fields(rule: &Rule) -> &'static [&'static str] {
    match rule.path {
        "/accounts" | "/sessions" | "/accounts/forgot-password" | "/accounts/{id}/change-email" => {
            &["email"]
        }
        "/accounts/{id}/grant-role" | "/accounts/{id}/revoke-role" => &["role"],
        "/api-keys" => &["scopes"],
        _ => &[],
    }
}

#[tokio::test]
async fn no_command_takes_a_field_that_is_not_its_own() {
    let system = system().await;
    let olga = operator(&system).await;
    for rule in policy::RULES.iter().filter(|rule| !acts_on_a_key(rule)) {
        let body: Value = FORBIDDEN
            .iter()
            .map(|name| (*name, json!("operator")))
            .collect();
        let answer = send(&system, rule, &olga, body.to_string()).await;
        assert_eq!(answer.code(), (422, "invalid"), "{}", rule.path);
        let errors = answer.body["errors"].as_array().unwrap();
        for name in FORBIDDEN
            .iter()
            .filter(|name| !own_fields(rule).contains(name))
        {
            let refused = |error: &Value| {
                error["pointer"] == format!("/{name}") && error["code"] == "unknown_field"
            };
            assert!(
                errors.iter().any(refused),
                "{} took {name}: {errors:?}",
                rule.path
            );
        }
    }
    let mut nested = registration("eve@example.org");
    nested["profile"]["role"] = json!("operator");
    let answer = post(&system.one, "/v1/accounts").body(nested).send().await;
    assert_eq!(answer.code(), (422, "invalid"));
    assert_eq!(answer.body["errors"][0]["pointer"], "/profile/role");
}

#[tokio::test]
async fn every_command_refuses_what_is_no_json_object_or_too_large() {
    let system = system().await;
    let olga = operator(&system).await;
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let torn = [
        "",
        "{",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{} {}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":\"\\ud800\"}",
        "\u{feff}{}",
        &deep,
    ];
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(70_000));
    for rule in policy::RULES {
        for body in torn {
            let answer = send(&system, rule, &olga, body).await;
            assert_eq!(
                answer.code(),
                (400, "malformed"),
                "{} with {body:?}",
                rule.path
            );
        }
        let answer = send(&system, rule, &olga, b"{\"a\":\"\xff\"}".to_vec()).await;
        assert_eq!(
            answer.code(),
            (400, "malformed"),
            "{} with no UTF-8",
            rule.path
        );
        let answer = send(&system, rule, &olga, large.clone()).await;
        assert_eq!(answer.code(), (413, "body_too_large"), "{}", rule.path);
    }
}

#[tokio::test]
async fn control_characters_get_into_no_address_and_no_name() {
    let system = system().await;
    let ada = system.verified("ada@example.org").await;
    let bad = [
        "\r\n",
        "\n",
        "\0",
        "\u{1b}[2J",
        "\u{202e}",
        "\u{200b}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
    ];
    for bad in bad {
        let email = format!("eve{bad}x@example.org");
        for (path, mut body) in [
            ("/v1/accounts", registration("")),
            ("/v1/sessions", json!({"password": PASSWORD})),
            ("/v1/accounts/forgot-password", json!({})),
            (
                "/v1/accounts/me/change-email",
                json!({"password": PASSWORD}),
            ),
        ] {
            body["email"] = json!(email);
            let answer = post(&system.one, path)
                .bearer(&ada.access)
                .body(body)
                .send()
                .await;
            assert_eq!(answer.code(), (422, "invalid"), "{path} with {bad:?}");
            assert_eq!(
                answer.body["errors"][0]["pointer"], "/email",
                "{path} with {bad:?}"
            );
        }
        for field in ["display_name", "given_name", "family_name"] {
            let body = json!({ field: format!("Ada{bad}Bcc: everybody@example.org") });
            let answer = system.give(&ada, "update-profile", body).await;
            assert_eq!(answer.code(), (422, "invalid"), "{field} with {bad:?}");
        }
    }
    system.mails().await;
    let kept = system.give(&ada, "export", json!({})).await.expect(200);
    assert!(!kept.body.to_string().contains("everybody"), "{kept:?}");
}

#[tokio::test]
async fn no_header_brings_a_line_of_its_own() {
    // The HTTP library makes none of these; what is left are characters that a log or a page would take for something.
    for text in ["a\r\nX-Evil: 1", "a\nb", "a\0b"] {
        assert!(HeaderValue::from_str(text).is_err(), "{text:?}");
    }
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let agent = "evil\tname";
    log_in(&system.one, &ada.email)
        .header("user-agent", agent)
        .send()
        .await
        .expect(201);
    let export = system.give(&ada, "export", json!({})).await.expect(200);
    let sessions = export.body["export"]["open_sessions"].as_array().unwrap();
    let devices: Vec<&Value> = sessions.iter().map(|session| &session["device"]).collect();
    assert!(devices.contains(&&json!("evilname")), "{devices:?}");
    for key in ["", "ключ"] {
        let call = post(&system.one, "/v1/accounts/me/change-settings").bearer(&ada.access);
        let answer = call
            .header("idempotency-key", key)
            .body(json!({"theme": "dark"}))
            .send()
            .await;
        assert_eq!(answer.code(), (400, "malformed"), "{key:?}");
    }
}

#[tokio::test]
async fn sql_in_any_field_is_text_like_any_other() {
    let system = system().await;
    let ada = system.verified("ada@example.org").await;
    let sql = "x'; DROP TABLE events; DROP TABLE challenges; DELETE FROM sessions; --";
    let fields = [
        "password",
        "new_password",
        "code",
        "token",
        "refresh_token",
        "role",
        "name",
        "locale",
        "time_zone",
        "theme",
        "display_name",
        "given_name",
        "phone",
        "birth_date",
        "address",
        "country",
    ];
    let body: Value = fields.iter().map(|name| (*name, json!(sql))).collect();
    for rule in policy::RULES {
        // Each field by itself too: a body with a field too many is not looked at any further.
        let alone = fields.iter().map(|name| json!({ *name: sql }));
        for body in alone.chain([body.clone()]) {
            let path = format!("/v1{}", rule.path.replace("{id}", &ada.account));
            let call = post(&system.one, &path)
                .bearer(&ada.access)
                .body(body.clone());
            let answer = call
                .header("idempotency-key", sql)
                .header("user-agent", sql)
                .send()
                .await;
            assert!(
                answer.status.as_u16() < 500,
                "{} with {body}: {answer:?}",
                rule.path
            );
        }
        let encoded = sql.replace(' ', "%20").replace(';', "%3B");
        let path = format!("/v1{}", rule.path.replace("{id}", &encoded));
        let answer = post(&system.one, &path).bearer(&ada.access).send().await;
        assert!(answer.status.as_u16() < 500, "{path}: {answer:?}");
    }
    let profile = json!({"display_name": sql, "address": sql});
    system
        .give(&ada, "update-profile", profile)
        .await
        .expect(200);
    let email = "x'--;drop@example.org";
    let mut registered = registration("eve@example.org");
    registered["password"] = json!(sql);
    registered["profile"]["display_name"] = json!(sql);
    post(&system.one, "/v1/accounts")
        .body(registered)
        .send()
        .await
        .expect(201);
    let answer = post(&system.one, "/v1/accounts/forgot-password")
        .body(json!({ "email": email }))
        .send()
        .await;
    assert!(answer.status.as_u16() < 500, "{answer:?}");

    // Everything is where it was.
    let again = system.returning(&ada.email).await;
    let export = system.give(&again, "export", json!({})).await.expect(200);
    assert!(
        export.body.to_string().contains("DROP TABLE events"),
        "the name is kept as it was written"
    );
    system
        .give(&ada, "change-settings", json!({"theme": "dark"}))
        .await
        .expect(200);
    let body = json!({"email": "eve@example.org", "password": sql});
    post(&system.one, "/v1/sessions")
        .body(body)
        .send()
        .await
        .expect(201);
    system.verified("bob@example.org").await;
}
