//! API keys allow what their owner may do, and no more, and no longer.

use serde_json::{Value, json};

use crate::access::until_refused;
use crate::people::Person;
use crate::system::{Answer, System, post, system};

async fn create(system: &System, token: &str, scopes: &Value) -> Answer {
    let body = json!({"name": "nightly", "scopes": scopes, "expires_in_days": 30});
    post(&system.one, "/v1/api-keys")
        .bearer(token)
        .body(body)
        .send()
        .await
}

async fn role(system: &System, by: &Person, of: &Person, name: &str) -> Answer {
    let path = format!("/v1/accounts/{}/{name}", of.account);
    let body = json!({"role": "operator"});
    post(&system.one, &path)
        .bearer(&by.access)
        .body(body)
        .send()
        .await
}

#[tokio::test]
async fn a_key_gets_no_scope_that_its_owner_lacks() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let (before, operator, _) = system.operator("olga@example.org").await;
    let lacking = [
        json!(["accounts:write"]),
        json!(["self:read", "operator"]),
        json!(["read:*"]),
        json!(["*"]),
        json!(["accounts:*"]),
        json!(["self:*"]),
        json!([""]),
    ];
    for scopes in &lacking {
        for person in [&ada, &before] {
            let answer = create(&system, &person.access, scopes).await;
            assert_eq!(answer.code(), (422, "invalid"), "{scopes}");
            assert_eq!(
                answer.body["errors"][0]["code"], "scope_not_held",
                "{scopes}"
            );
        }
    }
    for scopes in [json!(["*"]), json!(["accounts:*"]), json!(["roles:*"])] {
        let answer = create(&system, &operator.access, &scopes).await;
        assert_eq!(answer.code(), (422, "invalid"), "{scopes}");
    }
    create(
        &system,
        &operator.access,
        &json!(["accounts:write", "read:*"]),
    )
    .await
    .expect(201);
    for none in [json!([]), json!("self:read"), json!([1]), Value::Null] {
        let answer = create(&system, &ada.access, &none).await;
        assert_eq!(answer.code(), (422, "invalid"), "{none}");
    }
}

#[tokio::test]
async fn a_key_ends_with_the_role_that_it_came_from() {
    let system = system().await;
    let (_, first, _) = system.operator("olga@example.org").await;
    let (_, second, _) = system.operator("omar@example.org").await;
    let wide = create(&system, &second.access, &json!(["accounts:write"]))
        .await
        .expect(201);
    let own = create(&system, &second.access, &json!(["self:write"]))
        .await
        .expect(201);
    role(&system, &first, &second, "revoke-role")
        .await
        .expect(200);
    // The token says more than the account may do, until everybody knows that its session ended.
    let late = create(&system, &second.access, &json!(["accounts:write"])).await;
    assert!([401, 403].contains(&late.status.as_u16()), "{late:?}");
    until_refused(&system, &wide.text("api_key")).await;
    let key = own.text("api_key");
    let body = json!({"theme": "dark"});
    let path = "/v1/accounts/me/change-settings";
    post(&system.one, path)
        .bearer(&key)
        .body(body)
        .send()
        .await
        .expect(200);
    until_refused(&system, &second.access).await;
}

#[tokio::test]
async fn a_closed_account_gets_no_key() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let key = create(&system, &ada.access, &json!(["self:write"]))
        .await
        .expect(201);
    system.give(&ada, "close", json!({})).await.expect(200);
    // The token may be good for a moment yet.
    let late = create(&system, &ada.access, &json!(["self:write"])).await;
    assert!(
        [(409, "account_closed"), (401, "invalid_token")].contains(&late.code()),
        "{late:?}"
    );
    until_refused(&system, &key.text("api_key")).await;
}

#[tokio::test]
async fn the_text_of_a_key_is_shown_again_only_to_the_same_retry() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let eve = system.person("eve@example.org").await;
    let create = |person: &Person| {
        let body = json!({"name": "nightly", "scopes": ["self:read"], "expires_in_days": 30});
        let call = post(&system.one, "/v1/api-keys").bearer(&person.access);
        call.header("idempotency-key", "k").body(body).send()
    };
    let first = create(&ada).await.expect(201);
    let again = create(&ada).await.expect(201);
    assert_eq!(first.text("api_key"), again.text("api_key"));
    let other = create(&eve).await.expect(201);
    assert_ne!(first.text("api_key"), other.text("api_key"));
}
