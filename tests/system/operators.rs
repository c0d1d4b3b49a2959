//! What an operator loses or somebody changes behind the system's back, and who notices.

use std::fs;
use std::time::Duration;

use serde_json::json;
use sqlx::{ConnectOptions, Connection, Executor};
use test_support::{Postgres, temp_dir};

use crate::client::{Client, ME};
use crate::world::{Embedded, assert_clean, launch};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_keys_file_is_not_replaced_by_a_new_one() {
    use std::os::unix::fs::PermissionsExt;
    let embedded = Embedded::start().await;
    let keys = embedded.folder().join("data/keys.json");
    let kept = fs::metadata(&keys).expect("the server made it");
    let mode = kept.permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "nobody else reads the keys");
    embedded
        .client()
        .register("ada@example.org")
        .await
        .expect(201);
    assert_eq!(embedded.server.terminate().await, 0);

    let elsewhere = embedded.folder().join("keys.json");
    fs::rename(&keys, &elsewhere).expect("it can be moved");
    let refused = launch().folder(embedded.folder()).spawn().await;
    assert_ne!(refused.ended(SOON).await, 0);
    assert!(
        refused.stderr().contains("keys.json") && refused.stderr().contains("--keys"),
        "{}",
        refused.stderr()
    );
    assert!(!keys.exists(), "new keys would open nothing");

    // Other people's keys are refused as well.
    let created = launch()
        .folder(embedded.folder())
        .args(["keys", "create", "other.json"])
        .finish()
        .await;
    assert_eq!(created.status, 0, "{}", created.stderr);
    let refused = launch()
        .folder(embedded.folder())
        .args(["--keys", "other.json"])
        .spawn()
        .await;
    assert_ne!(refused.ended(SOON).await, 0, "{}", refused.logs());
    let again = launch()
        .folder(embedded.folder())
        .args(["keys", "create", "other.json"])
        .finish()
        .await;
    assert_ne!(again.status, 0, "a keys file is never overwritten");

    let server = launch()
        .folder(embedded.folder())
        .args(["--keys", "keys.json"])
        .start()
        .await;
    Client::new(&server.url())
        .log_in("ada@example.org")
        .await
        .expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verb_that_looks_at_a_log_that_is_not_there_says_so_and_makes_none() {
    let postgres = Postgres::shared().await;
    for url in [
        "sqlite:no-such.db".to_owned(),
        postgres.fresh_database().await,
    ] {
        for verb in [
            &["verify"][..],
            &["verify", "--rows"],
            &["streams", "show", "account-x"],
        ] {
            let folder = temp_dir();
            let arguments = [verb, &["--events", &url]].concat();
            let looked = launch()
                .folder(folder.path())
                .args(arguments)
                .within(SOON)
                .finish()
                .await;
            assert_eq!(
                looked.status, 1,
                "{verb:?} {url}: {}{}",
                looked.stdout, looked.stderr
            );
            assert!(
                looked.stderr.contains("no event log"),
                "{verb:?} {url}: {}",
                looked.stderr
            );
            assert!(
                !folder.path().join("no-such.db").exists(),
                "{verb:?} made a log"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_tells_a_changed_row_and_a_changed_event() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let ada = client.person("ada@example.org").await;
    let changed = client
        .command(&ada, "change-settings", &json!({"theme": "dark"}))
        .expect(200)
        .await;
    client.read(ME, &ada, changed.token()).await;
    assert_clean(&embedded.verb(&["verify"]).await);
    embedded.verify().await;
    assert_eq!(embedded.server.terminate().await, 0);

    let table = "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%\"theme\"%'";
    let models = embedded.folder().join("data/read-models.db");
    let name: String = sqlx::query_scalar(table)
        .fetch_one(&mut open(&models).await)
        .await
        .expect("a table");
    alter(&models, format!("UPDATE \"{name}\" SET theme = 'light'")).await;
    assert_clean(&embedded.verb(&["verify"]).await);
    let found = embedded.verb(&["verify", "--rows"]).await;
    assert_eq!(found.status, 1, "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains("accounts"), "{}", found.stdout);
    alter(&models, format!("UPDATE \"{name}\" SET theme = 'dark'")).await;
    embedded.verify().await;

    let events = embedded.folder().join("data/events.db");
    alter(
        &events,
        "UPDATE events SET data = replace(data, 'dark', 'light') WHERE type = 'SettingsChanged'"
            .into(),
    )
    .await;
    let found = embedded.verb(&["verify"]).await;
    assert_eq!(found.status, 1, "{}{}", found.stdout, found.stderr);
}

async fn open(file: &std::path::Path) -> sqlx::SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(file)
        .connect()
        .await
        .expect("a database")
}

async fn alter(file: &std::path::Path, sql: String) {
    let mut connection = open(file).await;
    connection
        .execute(sqlx::AssertSqlSafe(sql))
        .await
        .expect("the SQL is right");
    connection.close().await.expect("it closes");
}
