//! People's data keys: made once, cached for a second, looked up together, and gone when erased.

use std::time::Duration;

use events::{EventId, StreamId};
use serde_json::json;
use test_support::eventually;
use tokio::task::JoinSet;
use uuid::Uuid;
use vault::{KeyError, Opened};

use super::support::{at, id, new_session, on_both};

fn place_in_log(person: Uuid) -> (StreamId, EventId) {
    (
        StreamId::new("account", &person.to_string()).unwrap(),
        EventId(id(99)),
    )
}

on_both! {
    async fn a_key_is_made_once_whoever_makes_it(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let mut tasks = JoinSet::new();
        for index in 0..20 {
            let vault = if index % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move { vault.create_data_key(id(1)).await.unwrap().fingerprint(&[b"x"]) });
        }
        let made: std::collections::HashSet<_> = tasks.join_all().await.into_iter().collect();
        assert_eq!(made.len(), 1);
    }

    async fn what_one_process_seals_another_opens(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let (stream, event_id) = place_in_log(id(1));
        let key = one.create_data_key(id(1)).await.unwrap();
        let sealed = key.seal_value(&stream, event_id, "email", &json!("ada@example.org"));
        assert_eq!(other.open_many(&[sealed]).await.unwrap(), [Opened::Plain(json!("ada@example.org"))]);
    }

    async fn a_missing_key_is_a_fault_and_not_an_erasure(place: Place) {
        let vault = place.open().await;
        assert!(matches!(vault.data_key(id(1)).await, Err(KeyError::Missing)));
        let (stream, event_id) = place_in_log(id(2));
        let sealed = vault.create_data_key(id(2)).await.unwrap().seal_value(&stream, event_id, "f", &json!(1));
        vault.check().await.unwrap();
        place.sql("DELETE FROM data_keys").await;
        let other = place.open().await;
        assert!(other.open_many(&[sealed]).await.unwrap_err().to_string().contains("missing"));
    }

    async fn an_erased_person_reads_as_erased_and_gets_no_new_key(place: Place) {
        let vault = place.open().await;
        let (stream, event_id) = place_in_log(id(1));
        let erased = vault.create_data_key(id(1)).await.unwrap().seal_value(&stream, event_id, "f", &json!("Ada"));
        let (stream, event_id) = place_in_log(id(2));
        let kept = vault.create_data_key(id(2)).await.unwrap().seal_value(&stream, event_id, "f", &json!("Bob"));
        vault.claim_pending([1; 32], id(1), at(0)).await.unwrap();
        vault.store_credential(id(7), id(1), "phc").await.unwrap();

        for _ in 0..2 {
            vault.erase_person(id(1), at(1)).await.unwrap();
            assert!(matches!(vault.data_key(id(1)).await, Err(KeyError::Erased)));
            assert!(matches!(vault.create_data_key(id(1)).await, Err(KeyError::Erased)));
        }
        let opened = vault.open_many(&[erased, kept.clone(), kept]).await.unwrap();
        assert_eq!(opened, [Opened::Erased, Opened::Plain(json!("Bob")), Opened::Plain(json!("Bob"))]);
        assert_eq!(vault.claims([1; 32]).await.unwrap(), vault::Claims::default());
        assert_eq!(vault.credential(id(7)).await.unwrap(), None);

        // Erased before there was a key: none can come later.
        vault.erase_person(id(3), at(1)).await.unwrap();
        assert!(matches!(vault.create_data_key(id(3)).await, Err(KeyError::Erased)));
    }

    async fn another_process_notices_an_erasure_within_a_second(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        one.create_data_key(id(1)).await.unwrap();
        other.data_key(id(1)).await.unwrap();
        one.erase_person(id(1), at(1)).await.unwrap();
        let erased_at = tokio::time::Instant::now();
        // The moment is judged by a look that began after the second was over, so a slow machine fails nothing.
        let late = eventually(Duration::from_secs(10), || async {
            let asked_at = tokio::time::Instant::now();
            match other.data_key(id(1)).await {
                Err(KeyError::Erased) => Some(false),
                _ => (asked_at > erased_at + Duration::from_secs(1)).then_some(true),
            }
        })
        .await;
        assert!(!late, "a key was given more than a second after its erasure");
    }

    async fn cached_keys_ask_the_database_nothing(place: Place) {
        let vault = place.open().await;
        vault.create_data_key(id(1)).await.unwrap();
        let asked = eventually(Duration::from_secs(10), || async {
            // All within one second, on a machine however busy: else try again.
            let began = tokio::time::Instant::now();
            vault.data_key(id(1)).await.unwrap();
            let before = vault.key_queries();
            for _ in 0..100 {
                vault.data_key(id(1)).await.unwrap();
            }
            (began.elapsed() < Duration::from_secs(1)).then(|| vault.key_queries() - before)
        })
        .await;
        assert_eq!(asked, 0);
    }

    async fn a_row_is_read_again_only_after_some_key_has_changed(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        for person in 1..=3 {
            other.create_data_key(id(person)).await.unwrap();
        }
        vault.data_key(id(1)).await.unwrap();
        let began = tokio::time::Instant::now();
        eventually(Duration::from_secs(10), || async {
            vault.data_key(id(1)).await.unwrap();
            (began.elapsed() > 2 * Duration::from_secs(1)).then_some(())
        })
        .await;
        assert_eq!(vault.key_queries(), 1, "it outlives its second, for nothing has changed");

        other.erase_person(id(3), at(1)).await.unwrap();
        eventually(Duration::from_secs(10), || async {
            vault.data_key(id(1)).await.unwrap();
            (vault.key_queries() > 1).then_some(())
        })
        .await;
        assert!(vault.data_key(id(2)).await.is_ok());
        assert!(matches!(vault.data_key(id(3)).await, Err(KeyError::Erased)));
    }

    async fn lookups_that_wait_together_are_few_queries(place: Place) {
        let vault = place.open().await;
        for person in 0..200 {
            vault.create_data_key(id(person)).await.unwrap();
        }
        let before = vault.key_queries();
        let mut tasks = JoinSet::new();
        for person in 0..200 {
            let vault = vault.clone();
            tasks.spawn(async move { vault.data_key(id(person)).await.unwrap().person() });
        }
        let found: std::collections::HashSet<_> = tasks.join_all().await.into_iter().collect();
        assert_eq!(found.len(), 200);
        let queries = vault.key_queries() - before;
        assert!(queries <= 100, "200 lookups took {queries} queries");

        let other = place.open().await;
        let persons: Vec<_> = (0..200).map(id).collect();
        let keys = other.data_keys(&persons).await.unwrap();
        assert!(keys.len() == 200 && keys.values().all(Result::is_ok));
        assert_eq!(other.key_queries(), 1);
    }

    async fn no_secret_is_written_or_shown(place: Place) {
        let vault = place.open().await;
        let phc = vault.hash_password("canary password".into()).await.unwrap();
        vault.store_credential(id(1), id(2), &phc).await.unwrap();
        vault.claim_pending(vault.keys().claim_hash("canary@example.org"), id(2), at(0)).await.unwrap();
        let token = vault.begin_session(new_session(3, 2)).await.unwrap();
        let shown = format!(
            "{vault:?} {token:?} {:?} {:?} {:?}",
            vault.credential(id(1)).await.unwrap(),
            Opened::Plain(json!("canary")),
            vault.create_data_key(id(2)).await.unwrap(),
        );
        assert!(!shown.contains("canary") && !shown.contains("$argon2"), "{shown}");
        if let Some(folder) = place.folder() {
            use secrecy::ExposeSecret;
            assert!(test_support::files_containing(folder, "canary").is_empty());
            assert!(test_support::files_containing(folder, token.expose_secret()).is_empty());
        }
    }
}
