//! The restore drill: log, vault and read models are set back to before somebody was erased, the erasure ledger is not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::ConnectOptions;
use test_support::{eventually, temp_dir};
use uuid::Uuid;

use crate::accounts::log_in;
use crate::client::{ME, PASSWORD, Person};
use crate::mailbox::{Device, verified};
use crate::world::{Embedded, launch, read_log};

const SOON: Duration = Duration::from_mins(1);
const STORES: [&str; 3] = ["events.db", "vault.db", "read-models.db"];

/// Copies the stores of a server that is down, in place of what stands there.
fn copy(from: &Path, to: &Path) {
    for store in STORES {
        for suffix in ["", "-wal", "-shm"] {
            let name = format!("{store}{suffix}");
            let _ = fs::remove_file(to.join(&name));
            if from.join(&name).exists() {
                fs::copy(from.join(&name), to.join(&name)).expect("the folders are ours");
            }
        }
    }
}

/// A person's wrapped key in the vault's file.
async fn wrapped_key(embedded: &Embedded, person: &Person) -> Option<Vec<u8>> {
    let file = embedded.folder().join("data/vault.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let mut vault = options.connect().await.expect("the vault can be read");
    let id: Uuid = person.account.parse().expect("an id");
    sqlx::query_scalar("SELECT wrapped FROM data_keys WHERE person = $1")
        .bind(id)
        .fetch_one(&mut vault)
        .await
        .expect("a row")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_erased_after_the_backup_is_erased_before_the_restored_server_answers() {
    let embedded = Embedded::start().await;
    let (client, mailbox) = (embedded.client(), embedded.mailbox());
    let uri = embedded.make_operator("op@example.org", PASSWORD).await;
    let mut device = Device::of_uri(&uri);
    let op = client.returning("op@example.org").await;
    let code = json!({ "code": device.code().await });
    client.command(&op, "confirm-totp", &code).expect(200).await;
    let ada = verified(&client, &mailbox, "ada@example.org").await;
    client.read(ME, &ada, &ada.token).await;
    assert_eq!(embedded.server.terminate().await, 0);
    let (data, backup) = (embedded.folder().join("data"), temp_dir());
    copy(&data, backup.path());

    embedded.server.restart().await;
    let body = json!({ "password": PASSWORD });
    client.command(&ada, "erase", &body).expect(200).await;
    assert_eq!(wrapped_key(&embedded, &ada).await, None);
    assert_eq!(embedded.server.terminate().await, 0);
    copy(backup.path(), &data);
    assert!(
        wrapped_key(&embedded, &ada).await.is_some(),
        "the backup has it"
    );

    embedded.server.restart().await;
    assert_eq!(wrapped_key(&embedded, &ada).await, None);
    client.get(ME).bearer(&ada.access).expect(401).await;
    client
        .refresh(&ada.refresh)
        .await
        .refused(401, "invalid_refresh_token");
    client
        .log_in("ada@example.org")
        .await
        .refused(401, "invalid_credentials");
    let code = device.code().await;
    let op = log_in(&client, "op@example.org", PASSWORD, Some(&code)).await;
    let op = Person::of(&op.expect(201));
    let path = format!("/v1/accounts/{}", ada.account);
    let row = client.get(&path).bearer(&op.access).expect(200).await;
    for column in ["email", "display_name"] {
        assert_eq!(row.body[column], Value::Null, "{}", row.text);
    }
    assert!(!row.text.contains("Ada"), "{}", row.text);

    // A little later the log, and what is read from it, say so too.
    eventually(SOON, || async {
        let row = client.get(&path).bearer(&op.access).send().await;
        (row.body["status"] == "erased")
            .then_some(())
            .ok_or(row.text)
    })
    .await;
    let log = read_log(&embedded.events_url()).await;
    let stream = format!("account-{}", ada.account);
    let last = log.iter().rfind(|event| event.stream.as_str() == stream);
    assert_eq!(
        last.map(|event| event.type_name.as_str()),
        Some("AccountErased")
    );
    embedded.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_ledger_was_lost_or_set_back_is_not_served() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let ada = client.person("ada@example.org").await;
    let body = json!({ "password": PASSWORD });
    client.command(&ada, "erase", &body).expect(200).await;
    // What was applied is noted at the next start.
    embedded.server.restart().await;
    assert_eq!(embedded.server.terminate().await, 0);
    for suffix in ["", "-wal", "-shm"] {
        let file = embedded
            .folder()
            .join(format!("data/erasure-ledger.db{suffix}"));
        let _ = fs::remove_file(file);
    }
    let refused = launch().folder(embedded.folder()).spawn().await;
    assert_ne!(refused.ended(SOON).await, 0);
    let said = refused.stderr();
    assert!(said.contains("--erasure-ledger"), "{said}");
}
