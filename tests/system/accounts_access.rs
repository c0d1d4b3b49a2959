//! What lets somebody in, as stories over HTTP: sessions, API keys, and the role of an operator.

use serde_json::json;
use test_support::eventually;

use crate::accounts::{SESSIONS, api_key, enroll, log_in};
use crate::client::{CAUGHT_UP_WITHIN, ME, PASSWORD, Person};
use crate::mailbox::{Device, verified};
use crate::world::Embedded;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_with_their_devices_and_end_one_by_one_or_all_at_once() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let ada = client.person("ada@example.org").await;
    let body = json!({ "email": "ada@example.org", "password": PASSWORD });
    let phone = client.post("/v1/sessions").json(&body);
    let phone = Person::of(&phone.header("user-agent", "a telephone").expect(201).await);
    let list = async || {
        client
            .get(SESSIONS)
            .bearer(&ada.access)
            .expect(200)
            .await
            .body
    };
    let found = list().await;
    assert_eq!(found.as_array().map(Vec::len), Some(2), "{found}");
    assert_eq!(
        (
            &found[0]["device"],
            &found[0]["current"],
            &found[1]["current"]
        ),
        (&json!("a telephone"), &json!(false), &json!(true))
    );
    let id = found[0]["id"].as_str().expect("an id");
    let end = || {
        client
            .post(&format!("/v1/sessions/{id}/end"))
            .json(&json!({}))
    };
    let eve = client.person("eve@example.org").await;
    end().bearer(&eve.access).expect(403).await;
    let ended = end().bearer(&ada.access).expect(200).await;
    assert_eq!(ended.body["events"], json!(["SessionEnded"]));
    client
        .refresh(&phone.refresh)
        .await
        .refused(401, "invalid_refresh_token");
    client.refuses(&phone.access).await;
    assert_eq!(list().await.as_array().map(Vec::len), Some(1));

    let tablet = client.returning("ada@example.org").await;
    client
        .command(&ada, "end-sessions", &json!({}))
        .expect(200)
        .await;
    client.refuses(&tablet.access).await;
    client.get(ME).bearer(&ada.access).expect(200).await;
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_does_what_its_scopes_say_until_it_is_revoked() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let ada = verified(&client, &mailbox, "ada@example.org").await;
    client.read(ME, &ada, &ada.token).await;
    let (reads, path) = api_key(&client, &ada, &json!(["self:read"])).await;
    let (writes, _) = api_key(&client, &ada, &json!(["self:write"])).await;
    let row = client.get(ME).bearer(&reads).expect(200).await;
    assert_eq!(row.body["email"], "ada@example.org");
    let theme = json!({ "theme": "dark" });
    let update = |key: &str| {
        let path = format!("/v1/accounts/{}/change-settings", ada.account);
        client.post(&path).bearer(key).json(&theme)
    };
    update(&reads).refused(403, "forbidden").await;
    update(&writes).expect(200).await;
    client
        .get(ME)
        .bearer(&writes)
        .refused(403, "forbidden")
        .await;
    // What wants somebody who has just logged in is not done with a key.
    let erase = client.post(&format!("/v1/accounts/{}/erase", ada.account));
    erase
        .bearer(&writes)
        .json(&json!({ "password": PASSWORD }))
        .expect(403)
        .await;

    let listed = eventually(CAUGHT_UP_WITHIN, || async {
        let listed = client.get("/v1/api-keys").bearer(&ada.access).send().await;
        (listed.body.as_array().map(Vec::len) == Some(2)).then_some(listed)
    })
    .await;
    let rows = listed.body.as_array().expect("rows");
    assert!(
        rows.iter().all(|row| row["name"] == "the nightly job"),
        "{}",
        listed.text
    );
    assert!(!listed.text.contains(&reads));

    let revoke = client.post(&format!("{path}/revoke")).json(&json!({}));
    revoke.bearer(&ada.access).expect(200).await;
    client.refuses(&reads).await;
    update(&writes).expect(200).await;
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_operator_is_made_where_the_system_runs_and_makes_the_next_one() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let email = "op@example.org";
    let uri = embedded.make_operator(email, PASSWORD).await;
    let mut device = Device::of_uri(&uri);
    assert!(uri.starts_with("otpauth://totp/Showcaller:op"), "{uri}");

    // Before the factor is confirmed, the role gives nothing.
    let early = client.returning(email).await;
    let bob = verified(&client, &mailbox, "bob@example.org").await;
    let role = json!({ "role": "operator" });
    let grant = |access: &str| {
        let path = format!("/v1/accounts/{}/grant-role", bob.account);
        client.post(&path).bearer(access).json(&role)
    };
    grant(&early.access).refused(403, "forbidden").await;
    let code = json!({ "code": device.code().await });
    client
        .command(&early, "confirm-totp", &code)
        .expect(200)
        .await;
    let code = device.code().await;
    let op = Person::of(
        &log_in(&client, email, PASSWORD, Some(&code))
            .await
            .expect(201),
    );

    let row = format!("/v1/accounts/{}", bob.account);
    let seen = client.read(&row, &op, &bob.token).await;
    assert_eq!(seen.body["email"], "bob@example.org");
    client.get(&row).bearer(&early.access).expect(404).await;
    let granted = grant(&op.access).expect(200).await;
    assert_eq!(granted.body["events"], json!(["RoleGranted"]));

    // How the projector stands is for operators; no token waits for it.
    let standing = "/v1/projection-status?read_model=eq.accounts&lag=eq.0&state=eq.following";
    let partitions = || async {
        let rows = client.read(standing, &op, granted.token()).await.body;
        (rows.as_array()?.len() == 8).then_some(())
    };
    eventually(CAUGHT_UP_WITHIN, partitions).await;
    client.get(standing).bearer(&early.access).expect(403).await;

    let (mut bobs, _) = enroll(&client, &bob).await;
    let code = bobs.code().await;
    let bob = log_in(&client, "bob@example.org", PASSWORD, Some(&code)).await;
    let bob = Person::of(&bob.expect(201));
    client.get(&row).bearer(&bob.access).expect(200).await;
    let (key, _) = api_key(&client, &bob, &json!(["accounts:write"])).await;
    let path = format!("/v1/accounts/{}/change-settings", op.account);
    let dark = json!({ "theme": "dark" });
    client
        .post(&path)
        .bearer(&key)
        .json(&dark)
        .expect(200)
        .await;

    let revoke = client
        .post(&format!("{row}/revoke-role"))
        .bearer(&op.access);
    revoke.json(&role).expect(200).await;
    client.refuses(&bob.access).await;
    client.refuses(&key).await;
    embedded.verify().await;
}
