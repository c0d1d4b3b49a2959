//! Data directories of earlier versions, kept in tests/fixtures: every later version must open them, show what is in them,
//! and go on from there. What `write` does today is what the newest of them was made by; see tests/fixtures/README.md.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};
use test_support::{TempDir, eventually, temp_dir};

use crate::client::{CAUGHT_UP_WITHIN, Client, ME, registration};
use crate::world::Embedded;

const ADA: &str = "ada@example.org";
const GRACE: &str = "grace@example.org";
const DATABASES: [&str; 3] = ["events.db", "vault.db", "read-models.db"];
const KEYS: &str = "keys.json";

#[tokio::test(flavor = "multi_thread")]
async fn the_first_data_directory_opens_and_goes_on() {
    opens(&fixtures().join("data-v1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_written_today_opens_in_the_same_way() {
    let written = write().await;
    opens(written.path()).await;
    if let Ok(target) = std::env::var("SYSTEM_TEST_WRITE_FIXTURE") {
        let target = fixtures().join(target);
        fs::create_dir(&target).expect("a fixture is never overwritten");
        copy(written.path(), &target);
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn copy(from: &Path, to: &Path) {
    for file in DATABASES.into_iter().chain([KEYS]) {
        fs::copy(from.join(file), to.join(file)).expect("the fixture is whole");
        // Git keeps no mode, and keys that others may read are refused.
        let mine_alone = fs::Permissions::from_mode(0o600);
        fs::set_permissions(to.join(file), mine_alone).expect("the copy is ours");
    }
}

/// The body of Ada's registration, which is sent again to each later version.
fn ada() -> Value {
    let mut body = registration(ADA, "Ada Lovelace");
    body["profile"]["phone"] = json!("+442071234567");
    body["profile"]["birth_date"] = json!("1990-12-10");
    body["profile"]["address"] = json!("12 St James's Square\nLondon");
    body
}

/// Makes a small data directory: two people who did all that can be done, one of them gone; and brings each database into
/// one file.
async fn write() -> TempDir {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let registered = client
        .post("/v1/accounts")
        .json(&ada())
        .key("fixture-ada")
        .send()
        .await;
    registered.expect(201);
    let ada = client.returning(ADA).await;
    let change = json!({ "given_name": "Augusta Ada", "family_name": "King", "phone": null });
    client
        .command(&ada, "update-profile", &change)
        .key("fixture-profile")
        .expect(200)
        .await;
    let settings = json!({
        "locale": "en-GB", "time_zone": "Europe/London", "theme": "dark",
        "custom": { "engine": { "analytical": true, "cards": [1, 2.5, "drei"] } },
    });
    client
        .command(&ada, "change-settings", &settings)
        .expect(200)
        .await;
    client.refresh(&ada.refresh).await.expect(200);
    let grace = client.person(GRACE).await;
    let closed = client
        .command(&grace, "close", &json!({}))
        .expect(200)
        .await;
    client.read(ME, &grace, closed.token()).await;
    assert_eq!(embedded.server.terminate().await, 0);

    let folder = temp_dir();
    for file in DATABASES {
        into_one_file(&embedded.folder().join("data").join(file)).await;
    }
    copy(&embedded.folder().join("data"), folder.path());
    folder
}

/// Moves what stands in the write-ahead log into the database itself.
async fn into_one_file(database: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let mut connection = options.connect().await.expect("a database");
    let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
    checkpoint
        .execute(&mut connection)
        .await
        .expect("nobody else has it open");
    connection.close().await.expect("it closes");
}

/// A server of today opens a copy of the directory: people log in, rows and history are there, retries are known, commands
/// go on, and the proof holds; also with the read models built anew.
async fn opens(fixture: &Path) {
    for rebuilt in [false, true] {
        let folder = temp_dir();
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("the folder is ours");
        copy(fixture, &data);
        if rebuilt {
            fs::remove_file(data.join("read-models.db")).expect("the copy is ours");
        }
        let embedded = Embedded::start_in(folder).await;
        shows_what_is_in_it(&embedded.client()).await;
        embedded.verify().await;
        assert_eq!(
            embedded.server.terminate().await,
            0,
            "{}",
            embedded.server.logs()
        );
    }
}

async fn shows_what_is_in_it(client: &Client) {
    let login = client.log_in(ADA).await.expect(201);
    let person = crate::client::Person::of(&login);
    let row = client.read(ME, &person, login.token()).await;
    for (column, value) in [
        ("status", json!("pending")),
        ("email", json!(ADA)),
        ("display_name", json!("Ada Lovelace")),
        ("given_name", json!("Augusta Ada")),
        ("family_name", json!("King")),
        ("phone", Value::Null),
        ("birth_date", json!("1990-12-10")),
        ("address", json!("12 St James's Square\nLondon")),
        ("locale", json!("en-GB")),
        ("time_zone", json!("Europe/London")),
        ("theme", json!("dark")),
        (
            "custom",
            json!({ "engine": { "analytical": true, "cards": [1, 2.5, "drei"] } }),
        ),
        ("version", json!(3)),
    ] {
        assert_eq!(row.body[column], value, "{column}");
    }
    let expected = [
        "AccountRegistered",
        "ProfileUpdated",
        // One was started when the fixture was made, the other just now.
        "SessionStarted",
        "SessionStarted",
        "SettingsChanged",
    ];
    // No token stands for the session of back then: where read models are built anew, its row is waited for.
    eventually(CAUGHT_UP_WITHIN, || async {
        let history = client
            .read("/v1/account-history", &person, &person.token)
            .await;
        let rows = history.body.as_array().expect("rows").clone();
        let mut types: Vec<_> = rows.iter().filter_map(|row| row["type"].as_str()).collect();
        types.sort_unstable();
        if types == expected {
            Ok(())
        } else {
            Err(history.text)
        }
    })
    .await;

    let again = client
        .post("/v1/accounts")
        .json(&ada())
        .key("fixture-ada")
        .expect(201)
        .await;
    assert_eq!(
        again.header("location"),
        format!("/v1/accounts/{}", person.account)
    );
    let change = json!({ "given_name": "Augusta Ada", "family_name": "King", "phone": null });
    let again = client
        .command(&person, "update-profile", &change)
        .key("fixture-profile")
        .expect(200)
        .await;
    assert_eq!(
        (again.version(), &again.body["events"]),
        (2, &json!(["ProfileUpdated"]))
    );
    client
        .log_in(GRACE)
        .await
        .refused(401, "invalid_credentials");

    let theme = client
        .command(&person, "change-settings", &json!({ "theme": "light" }))
        .expect(200)
        .await;
    assert_eq!(theme.version(), 4);
    let row = client.read(ME, &person, theme.token()).await;
    assert_eq!(row.body["theme"], "light");
}
