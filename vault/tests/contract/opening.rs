//! Opening a vault: what is made, and what is refused.

use std::sync::Arc;

use tokio::task::JoinSet;
use vault::{Error, Keys, Vault, VaultOptions};

use super::support::{Place, id, on_both};

on_both! {
    async fn it_opens_again_with_its_keys_and_checks(place: Place) {
        let first = place.open().await;
        first.check().await.unwrap();
        let key = first.create_data_key(id(1)).await.unwrap();
        drop(first);
        let second = place.open().await;
        assert_eq!(second.data_key(id(1)).await.unwrap().fingerprint(&[b"x"]), key.fingerprint(&[b"x"]));
    }

    async fn other_keys_are_refused(place: Place) {
        place.open().await;
        let error = place.open_with(&Arc::new(Keys::generate())).await.unwrap_err();
        assert!(error.to_string().contains("other keys"), "{error}");
    }

    async fn a_newer_format_is_refused_naming_what_is_needed(place: Place) {
        place.open().await;
        place.sql("UPDATE format SET version = 99").await;
        let error = place.open_with(&place.keys).await.unwrap_err();
        assert!(error.to_string().contains("a showcaller that knows vault format 99"), "{error}");
    }

    async fn eight_that_open_an_empty_database_at_once_all_succeed(place: Place) {
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (url, keys) = (place.url.clone(), Arc::clone(&place.keys));
            tasks.spawn(async move { Vault::open(&url, keys, VaultOptions::default()).await });
        }
        for vault in tasks.join_all().await {
            vault.unwrap().check().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_wrong_url_is_refused_with_what_to_write() {
    let keys = Arc::new(Keys::generate());
    for (url, hint) in [
        ("redis://x", "sqlite:data/vault.db"),
        ("sqlite::memory:", "write a file"),
        (
            "postgres://user:canary-secret@host:notaport/db",
            "postgres://user@host:5432/database",
        ),
    ] {
        let error = Vault::open(url, Arc::clone(&keys), VaultOptions::default())
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Invalid(_)) && error.to_string().contains(hint),
            "{error}"
        );
        assert!(!error.to_string().contains("canary-secret"));
    }
}

#[tokio::test]
async fn postgresql_that_may_lose_commits_is_refused() {
    let place = Place::postgres().await;
    test_support::psql(
        &place.url,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    .await;
    let error = place.open_with(&place.keys).await.unwrap_err();
    assert!(error.to_string().contains("synchronous_commit"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_and_back_when_it_is_back() {
    let server = test_support::Postgres::start().await;
    let url = server.fresh_database().await;
    let keys = Arc::new(Keys::generate());
    let vault = Vault::open(&url, Arc::clone(&keys), VaultOptions::default())
        .await
        .unwrap();
    vault.create_data_key(id(1)).await.unwrap();
    server.stop().await;
    assert!(matches!(vault.check().await, Err(Error::Unavailable(_))));
    server.restart().await;
    test_support::eventually(std::time::Duration::from_secs(20), || async {
        vault.check().await
    })
    .await;
    vault.data_key(id(1)).await.unwrap();
}

#[tokio::test]
async fn sqlite_makes_its_folder_and_a_file_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::sqlite();
    let vault = place.open().await;
    vault.create_data_key(id(1)).await.unwrap();
    for entry in std::fs::read_dir(place.folder().unwrap().join("data")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
}
