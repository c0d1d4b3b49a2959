//! What is refused, how, and what is not given away by it.

use serde_json::{Value, json};

use crate::client::{ME, PASSWORD, Person, registration};
use crate::commands::{shared, theme};

#[tokio::test(flavor = "multi_thread")]
async fn all_validation_errors_come_at_once_with_their_pointers() {
    let client = shared().await;
    let body = json!({
        "email": "nobody", "password": "short", "nickname": "x",
        "profile": {
            "phone": "030", "birth_date": "2999-01-01", "address": 7, "given_name": "a\u{0}b", "middle/name": "y"
        },
    });
    let refused = client
        .post("/v1/accounts")
        .json(&body)
        .refused(422, "invalid")
        .await;
    let expected = [
        ("/email", "invalid_email"),
        ("/nickname", "unknown_field"),
        ("/password", "too_short"),
        ("/profile/address", "wrong_type"),
        ("/profile/birth_date", "in_the_future"),
        ("/profile/display_name", "required"),
        ("/profile/given_name", "control_character"),
        ("/profile/middle~1name", "unknown_field"),
        ("/profile/phone", "invalid_phone"),
    ];
    assert_eq!(refused.errors(), expected);
    let empty = client
        .post("/v1/accounts")
        .json(&json!({}))
        .refused(422, "invalid")
        .await;
    assert_eq!(
        empty.errors(),
        [
            ("/email", "required"),
            ("/password", "required"),
            ("/profile", "required")
        ]
    );
    let mut common = registration("common@example.org", "Ada");
    common["password"] = json!("password1");
    let refused = client
        .post("/v1/accounts")
        .json(&common)
        .refused(422, "invalid")
        .await;
    assert_eq!(refused.errors(), [("/password", "common_password")]);

    let ada = client.person("pointers@example.org").await;
    let body = json!({"theme": "pink", "locale": "english", "time_zone": "Mars/Base", "custom": [], "colour": 1});
    let refused = client
        .command(&ada, "change-settings", &body)
        .refused(422, "invalid")
        .await;
    let expected = [
        ("/colour", "unknown_field"),
        ("/custom", "wrong_type"),
        ("/locale", "invalid_locale"),
        ("/theme", "unknown_theme"),
        ("/time_zone", "unknown_time_zone"),
    ];
    assert_eq!(refused.errors(), expected);
    let refused = client
        .command(&ada, "close", &json!({"why": "x"}))
        .refused(422, "invalid")
        .await;
    assert_eq!(refused.errors(), [("/why", "unknown_field")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_ones_own() {
    let client = shared().await;
    let ada = client.person("owner@example.org").await;
    let eve = client.person("other@example.org").await;
    let half = ada.access.rsplit_once('.').expect("a JWT").0;
    for (name, body) in [
        ("change-settings", theme("dark")),
        // Who may not do it learns nothing of what would be valid.
        ("update-profile", json!({"x": 1})),
        ("close", json!({})),
    ] {
        let path = format!("/v1/accounts/{}/{name}", ada.account);
        let command = || client.post(&path).json(&body);
        command().refused(401, "unauthorized").await;
        command()
            .bearer("not.a.token")
            .refused(401, "invalid_token")
            .await;
        command()
            .bearer(&format!("{half}.AAAA"))
            .refused(401, "invalid_token")
            .await;
        command()
            .bearer(&eve.access)
            .refused(403, "forbidden")
            .await;
    }
    let changed = client
        .command(&ada, "change-settings", &theme("dark"))
        .expect(200)
        .await;
    assert_eq!(changed.version(), 2, "nothing of all that was carried out");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_ones_own() {
    let client = shared().await;
    let ada = client.person("own-row@example.org").await;
    let eve = client.person("other-row@example.org").await;
    let changed = client
        .command(&ada, "change-settings", &theme("dark"))
        .expect(200)
        .await;
    client.read(ME, &ada, changed.token()).await;
    let get = |path: &str| client.get(path).bearer(&eve.access).after(changed.token());
    let path = format!("/v1/accounts/{}", ada.account);
    client.get(&path).refused(401, "unauthorized").await;
    let hers = get(&path).refused(404, "not_found").await;
    let nobodys = "/v1/accounts/00000000-0000-4000-8000-000000000000";
    let nobodys = get(nobodys).refused(404, "not_found").await;
    let same = "another's row and no row are the same answer";
    assert_eq!(hers.body["detail"], nobodys.body["detail"], "{same}");
    for list in ["/v1/accounts", "/v1/account-history"] {
        let rows = client.get(list).bearer(&eve.access).after(&eve.token);
        let rows = rows.expect(200).await;
        let rows = rows.body.as_array().expect("rows");
        let own = |row: &Value| row["account_id"] == eve.account.as_str();
        assert!(!rows.is_empty() && rows.iter().all(own), "{list}: {rows:?}");
    }
    get("/v1/sign-ups-per-day").refused(403, "forbidden").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_declared_is_not_found() {
    let client = shared().await;
    let ada = client.person("not-found@example.org").await;
    let nothing = json!({});
    client
        .command(&ada, "no-such-command", &nothing)
        .refused(404, "not_found")
        .await;
    for path in ["/v1/no-such-collection", "/v1/sessions/x/end", "/v1"] {
        client
            .post(path)
            .bearer(&ada.access)
            .json(&nothing)
            .refused(404, "not_found")
            .await;
    }
    client
        .get("/v1/no-such-model")
        .bearer(&ada.access)
        .refused(404, "not_found")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_one_small_json_object_is_refused() {
    let client = shared().await;
    let ada = client.person("bodies@example.org").await;
    let path = "/v1/accounts/me/change-settings";
    let send = |content_type: &'static str, body: String| {
        client
            .post(path)
            .bearer(&ada.access)
            .raw(content_type, body)
            .send()
    };
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"theme\": \"dark\", \"theme\": \"light\"}",
        "{} {}",
        "{\"theme\": \"\\ud800\"}",
    ] {
        send("application/json", body.into())
            .await
            .refused(400, "malformed");
    }
    let deep = format!("{{\"custom\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    send("application/json", deep)
        .await
        .refused(400, "malformed");
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
    ] {
        send(content_type, "{}".into())
            .await
            .refused(415, "unsupported_media_type");
    }
    let large = format!("{{\"custom\": {{\"x\": \"{}\"}}}}", "x".repeat(70_000));
    // Again and again: a connection that is closed over unread bytes loses the answer now and then.
    for _ in 0..50 {
        send("application/json", large.clone())
            .await
            .refused(413, "body_too_large");
    }
    let custom = format!("{{\"custom\": {{\"x\": \"{}\"}}}}", "x".repeat(9_000));
    let refused = send("application/json", custom)
        .await
        .refused(422, "invalid");
    assert_eq!(refused.errors(), [("/custom", "too_long")]);
    let key = "k".repeat(256);
    client
        .command(&ada, "change-settings", &theme("dark"))
        .key(&key)
        .refused(400, "malformed")
        .await;
    client
        .command(&ada, "change-settings", &theme("dark"))
        .after("x")
        .refused(400, "malformed")
        .await;
    let unchanged = client
        .command(&ada, "change-settings", &theme("dark"))
        .if_match("\"1\"")
        .send()
        .await;
    assert_eq!(
        unchanged.expect(200).version(),
        2,
        "nothing of all that was carried out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_takes_no_commands_and_nobody_logs_in_to_it() {
    let client = shared().await;
    let ada = client.person("closing@example.org").await;
    let known = client.log_in("closing@example.org").await.expect(201);
    let closed = client.command(&ada, "close", &json!({})).expect(200).await;
    assert_eq!(closed.body["events"], json!(["AccountClosed"]));
    let refused = client
        .log_in("closing@example.org")
        .await
        .refused(401, "invalid_credentials");
    let unknown = client
        .log_in("nobody-at-all@example.org")
        .await
        .refused(401, "invalid_credentials");
    assert_eq!(
        refused.body["detail"], unknown.body["detail"],
        "nobody learns that it was there"
    );
    for session in [&ada, &Person::of(&known)] {
        client
            .refresh(&session.refresh)
            .await
            .refused(401, "invalid_refresh_token");
    }
    for session in [&ada, &Person::of(&known)] {
        client.refuses(&session.access).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let client = shared().await;
    client.register("known@example.org").await.expect(201);
    let mut answers = Vec::new();
    for (email, password) in [
        ("known@example.org", "a quiet lightshow"),
        ("unknown@example.org", PASSWORD),
    ] {
        let body = json!({ "email": email, "password": password });
        let mut answer = client
            .post("/v1/sessions")
            .json(&body)
            .refused(401, "invalid_credentials")
            .await;
        answer.body["trace_id"].take();
        answers.push(answer.body);
    }
    assert_eq!(answers[0], answers[1]);
    // Case does not tell addresses apart.
    client.log_in("KNOWN@Example.ORG").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_headers_of_a_careful_server() {
    let client = shared().await;
    let ada = client.person("headers@example.org").await;
    let answers = [
        client.get("/health/live").send().await,
        client.get("/v1/accounts/me").send().await,
        client.get("/nowhere").send().await,
        client
            .command(&ada, "change-settings", &theme("dark"))
            .send()
            .await,
        client
            .post("/v1/accounts")
            .raw("text/plain", "x")
            .send()
            .await,
    ];
    for answer in answers {
        for header in [
            "strict-transport-security",
            "content-security-policy",
            "referrer-policy",
            "cache-control",
        ] {
            assert!(
                !answer.header(header).is_empty(),
                "{header} is missing: {answer:?}"
            );
        }
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
}
