//! What every command carries (docs: conventions of HTTP): ETags, keys, tokens, problem details, and who may do what.

use serde_json::{Value, json};

use crate::client::{Client, ME, Person, registration};
use crate::world::Embedded;

pub async fn shared() -> Client {
    Embedded::shared().await.client()
}

pub fn theme(name: &str) -> Value {
    json!({ "theme": name })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_answers_with_its_stream_version_token_and_events() {
    let client = shared().await;
    let registered = client.register("answers@example.org").await.expect(201);
    let location = registered.header("location").to_owned();
    assert_eq!(registered.etag(), "\"1\"");
    assert_eq!(registered.body["version"], 1);
    assert_eq!(registered.body["events"], json!(["AccountRegistered"]));
    assert_eq!(registered.body["token"], registered.token());
    let stream = registered.body["stream"]
        .as_str()
        .expect("a stream")
        .to_owned();
    assert_eq!(
        location,
        format!("/v1/accounts/{}", stream.replacen("account-", "", 1))
    );

    let login = client.log_in("answers@example.org").await.expect(201);
    assert_eq!(
        (
            login.body["token_type"].as_str(),
            login.body["expires_in"].as_u64()
        ),
        (Some("Bearer"), Some(300))
    );
    let ada = Person::of(&login);
    let row = client
        .get(&location)
        .bearer(&ada.access)
        .after(login.token())
        .expect(200)
        .await;
    assert_eq!(
        (
            row.body["account_id"].as_str(),
            row.body["version"].as_u64()
        ),
        (Some(ada.account.as_str()), Some(1))
    );
    let changed = client
        .command(&ada, "change-settings", &theme("dark"))
        .expect(200)
        .await;
    assert_eq!((changed.etag(), changed.version()), ("\"2\"", 2));
    assert_eq!(changed.body["events"], json!(["SettingsChanged"]));
    // What is set already is no news: a success without an event.
    let same = client
        .command(&ada, "change-settings", &theme("dark"))
        .expect(200)
        .await;
    assert_eq!(
        (same.etag(), same.body["events"].clone()),
        ("\"2\"", json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_if_match_is_refused_and_a_rows_etag_serves_as_one() {
    let client = shared().await;
    let ada = client.person("if-match@example.org").await;
    let first = client
        .command(&ada, "change-settings", &theme("dark"))
        .if_match("\"1\"")
        .expect(200)
        .await;
    let stale = client
        .command(&ada, "change-settings", &theme("light"))
        .if_match("\"1\"")
        .send()
        .await;
    stale.refused(412, "precondition_failed");
    // Also where there would be nothing to do.
    let stale = client
        .command(&ada, "change-settings", &theme("dark"))
        .if_match("\"1\"")
        .send()
        .await;
    stale.refused(412, "precondition_failed");
    let row = client.read(ME, &ada, first.token()).await;
    let by_row = client
        .command(&ada, "change-settings", &theme("light"))
        .if_match(row.etag())
        .expect(200)
        .await;
    assert_eq!(by_row.etag(), "\"3\"");
    client
        .command(&ada, "change-settings", &theme("dark"))
        .if_match(row.etag())
        .refused(412, "precondition_failed")
        .await;
    client
        .command(&ada, "close", &json!({}))
        .if_match("three")
        .refused(400, "malformed")
        .await;

    let unchanged = client
        .get("/v1/accounts/me")
        .bearer(&ada.access)
        .after(by_row.token())
        .expect(200)
        .await;
    let request = client
        .get("/v1/accounts/me")
        .bearer(&ada.access)
        .header("if-none-match", unchanged.etag());
    request.expect(304).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_idempotency_key_gets_the_first_answer_also_after_a_restart() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let ada = client.person("ada@example.org").await;
    let dark = || {
        client
            .command(&ada, "change-settings", &theme("dark"))
            .key("one")
    };
    let first = dark().expect(200).await;
    client
        .command(&ada, "change-settings", &theme("light"))
        .key("two")
        .expect(200)
        .await;
    for round in 0..2 {
        let again = dark().expect(200).await;
        assert_eq!(
            (again.version(), &again.body["events"]),
            (first.version(), &first.body["events"]),
            "round {round}"
        );
        assert_eq!(again.etag(), first.etag());
        let other = client
            .command(&ada, "change-settings", &theme("system"))
            .key("one")
            .send()
            .await;
        other.refused(422, "idempotency_key_reused");
        let other = client
            .command(&ada, "close", &json!({}))
            .key("one")
            .send()
            .await;
        other.refused(422, "idempotency_key_reused");
        embedded.server.restart().await;
    }
    let row = client.read(ME, &ada, first.token()).await;
    assert_eq!(
        (row.body["theme"].as_str(), row.body["version"].as_u64()),
        (Some("light"), Some(3))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_registration_is_one_account_and_needs_the_same_password() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let body = registration("twice@example.org", "Ada");
    let register = |body: &Value| client.post("/v1/accounts").json(body).key("r-1");
    let first = register(&body).expect(201).await;
    embedded.server.restart().await;
    let again = register(&body).expect(201).await;
    assert_eq!(
        (again.header("location"), again.etag()),
        (first.header("location"), first.etag())
    );
    let mut other_password = body.clone();
    other_password["password"] = json!("a loud lighthouse");
    register(&other_password).expect(401).await;
    let mut other_name = body.clone();
    other_name["profile"]["display_name"] = json!("Eve");
    register(&other_name)
        .refused(422, "idempotency_key_reused")
        .await;
    // Without the key, and to the eye of a stranger, it's a new account like any other.
    let unrelated = client.post("/v1/accounts").json(&body).expect(201).await;
    assert_ne!(unrelated.header("location"), first.header("location"));
    assert_eq!(unrelated.etag(), first.etag());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_sent_many_times_at_once_is_carried_out_once() {
    let client = shared().await;
    let ada = client.person("at-once@example.org").await;
    let requests = (0..20).map(|_| {
        client
            .command(&ada, "change-settings", &theme("dark"))
            .key("k")
            .send()
    });
    let answers = futures::future::join_all(requests).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    for answer in answers {
        if answer.status == 200 {
            let (version, events) = (answer.version(), &answer.body["events"]);
            assert_eq!((version, events), (2, &json!(["SettingsChanged"])));
        } else {
            answer.refused(409, "in_flight");
        }
    }
    let row = client
        .command(&ada, "change-settings", &theme("dark"))
        .key("k")
        .expect(200)
        .await;
    assert_eq!(row.version(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_shows_what_was_written_to_many_streams() {
    let client = shared().await;
    let mut people = Vec::new();
    for number in 0..10 {
        people.push(client.person(&format!("token-{number}@example.org")).await);
    }
    // Ten streams fall into several of the eight partitions; each command brings the token of the one before.
    let mut token = String::new();
    for locale in ["en-GB", "de-AT", "fr-FR"] {
        for person in &people {
            let body = json!({ "locale": locale });
            let answer = client
                .command(person, "change-settings", &body)
                .after(&token)
                .expect(200)
                .await;
            answer.token().clone_into(&mut token);
        }
        for person in &people {
            let row = client.profile(person, &token).await.expect(200);
            assert_eq!(row.body["locale"], locale);
        }
    }
    // Without the tokens before it, a token stands for its own command; and nobody makes one up.
    let forged = format!("{}A", &token[..token.len() - 1]);
    let forged = if forged == token {
        format!("{}B", &token[..token.len() - 1])
    } else {
        forged
    };
    client
        .profile(&people[0], &forged)
        .await
        .refused(400, "malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_rotates_and_a_retry_gets_the_same_successor() {
    let client = shared().await;
    let ada = client.person("refresh@example.org").await;
    let answers = futures::future::join_all((0..20).map(|_| client.refresh(&ada.refresh))).await;
    let mut successors: Vec<String> = answers
        .into_iter()
        .map(|answer| Person::of(&answer.expect(200)).refresh)
        .collect();
    successors.dedup();
    let [successor] = successors.as_slice() else {
        panic!("{} successors", successors.len())
    };
    assert_ne!(*successor, ada.refresh);
    let next = Person::of(&client.refresh(successor).await.expect(200));
    assert_eq!(next.account, ada.account);
    client
        .command(&next, "change-settings", &theme("dark"))
        .expect(200)
        .await;
    for bad in ["", "x", &format!("{}x", next.refresh)] {
        client.refresh(bad).await.expect(401);
    }
}
