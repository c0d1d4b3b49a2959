//! Every role in one process, as somebody sees it who starts it for the first time, and as its operator does.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{eventually, temp_dir};

use crate::client::{ME, PASSWORD, registration};
use crate::world::{Embedded, launch};

const SOON: Duration = Duration::from_secs(30);

/// The lines that the server says to paste.
fn lines_to_paste(stdout: &str) -> String {
    let (_, after) = stdout
        .split_once("paste these lines")
        .expect("the server says what to paste");
    let lines: Vec<&str> = after
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert!(lines.len() > 4, "{stdout}");
    lines.join("\n") + "\n"
}

/// Pastes lines into a shell, and gives what it prints.
fn paste(lines: &str) -> String {
    let mut shell = Command::new("sh")
        .env("NO_PROXY", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut stdin = shell.stdin.take().expect("it is piped");
    stdin.write_all(lines.as_bytes()).expect("the shell reads");
    drop(stdin);
    let done = shell.wait_with_output().expect("the shell ends");
    let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !complaint.contains("not found"),
        "the lines need curl and sed (apt-get install -y curl): {complaint}"
    );
    assert!(
        done.status.success() && complaint.is_empty(),
        "{}: {complaint}",
        done.status
    );
    String::from_utf8(done.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_startup_text_work_when_pasted_and_streams_show_masks_what_is_personal() {
    let embedded = Embedded::start().await;
    let lines = eventually(SOON, || async {
        let stdout = embedded.server.stdout();
        stdout.ends_with("\n\n").then(|| lines_to_paste(&stdout))
    })
    .await;
    let printed = tokio::task::spawn_blocking(move || paste(&lines))
        .await
        .expect("it ran");
    let answers: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [registered, profile, history] = answers.as_slice() else {
        panic!("{printed}")
    };
    let stream = registered["stream"].as_str().expect("a stream").to_owned();
    assert_eq!(registered["events"], json!(["AccountRegistered"]));
    assert_eq!(profile["given_name"], "Augusta Ada");
    assert_eq!(profile["display_name"], "Ada Lovelace");
    assert_eq!(profile["email"], "ada@example.org");
    let types: Vec<_> = history
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["type"].clone())
        .collect();
    for expected in ["AccountRegistered", "ProfileUpdated"] {
        assert!(types.contains(&expected.into()), "{types:?}");
    }

    for output in ["table", "json"] {
        let shown = embedded
            .verb(&["streams", "show", &stream, "--output", output])
            .await;
        assert_eq!(shown.status, 0, "{}", shown.stderr);
        for there in [
            "AccountRegistered",
            "ProfileUpdated",
            "given_name",
            "(personal)",
        ] {
            assert!(
                shown.stdout.contains(there),
                "{there} is missing: {}",
                shown.stdout
            );
        }
        for personal in [
            "ada@example.org",
            "Augusta",
            "Lovelace",
            "lighthouse",
            "127.0.0.1",
            "enc1.",
        ] {
            assert!(
                !shown.stdout.contains(personal),
                "{personal} is shown: {}",
                shown.stdout
            );
        }
    }
    let nothing = embedded.verb(&["streams", "show", "account-nobody"]).await;
    assert_eq!(
        (nothing.status, nothing.stdout.as_str()),
        (1, ""),
        "{}",
        nothing.stderr
    );
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_setting_is_refused_with_what_to_write_instead() {
    let cases: [(&[&str], &str); 12] = [
        (&["--events", "data/events.db"], "sqlite:data/events.db"),
        (&["--events", "mysql://host/db"], "postgres://"),
        (&["--broker", "http://host"], "amqp://"),
        (&["--broker", "data"], "memory:"),
        (&["--database", "mongodb://host/db"], "postgres://"),
        (&["--vault", "vault.db"], "sqlite:"),
        (&["--listen", "8080"], "127.0.0.1:8080"),
        (&["--role", "relay"], "amqp://"),
        (
            &["--role", "sweeper"],
            "command-api, relay, projector, query-api",
        ),
        (&["--log", "projector=loud"], "--log info"),
        (&["--event", "sqlite:x.db"], "--events"),
        (&["verify", "--row"], "--rows"),
    ];
    for (arguments, advice) in cases {
        let folder = temp_dir();
        let refused = launch()
            .folder(folder.path())
            .args(arguments)
            .within(SOON)
            .finish()
            .await;
        assert_eq!(refused.status, 2, "{arguments:?}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(advice),
            "{arguments:?} said: {}",
            refused.stderr
        );
        assert!(
            !folder.path().join("data").exists(),
            "{arguments:?} made something"
        );
    }
    for (variable, value, advice) in [
        ("SHOWCALLER_EVENTS", "events.db", "sqlite:data/events.db"),
        (
            "SHOWCALLER_BROKER_FILE",
            "/no/such/file",
            "SHOWCALLER_BROKER_FILE",
        ),
        ("SHOWCALLER_LISTEN", "localhost", "127.0.0.1:8080"),
    ] {
        let refused = launch().env(variable, value).within(SOON).finish().await;
        assert_eq!(refused.status, 2, "{variable}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(advice),
            "{variable} said: {}",
            refused.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_may_stand_in_a_file_and_its_password_is_never_printed() {
    let folder = temp_dir();
    let file = folder.path().join("broker");
    fs::write(&file, "amqp://ada:a-quiet-lamp@127.0.0.1:1/%2f\n")
        .expect("the folder can be written");
    let both = launch()
        .env("SHOWCALLER_BROKER_FILE", &file)
        .env("SHOWCALLER_BROKER", "memory:")
        .within(SOON)
        .finish()
        .await;
    assert_eq!(both.status, 2, "{}", both.stderr);
    assert!(both.stderr.contains("keep one"), "{}", both.stderr);
    // A broker that is down keeps nothing from starting.
    let server = launch()
        .folder(folder.path())
        .env("SHOWCALLER_BROKER_FILE", &file)
        .spawn()
        .await;
    eventually(SOON, || async { server.stdout().contains("listens on") }).await;
    assert_eq!(server.terminate().await, 0, "{}", server.logs());
    assert!(!server.logs().contains("a-quiet-lamp"), "{}", server.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_exits_with_0_and_a_restart_keeps_everything() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let ada = client.person("ada@example.org").await;
    let updated = client
        .command(&ada, "update-profile", &json!({"given_name": "Augusta"}))
        .after(&ada.token)
        .expect(200)
        .await;
    assert_eq!(
        embedded.server.terminate().await,
        0,
        "{}",
        embedded.server.logs()
    );

    embedded.server.restart().await;
    let profile = client.read(ME, &ada, updated.token()).await;
    assert_eq!(
        profile.body["given_name"], "Augusta",
        "the token from before the restart still opens it"
    );
    let again = client.returning("ada@example.org").await;
    assert_eq!(again.account, ada.account);
    let history = client
        .get("/v1/account-history")
        .bearer(&again.access)
        .after(updated.token())
        .expect(200)
        .await;
    assert!(
        history.body.as_array().is_some_and(|rows| rows.len() >= 3),
        "{}",
        history.text
    );
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_on_the_same_port_says_so() {
    let embedded = Embedded::start().await;
    let second = launch().port(embedded.server.port()).spawn().await;
    assert_eq!(second.ended(SOON).await, 1, "{}", second.logs());
    let (said, port) = (second.stderr(), embedded.server.port().to_string());
    assert!(
        said.contains("cannot listen on") && said.contains(&port) && said.contains("--listen"),
        "{said}"
    );
    embedded.client().get("/health/ready").expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_the_health_verb_say_that_the_server_is_ready() {
    let embedded = Embedded::shared().await;
    let ready = embedded.client().get("/health/ready").expect(200).await;
    for dependency in ["event-store", "vault", "broker", "read-models"] {
        assert!(
            ready.text.contains(dependency),
            "{dependency}: {}",
            ready.text
        );
    }
    embedded.client().get("/health/live").expect(200).await;
    let listen = format!("127.0.0.1:{}", embedded.server.port());
    assert_eq!(
        embedded.verb(&["health", "--listen", &listen]).await.status,
        0
    );
    let nobody = format!("127.0.0.1:{}", test_support::free_port());
    assert_eq!(
        embedded.verb(&["health", "--listen", &nobody]).await.status,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_stands_in_no_answer() {
    let client = Embedded::shared().await.client();
    let mut body = registration("nobody-sees-it@example.org", "Ada");
    body["profile"]["display_nam"] = json!("x");
    let refused = client
        .post("/v1/accounts")
        .json(&body)
        .refused(422, "invalid")
        .await;
    assert!(!refused.text.contains(PASSWORD), "{}", refused.text);
}
