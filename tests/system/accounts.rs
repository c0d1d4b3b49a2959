//! What people do with their accounts, each as one story over HTTP, with the mails that a server writes into its folder.

use serde_json::{Value, json};

use crate::client::{Answer, Client, ME, PASSWORD, Person, registration};
use crate::mailbox::{
    ABOUT_TO_CHANGE, ALREADY, CONFIRM, Device, ERASED, HAS_CHANGED, NEW_PASSWORD, PASSWORD_CHANGED,
    verified,
};
use crate::world::Embedded;

/// The password that people change to.
const NEW: &str = "a loud lighthouse";
/// One's open sessions.
pub const SESSIONS: &str = "/v1/accounts/me/sessions";

/// A log-in with what is given.
pub async fn log_in(client: &Client, email: &str, password: &str, code: Option<&str>) -> Answer {
    let mut body = json!({ "email": email, "password": password });
    if let Some(code) = code {
        body["code"] = json!(code);
    }
    client.post("/v1/sessions").json(&body).send().await
}

/// Switches the second factor on, and gives the device and the recovery codes.
pub async fn enroll(client: &Client, person: &Person) -> (Device, Vec<String>) {
    let asked = client
        .command(person, "enroll-totp", &json!({ "password": PASSWORD }))
        .expect(200)
        .await;
    let mut device = Device::of_uri(asked.body["otpauth_uri"].as_str().expect("a URI"));
    let on = client
        .command(
            person,
            "confirm-totp",
            &json!({ "code": device.code().await }),
        )
        .expect(200)
        .await;
    let codes = on.body["recovery_codes"].as_array().expect("codes").iter();
    let codes = codes.map(|code| code.as_str().expect("a code").to_owned());
    (device, codes.collect())
}

