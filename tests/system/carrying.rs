//! What operators do with the whole of it: look, back up while it serves, move it to databases of another kind, send it
//! again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use test_support::{Finished, Launch, Postgres, temp_dir};

use crate::client::{Client, ME, PASSWORD};
use crate::world::{Embedded, assert_clean, launch, read_log};

const SOON: Duration = Duration::from_mins(1);

/// The JSON objects that a verb printed, one a line.
#[track_caller]
fn objects(done: &Finished) -> Vec<Value> {
    assert_eq!(done.status, 0, "{}{}", done.stdout, done.stderr);
    let parse = |line| serde_json::from_str(line).expect("one JSON object a line");
    done.stdout.lines().map(parse).collect()
}

/// What a verb shows on the server's data.
async fn shown(embedded: &Embedded, verb: &[&str]) -> Vec<Value> {
    objects(&embedded.verb(&[verb, &["--output", "json"]].concat()).await)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one journey")]
async fn a_backup_of_a_serving_sqlite_server_is_restored_to_postgres_and_both_sides_are_clean() {
    let (embedded, postgres) = tokio::join!(Embedded::start(), Postgres::shared());
    let client = embedded.client();
    let ada = client.person("ada@example.org").await;
    let bob = client.person("bob@example.org").await;
    let dark = json!({"theme": "dark"});
    client
        .command(&ada, "change-settings", &dark)
        .expect(200)
        .await;

    let folder = temp_dir();
    let (backup, keys) = (
        folder.path().join("backup"),
        folder.path().join("safe.json"),
    );
    let beside = backup.join("keys.json");
    let refused = embedded
        .verb(&["backup", "--to", text(&backup), "--keys-to", text(&beside)])
        .await;
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    let made = embedded
        .verb(&["backup", "--to", text(&backup), "--keys-to", text(&keys)])
        .await;
    assert_eq!(made.status, 0, "{}{}", made.stdout, made.stderr);
    let again = embedded.verb(&["backup", "--to", text(&backup)]).await;
    assert_eq!(again.status, 2, "nothing is overwritten: {}", again.stderr);
    for file in fs::read_dir(&backup).expect("it is there").flatten() {
        let bytes = fs::read(file.path()).expect("it can be read");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("ada@example.org") && !text.contains(PASSWORD));
    }

    // Life goes on: what comes after the backup is not in it, but the erasure counts.
    let body = json!({ "password": PASSWORD });
    client.command(&bob, "erase", &body).expect(200).await;
    let verified = embedded
        .verb(&["verify", "--rows", "--backup", text(&backup)])
        .await;
    assert_clean(&verified);
    assert!(
        verified.stdout.contains("still the first"),
        "{}",
        verified.stdout
    );
    assert_eq!(embedded.server.terminate().await, 0);

    let events = postgres.fresh_database().await;
    let (vault, database) = (
        postgres.fresh_database().await,
        postgres.fresh_database().await,
    );
    let ledger = format!(
        "sqlite:{}",
        embedded.folder().join("data/erasure-ledger.db").display()
    );
    let there = || -> Launch {
        launch()
            .folder(folder.path())
            .env("SHOWCALLER_EVENTS", &events)
            .env("SHOWCALLER_VAULT", &vault)
            .env("SHOWCALLER_DATABASE", &database)
            .env("SHOWCALLER_ERASURE_LEDGER", &ledger)
            .env("SHOWCALLER_KEYS", text(&keys))
            .env("SHOWCALLER_OUTPUT", "json")
    };
    let restore = ["restore", "--from", text(&backup)];
    let dry = there().args(restore).args(["--dry-run"]).finish().await;
    assert_eq!(dry.status, 0, "{}", dry.stderr);
    let restored = objects(&there().args(restore).finish().await);
    assert_eq!(restored[0]["moved"], 0, "{restored:?}");
    assert_eq!(restored[0]["erased_again"], 1, "{restored:?}");
    let twice = there().args(restore).finish().await;
    assert_eq!(twice.status, 2, "{}", twice.stderr);

    let before = read_log(&embedded.events_url()).await;
    let after = read_log(&events).await;
    assert_eq!(before[..after.len()], after[..]);
    let server = there().start().await;
    let client = Client::new(&server.url());
    let back = client.returning("ada@example.org").await;
    assert_eq!(back.account, ada.account);
    let row = client.read(ME, &back, &back.token).await;
    assert_eq!(
        (&row.body["theme"], &row.body["email"]),
        (&json!("dark"), &json!("ada@example.org"))
    );
    client
        .log_in("bob@example.org")
        .await
        .refused(401, "invalid_credentials");
    let verify = ["verify", "--rows", "--backup", text(&backup)];
    let verified = test_support::eventually(SOON, || async {
        let verified = there().args(verify).finish().await;
        (verified.status == 0).then_some(verified)
    })
    .await;
    assert_eq!(objects(&verified)[1]["clean"], true);
    assert_clean(&embedded.verb(&["verify", "--rows"]).await);

    // A backup that somebody changed is not restored.
    let log = backup.join("log.ndjson");
    let lines = fs::read_to_string(&log).expect("it can be read");
    fs::write(&log, lines.replace("dark", "grey")).expect("it can be written");
    let changed = there().args(restore).args(["--dry-run"]).finish().await;
    assert!(
        changed.stderr.contains("changed or is damaged"),
        "{}",
        changed.stderr
    );
    assert_eq!(changed.status, 1);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one journey")]
async fn operators_see_streams_and_causes_and_send_events_again_and_opening_personal_data_is_on_record()
 {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let ada = client.person("ada@example.org").await;
    for theme in ["dark", "light"] {
        let change = json!({ "theme": theme });
        client
            .command(&ada, "change-settings", &change)
            .expect(200)
            .await;
    }
    let account = format!("account-{}", ada.account);

    let streams = shown(&embedded, &["streams", "list", "--category", "account"]).await;
    assert_eq!(streams.len(), 1);
    assert_eq!(
        (&streams[0]["stream"], &streams[0]["last"]),
        (&json!(account), &json!("SettingsChanged"))
    );
    let version = streams[0]["version"].as_u64().expect("a version");
    let categories = shown(&embedded, &["streams", "categories"]).await;
    assert!(
        categories.contains(&json!({"category": "session", "aggregate": "yes"})),
        "{categories:?}"
    );
    let changes = [
        "streams",
        "show",
        &account,
        "--type",
        "SettingsChanged",
        "--since",
        "1h",
    ];
    let changes = shown(&embedded, &changes).await;
    assert_eq!(changes.len(), 2);
    let state = [
        "streams",
        "state",
        &account,
        "--at",
        &(version - 1).to_string(),
    ];
    let state = shown(&embedded, &state).await;
    assert_eq!(state[0]["state"]["settings"]["theme"], "dark", "{state:?}");
    assert_eq!(
        state[0]["read_models"]["accounts"][0]["theme"], "dark",
        "{state:?}"
    );
    assert_eq!(state[0]["state"]["email"], "(personal)");
    let diff = [
        "streams",
        "diff",
        &account,
        &(version - 1).to_string(),
        &version.to_string(),
    ];
    let diff = shown(&embedded, &diff).await;
    let theme = json!({"path": "/state/settings/theme", "before": "dark", "after": "light"});
    assert!(diff.contains(&theme), "{diff:?}");
    let id = changes[0]["id"].as_str().expect("an id");
    for name in [id, &changes[0]["position"].to_string()] {
        let family = shown(&embedded, &["events", "show", name]).await;
        assert!(
            family
                .iter()
                .any(|event| event["id"] == id && event["asked_for"] == true)
        );
    }
    let beyond = embedded
        .verb(&["streams", "state", &account, "--at", "99"])
        .await;
    assert_eq!(beyond.status, 1, "{}", beyond.stderr);

    let masked = embedded.verb(&["streams", "show", &account]).await;
    assert!(
        !masked.stdout.contains("ada@example.org"),
        "{}",
        masked.stdout
    );
    let opened = embedded
        .verb(&["streams", "show", &account, "--reveal-personal"])
        .await;
    assert!(
        opened.stdout.contains("ada@example.org"),
        "{}",
        opened.stderr
    );
    let record = shown(&embedded, &["events", "list", "--category", "operator"]).await;
    assert_eq!(record.len(), 1);
    assert_eq!(record[0]["type"], "PersonalDataRevealed");
    assert_eq!(record[0]["data"]["subject"], json!(account));

    let listen = format!("127.0.0.1:{}", embedded.server.port());
    let status = test_support::eventually(SOON, || async {
        let status = shown(&embedded, &["status", "--listen", &listen]).await;
        let accounts = status.iter().find(|object| object["name"] == "accounts");
        (accounts.expect("it is shown")["behind"] == 0).then_some(status)
    })
    .await;
    for (name, key, value) in [
        ("event store", "up", json!(true)),
        ("server at --listen", "state", json!("ready")),
        ("relay", "state", json!("leads")),
    ] {
        let object = status.iter().find(|object| object["name"] == name);
        assert_eq!(object.expect("it is shown")[key], value, "{name}");
    }
    let observed = |object: &Value| object["name"] == "projection-status";
    assert!(!status.iter().any(observed), "it is not made of events");
    let rules = shown(&embedded, &["retention"]).await;
    let log_ins = rules
        .iter()
        .find(|rule| rule["what"] == "rows of log-ins-per-hour by hour");
    let log_ins = log_ins.expect("a rule");
    assert_eq!(
        (&log_ins["stays"], &log_ins["due"]),
        (&json!("400 days"), &json!(0))
    );
    let unverified = rules
        .iter()
        .find(|rule| rule["what"] == "unverified accounts");
    assert_eq!(unverified.expect("a rule")["held"], 1, "{rules:?}");

    replays(&embedded, &account).await;
    let alone = embedded
        .verb(&["streams", "show", &account, "--since", "1d"])
        .await;
    assert_eq!(alone.status, 0, "{}", alone.stderr);
    embedded.verify().await;
    assert_eq!(embedded.server.terminate().await, 0);
    let down = embedded
        .verb(&["status", "--database", "postgres://nobody@127.0.0.1:1/none"])
        .await;
    assert_eq!(
        down.status, 3,
        "it says what is down: {}{}",
        down.stdout, down.stderr
    );
    assert!(
        down.stdout.contains("its database is down"),
        "{}",
        down.stdout
    );
}

/// A replay is marked, counted before, and gone on with; an export comes back into an empty log as it was.
async fn replays(embedded: &Embedded, account: &str) {
    let folder = temp_dir();
    let (out, state) = (
        folder.path().join("out.ndjson"),
        folder.path().join("state.json"),
    );
    let target = format!("file:{}", out.display());
    let replay = [
        "replay", "--to", &target, "--stream", account, "--rate", "1000/s",
    ];
    let counted = shown(embedded, &[&replay[..], &["--dry-run"]].concat()).await;
    let events = counted[0]["events"].as_u64().expect("a number");
    assert!(events > 2 && !out.exists());
    let resumed = [&replay[..], &["--resume-from", text(&state)]].concat();
    let sent = shown(embedded, &resumed).await;
    assert_eq!(sent[0]["sent"], events);
    assert_eq!(
        shown(embedded, &resumed).await[0]["sent"],
        0,
        "all was sent"
    );
    let lines = fs::read_to_string(&out).expect("it is there");
    assert_eq!(lines.lines().count() as u64, events);
    for line in lines.lines() {
        let message: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(
            (&message["replay"], &message["subject"]),
            (&sent[0]["replay"], &json!(account))
        );
    }
    let other = ["replay", "--to", &target, "--resume-from", text(&state)];
    let refused = embedded.verb(&other).await;
    assert_eq!(refused.status, 2, "another selection: {}", refused.stderr);
    let nowhere = embedded.verb(&["replay", "--to", "queue:nowhere"]).await;
    assert_eq!(
        nowhere.status, 2,
        "there is no RabbitMQ: {}",
        nowhere.stderr
    );

    let whole = folder.path().join("whole.ndjson");
    let exported = shown(embedded, &["export", "--to", text(&whole)]).await;
    let copy = format!("sqlite:{}", folder.path().join("copy.db").display());
    let import = ["import", "--from", text(&whole), "--events", &copy];
    let imported = shown(embedded, &import).await;
    assert_eq!(imported[0]["digest"], exported[0]["digest"]);
    assert_eq!(
        read_log(&copy).await,
        read_log(&embedded.events_url()).await
    );
    let twice = embedded.verb(&import).await;
    assert_eq!(twice.status, 2, "{}", twice.stderr);
    // As if the import had been cut off before its end.
    let mut file = SqliteConnection::connect(&copy).await.expect("a database");
    let cut = "UPDATE events_leases SET holder = randomblob(16) WHERE name = 'import'";
    let cut = sqlx::query(cut).execute(&mut file).await.expect("the SQL");
    assert_eq!(cut.rows_affected(), 1);
    file.close().await.expect("it closes");
    for verb in [&["verify"][..], &["serve"]] {
        let refused = embedded.verb(&[verb, &["--events", &copy]].concat()).await;
        let told = refused.stderr.contains("cut off");
        assert!(refused.status == 2 && told, "{verb:?}: {}", refused.stderr);
    }
}
