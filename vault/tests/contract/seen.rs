//! From where sessions are used: told to their account, and to nobody else.

use secrecy::ExposeSecret;
use vault::{KeyError, OpenSession, RefreshError, RefreshRefusal, Seen, Vault};

use super::support::{at, id, new_session, on_both};

fn from(device: &str, address: &str) -> Seen {
    Seen {
        device: Some(device.into()),
        address: Some(address.into()),
    }
}

async fn begin(vault: &Vault, session: u128, account: u128, seconds: i64, seen: Seen) -> String {
    let mut new = new_session(session, account);
    (new.started_at, new.second_factor, new.seen) = (at(seconds), session % 2 == 1, seen);
    vault
        .begin_session(new)
        .await
        .unwrap()
        .expose_secret()
        .to_owned()
}

async fn open(vault: &Vault, account: u128, seconds: i64) -> Vec<OpenSession> {
    vault.open_sessions(id(account), at(seconds)).await.unwrap()
}

on_both! {
    async fn an_account_sees_where_its_open_sessions_are_used(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        vault.create_data_key(id(10)).await.unwrap();
        let token = begin(&vault, 1, 10, 0, from("canary phone", "192.0.2.1")).await;
        begin(&vault, 2, 10, 5, Seen::default()).await;
        begin(&vault, 3, 11, 5, Seen::default()).await;
        begin(&vault, 4, 10, 6, Seen::default()).await;
        vault.end_session(id(4), at(7)).await.unwrap();
        let first = OpenSession {
            id: id(1),
            started_at: at(0),
            last_seen_at: Some(at(0)),
            expires_at: at(1_000),
            second_factor: true,
            device: Some("canary phone".into()),
            address: Some("192.0.2.1".into()),
        };
        let second = OpenSession {
            id: id(2),
            started_at: at(5),
            last_seen_at: Some(at(5)),
            second_factor: false,
            device: None,
            address: None,
            ..first.clone()
        };
        assert_eq!(open(&other, 10, 8).await, [second.clone(), first.clone()]);

        let refreshed = other.refresh(&token, &from("canary laptop", "192.0.2.2"), at(9)).await.unwrap();
        assert_eq!((refreshed.started_at, refreshed.second_factor), (at(0), true));
        // The grace tells of no new place: the token was used once.
        other.refresh(&token, &from("third", "192.0.2.3"), at(10)).await.unwrap();
        let moved = OpenSession {
            last_seen_at: Some(at(9)),
            device: Some("canary laptop".into()),
            address: Some("192.0.2.2".into()),
            ..first
        };
        assert_eq!(open(&vault, 10, 10).await, [second, moved]);
        assert!(open(&vault, 10, 1_000).await.is_empty(), "expired");

        let shown = format!("{:?} {:?}", open(&vault, 10, 10).await, from("canary", "192.0.2.1"));
        assert!(!shown.contains("canary") && !shown.contains("192."), "{shown}");
        if let Some(folder) = place.folder() {
            assert!(test_support::files_containing(folder, "canary").is_empty());
            assert!(test_support::files_containing(folder, "192.0.2").is_empty());
        }
    }

    async fn a_place_needs_the_accounts_key(place: Place) {
        let vault = place.open().await;
        let mut new = new_session(1, 10);
        new.seen = from("phone", "192.0.2.1");
        assert!(matches!(vault.begin_session(new.clone()).await, Err(KeyError::Missing)));
        vault.create_data_key(id(10)).await.unwrap();
        let token = vault.begin_session(new.clone()).await.unwrap();
        vault.erase_person(id(10), at(1)).await.unwrap();
        let refreshed = vault.refresh(token.expose_secret(), &new.seen, at(2)).await;
        assert!(matches!(refreshed, Err(RefreshError::Refused(RefreshRefusal::Ended))));
        assert!(matches!(vault.begin_session(new).await, Err(KeyError::Erased)));
        let open = open(&vault, 10, 2).await;
        assert_eq!((open.len(), &open[0].device, &open[0].address), (1, &None, &None));
    }

    async fn a_sealed_place_opens_in_its_own_session_alone(place: Place) {
        let vault = place.open().await;
        vault.create_data_key(id(10)).await.unwrap();
        begin(&vault, 1, 10, 0, from("phone", "192.0.2.1")).await;
        begin(&vault, 2, 10, 0, Seen::default()).await;
        place.sql("UPDATE sessions SET seen = (SELECT seen FROM sessions WHERE seen IS NOT NULL)").await;
        let error = vault.open_sessions(id(10), at(1)).await.unwrap_err();
        assert!(error.to_string().contains("not authentic"), "{error}");
    }

    async fn the_newest_hundred_are_told_and_names_are_cut(place: Place) {
        let vault = place.open().await;
        vault.create_data_key(id(10)).await.unwrap();
        for session in 0..101 {
            begin(&vault, session, 10, session as i64, Seen::default()).await;
        }
        begin(&vault, 200, 10, 200, from(&"ü".repeat(300), "192.0.2.1")).await;
        let open = open(&vault, 10, 300).await;
        assert_eq!((open.len(), open[0].id, open[99].id), (100, id(200), id(2)));
        assert_eq!(open[0].device, Some("ü".repeat(256)));
    }
}
