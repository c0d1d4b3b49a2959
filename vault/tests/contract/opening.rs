//! Opening a vault: what is made, and what is refused.

use std::sync::Arc;

use chrono::DateTime;
use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use vault::{Error, FeedPosition, KeyError, Keys, Purpose, Seen, Vault, VaultOptions};

use super::support::{Place, at, challenge, id, intent, new_session, on_both};

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

    async fn a_vault_of_format_1_is_brought_to_this_format_and_keeps_everything(place: Place) {
        let vault = place.open().await;
        let key = vault.create_data_key(id(1)).await.unwrap();
        vault.erase_person(id(2), at(0)).await.unwrap();
        vault.store_credential(id(3), id(1), "phc").await.unwrap();
        vault.claim_pending([1; 32], id(1), at(5)).await.unwrap();
        let verified = challenge(&vault, 4, Purpose::VerifyEmail, [1; 32]).await;
        vault.settle_claim(&verified, &intent(1)).await.unwrap();
        let open = vault.begin_session(new_session(5, 1)).await.unwrap();
        vault.begin_session(new_session(6, 1)).await.unwrap();
        vault.end_session(id(6), at(1)).await.unwrap();
        drop(vault);

        let older = place.of_format_1().await;
        let vault = older.open().await;
        assert_eq!(vault.data_key(id(1)).await.unwrap().fingerprint(&[b"x"]), key.fingerprint(&[b"x"]));
        assert!(matches!(vault.data_key(id(2)).await, Err(KeyError::Erased)));
        assert_eq!(vault.credential(id(3)).await.unwrap().unwrap().phc, "phc");
        let claims = vault.claims([1; 32]).await.unwrap();
        assert_eq!((claims.verified, claims.newest_pending), (Some(id(4)), Some(id(1))));
        let ended = vault.ended_since(FeedPosition(0)).await.unwrap();
        assert_eq!((ended.sessions.len(), ended.sessions[0].session_id, ended.through), (1, id(6), FeedPosition(1)));
        assert!(vault.due_intents(at(100), 10).await.unwrap().is_empty());

        // Of its sessions nothing is known but what format 1 kept.
        let before = vault.open_sessions(id(1), at(2)).await.unwrap();
        assert_eq!((before.len(), before[0].id, before[0].expires_at), (1, id(5), at(1_000)));
        assert_eq!((before[0].started_at, before[0].last_seen_at), (DateTime::UNIX_EPOCH, None));
        let refreshed = vault.refresh(open.expose_secret(), &Seen::default(), at(2)).await.unwrap();
        assert_eq!((refreshed.started_at, refreshed.second_factor), (DateTime::UNIX_EPOCH, false));
        assert_eq!(older.open().await.open_sessions(id(1), at(2)).await.unwrap()[0].last_seen_at, Some(at(2)));
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