/// Makes a key, and gives its text and its path.
pub async fn api_key(client: &Client, person: &Person, scopes: &Value) -> (String, String) {
    let body = json!({ "name": "the nightly job", "expires_in_days": 30, "scopes": scopes });
    let made = client
        .post("/v1/api-keys")
        .bearer(&person.access)
        .json(&body);
    let made = made.expect(201).await;
    let text = made.body["api_key"].as_str().expect("a key").to_owned();
    (text, made.header("location").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_new_proves_their_address_and_then_moves_to_another() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let ada = client.person("ada@example.org").await;
    let row = client.read(ME, &ada, &ada.token).await;
    assert_eq!(row.body["status"], "pending");

    let code = mailbox.newest("ada@example.org", CONFIRM).await.code();
    let wrong = if code == "00000000" {
        "00000001"
    } else {
        "00000000"
    };
    client
        .command(&ada, "verify-email", &json!({ "code": wrong }))
        .refused(409, "challenge_refused")
        .await;
    let proven = client
        .command(&ada, "verify-email", &json!({ "code": code }))
        .expect(200)
        .await;
    assert_eq!(proven.body["events"], json!(["EmailVerified"]));
    let row = client.read(ME, &ada, proven.token()).await;
    assert_eq!(row.body["status"], "verified");

    // The next who registers with it learns nothing; its holder learns that it was tried.
    client.register("ada@example.org").await.expect(201);
    mailbox.newest("ada@example.org", ALREADY).await;

    let change = json!({ "email": "augusta@example.org", "password": PASSWORD });
    let asked = client.command(&ada, "change-email", &change).key("move");
    asked.expect(200).await;
    let again = client.command(&ada, "change-email", &change).key("move");
    again.expect(200).await;
    mailbox.newest("ada@example.org", ABOUT_TO_CHANGE).await;
    let letter = mailbox.newest("augusta@example.org", CONFIRM).await;
    let token = letter.link_token();
    let confirm = client.post("/v1/accounts/confirm-email");
    let moved = confirm.json(&json!({ "token": token })).expect(200).await;
    assert_eq!(moved.body["events"], json!(["EmailChanged"]));
    mailbox.newest("ada@example.org", HAS_CHANGED).await;
    assert_eq!(
        mailbox.all("augusta@example.org", CONFIRM).len(),
        1,
        "the retry mails nothing"
    );
    let row = client.read(ME, &ada, moved.token()).await;
    assert_eq!(row.body["email"], "augusta@example.org");
    client.log_in("augusta@example.org").await.expect(201);
    // The first address is free: it is the second registration's now.
    let other = client.returning("ada@example.org").await;
    assert_ne!(other.account, ada.account);
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_address_is_the_one_whose_code_was_typed_whatever_was_asked_for_since() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let ada = verified(&client, &mailbox, "ada@example.org").await;
    for email in ["one@example.org", "two@example.org"] {
        let change = json!({ "email": email, "password": PASSWORD });
        client
            .command(&ada, "change-email", &change)
            .expect(200)
            .await;
    }
    let first = mailbox.newest("one@example.org", CONFIRM).await.code();
    let second = mailbox.newest("two@example.org", CONFIRM).await.code();
    client
        .command(&ada, "confirm-email", &json!({ "code": first }))
        .refused(409, "challenge_refused")
        .await;
    let moved = client
        .command(&ada, "confirm-email", &json!({ "code": second }))
        .expect(200)
        .await;
    let row = client.read(ME, &ada, moved.token()).await;
    assert_eq!(row.body["email"], "two@example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_ends_the_other_sessions_and_a_forgotten_one_ends_all() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let ada = verified(&client, &mailbox, "ada@example.org").await;
    let elsewhere = client.returning("ada@example.org").await;
    let change = json!({ "password": PASSWORD, "new_password": NEW });
    let wrong = json!({ "password": "a dark lighthouse", "new_password": NEW });
    client
        .command(&ada, "change-password", &wrong)
        .refused(401, "invalid_credentials")
        .await;
    for _ in ["first", "retry"] {
        let changed = client
            .command(&ada, "change-password", &change)
            .key("change");
        changed.expect(200).await;
    }
    mailbox.newest("ada@example.org", PASSWORD_CHANGED).await;
    client
        .refresh(&elsewhere.refresh)
        .await
        .refused(401, "invalid_refresh_token");
    client.refuses(&elsewhere.access).await;
    client.get(ME).bearer(&ada.access).expect(200).await;
    client
        .log_in("ada@example.org")
        .await
        .refused(401, "invalid_credentials");
    log_in(&client, "ada@example.org", NEW, None)
        .await
        .expect(201);

    let forgot = |email: &str| {
        let body = json!({ "email": email });
        client.post("/v1/accounts/forgot-password").json(&body)
    };
    let known = forgot("ada@example.org").expect(202).await;
    let unknown = forgot("nobody@example.org").expect(202).await;
    assert_eq!(known.text, unknown.text);
    let token = mailbox
        .newest("ada@example.org", NEW_PASSWORD)
        .await
        .link_token();
    let reset = || {
        let body = json!({ "token": token, "new_password": PASSWORD });
        client.post("/v1/accounts/reset-password").json(&body)
    };
    let done = reset().key("reset").expect(200).await;
    assert_eq!(done.body["events"], json!(["PasswordChanged"]));
    let retried = reset().key("reset").expect(200).await;
    assert_eq!(retried.etag(), done.etag());
    reset().refused(409, "challenge_refused").await;
    client.refuses(&ada.access).await;
    log_in(&client, "ada@example.org", NEW, None)
        .await
        .refused(401, "invalid_credentials");
    client.log_in("ada@example.org").await.expect(201);
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_is_asked_for_until_it_is_removed_and_a_recovery_code_counts_once() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let (email, before) = ("ada@example.org", "before@example.org");
    let ada = verified(&client, &mailbox, email).await;
    verified(&client, &mailbox, before).await;
    let (mut device, recovery) = enroll(&client, &ada).await;
    assert!(recovery.len() >= 8, "{recovery:?}");
    log_in(&client, email, PASSWORD, None)
        .await
        .refused(401, "second_factor_required");
    log_in(&client, email, PASSWORD, Some("000000"))
        .await
        .refused(401, "invalid_credentials");
    let code = device.code().await;
    let with = log_in(&client, email, PASSWORD, Some(&code))
        .await
        .expect(201);
    log_in(&client, email, PASSWORD, Some(&code))
        .await
        .refused(401, "invalid_credentials");
    let lost = log_in(&client, email, PASSWORD, Some(&recovery[0])).await;
    Person::of(&lost.expect(201));
    log_in(&client, email, PASSWORD, Some(&recovery[0]))
        .await
        .refused(401, "invalid_credentials");

    let ada = Person::of(&with);
    let sessions = client.get(SESSIONS).bearer(&ada.access).expect(200).await;
    let rows = sessions.body.as_array().expect("rows");
    let took = rows.iter().filter(|row| row["second_factor"] == true);
    assert_eq!(took.count(), 2, "{}", sessions.text);

    let replaced = client
        .command(
            &ada,
            "replace-recovery-codes",
            &json!({ "code": recovery[1] }),
        )
        .expect(200)
        .await;
    let new = replaced.body["recovery_codes"][0].as_str().expect("a code");
    client
        .command(&ada, "remove-totp", &json!({ "code": recovery[2] }))
        .refused(409, "challenge_refused")
        .await;
    client
        .command(&ada, "remove-totp", &json!({ "code": new }))
        .expect(200)
        .await;
    client.log_in(email).await.expect(201);
    let row = client.returning(email).await;
    let row = client.read(ME, &row, &row.token).await;
    assert_eq!(row.body["second_factor"], false);
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_take_their_data_along_and_are_forgotten_with_a_receipt() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let ada = verified(&client, &mailbox, "ada@example.org").await;
    let (key, _) = api_key(&client, &ada, &json!(["self:read"])).await;
    let export = client.command(&ada, "export", &json!({})).expect(200).await;
    let text = export.body["export"].to_string();
    for there in [
        "ada@example.org",
        "Ada Lovelace",
        "127.0.0.1",
        "the nightly job",
        "DataExported",
    ] {
        assert!(text.contains(there), "{there} is missing: {text}");
    }
    assert!(
        !text.contains("enc1.") && !text.contains("argon2"),
        "{text}"
    );

    let erase = |password: &str| {
        let body = json!({ "password": password });
        client.command(&ada, "erase", &body).key("forget me")
    };
    erase("a dark lighthouse")
        .refused(401, "invalid_credentials")
        .await;
    let erased = erase(PASSWORD).expect(200).await;
    let receipt = &erased.body["receipt"];
    assert_eq!(receipt["account_id"], json!(ada.account));
    let number = receipt["number"].as_str().expect("a number");
    let letter = mailbox.newest("ada@example.org", ERASED).await;
    assert!(letter.says(number), "{letter:?} names {number}");
    client.refuses(&ada.access).await;
    client.refuses(&key).await;
    client
        .refresh(&ada.refresh)
        .await
        .refused(401, "invalid_refresh_token");
    client
        .log_in("ada@example.org")
        .await
        .refused(401, "invalid_credentials");
    // The address is free, for somebody who is somebody else.
    mailbox.empty();
    let other = verified(&client, &mailbox, "ada@example.org").await;
    assert_ne!(other.account, ada.account);
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_keeps_nobody_in_and_its_retry_is_known() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let ada = verified(&client, &mailbox, "ada@example.org").await;
    let elsewhere = client.returning("ada@example.org").await;
    let (key, _) = api_key(&client, &ada, &json!(["self:read"])).await;
    let closed = client.command(&ada, "close", &json!({})).expect(200).await;
    assert_eq!(closed.body["events"], json!(["AccountClosed"]));
    for token in [&ada.access, &elsewhere.access, &key] {
        client.refuses(token).await;
    }
    client
        .log_in("ada@example.org")
        .await
        .refused(401, "invalid_credentials");
    let forgot = json!({ "email": "ada@example.org" });
    client
        .post("/v1/accounts/forgot-password")
        .json(&forgot)
        .expect(202)
        .await;
    let body = registration("ada@example.org", "Ada");
    client.post("/v1/accounts").json(&body).expect(201).await;
    embedded.verify().await;
}
