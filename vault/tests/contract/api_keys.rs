//! API keys: the same text for the same id, and only while they count.

use secrecy::ExposeSecret;
use vault::{ApiKey, ApiKeyInfo, KeyError, Vault};

use super::support::{Place, at, id, on_both};

const DAY: i64 = 24 * 60 * 60;

async fn store(vault: &Vault, key: u128, account: u128) -> String {
    let scopes = ["accounts:read".to_owned(), "seats".to_owned()];
    let text = vault
        .store_api_key(id(key), id(account), &scopes, at(DAY))
        .await
        .unwrap();
    text.expose_secret().to_owned()
}

async fn read(vault: &Vault, text: &str, seconds: i64) -> Option<ApiKey> {
    vault.api_key(text, at(seconds)).await.unwrap()
}

on_both! {
    async fn a_key_is_known_by_its_text_in_any_process(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        let text = store(&vault, 1, 10).await;
        assert!(text.starts_with("sck_") && text.len() == 68, "{text}");
        assert_eq!(store(&other, 1, 10).await, text, "a creation is retried");
        assert_ne!(store(&vault, 2, 10).await, text);
        let expected = ApiKey {
            id: id(1),
            account: id(10),
            scopes: vec!["accounts:read".into(), "seats".into()],
            expires_at: at(DAY),
        };
        assert_eq!(read(&other, &text, 0).await, Some(expected));
        assert!(vault.store_api_key(id(1), id(11), &[], at(DAY)).await.is_err(), "the id is taken");
        let longer = vault.store_api_key(id(1), id(10), &[], at(2 * DAY)).await.unwrap();
        assert_eq!(longer.expose_secret(), text);
        assert_eq!(read(&vault, &text, DAY).await, None, "a retry changes nothing");
    }

    async fn wrong_unknown_expired_and_revoked_keys_look_the_same(place: Place) {
        let vault = place.open().await;
        let text = store(&vault, 1, 10).await;
        assert!(read(&vault, &text, DAY - 1).await.is_some());
        assert_eq!(read(&vault, &text, DAY).await, None);
        let elsewhere = Place::sqlite().open().await;
        let foreign = store(&elsewhere, 1, 10).await;
        let unknown = store(&elsewhere, 2, 10).await;
        for wrong in [&foreign, &unknown, "", "sck_", "sck_AAAA", &text[4..], &text[..67], &format!("{text}A"), "sck_ü"] {
            assert_eq!(read(&vault, wrong, 0).await, None, "{wrong}");
        }
        let other = place.open().await;
        assert!(vault.revoke_api_key(id(1), at(5)).await.unwrap());
        assert!(!vault.revoke_api_key(id(1), at(6)).await.unwrap());
        assert!(!vault.revoke_api_key(id(9), at(6)).await.unwrap());
        assert_eq!(read(&other, &text, 0).await, None);
        assert_eq!(store(&vault, 1, 10).await, text);
        assert_eq!(read(&vault, &text, 0).await, None, "a retried creation revives nothing");
    }

    async fn an_accounts_keys_are_listed_and_revoked_together(place: Place) {
        let vault = place.open().await;
        for (key, account) in [(3, 10), (1, 10), (2, 10), (4, 11)] {
            store(&vault, key, account).await;
        }
        vault.revoke_api_key(id(2), at(5)).await.unwrap();
        assert_eq!(vault.revoke_api_keys(id(10), at(6)).await.unwrap(), [id(1), id(3)]);
        assert!(vault.revoke_api_keys(id(10), at(7)).await.unwrap().is_empty());
        let listed = vault.api_keys(id(10)).await.unwrap();
        let revoked: Vec<_> = listed.iter().map(|key| (key.id, key.revoked_at)).collect();
        assert_eq!(revoked, [(id(1), Some(at(6))), (id(2), Some(at(5))), (id(3), Some(at(6)))]);
        let scopes = vec!["accounts:read".into(), "seats".into()];
        let left = ApiKeyInfo { id: id(4), scopes, expires_at: at(DAY), revoked_at: None };
        assert_eq!(vault.api_keys(id(11)).await.unwrap(), [left]);
    }

    async fn an_erased_person_has_no_keys_and_gets_none(place: Place) {
        let vault = place.open().await;
        let text = store(&vault, 1, 10).await;
        vault.erase_person(id(10), at(1)).await.unwrap();
        assert_eq!(read(&vault, &text, 2).await, None);
        assert!(vault.api_keys(id(10)).await.unwrap().is_empty());
        assert!(matches!(vault.store_api_key(id(1), id(10), &[], at(DAY)).await, Err(KeyError::Erased)));
    }

    async fn the_text_is_not_stored(place: Place) {
        let vault = place.open().await;
        let text = store(&vault, 1, 10).await;
        if let Some(folder) = place.folder() {
            assert!(test_support::files_containing(folder, &text[4..]).is_empty());
        } else {
            let rows = test_support::psql(&place.url, "SELECT k::text FROM showcaller_vault.api_keys k").await;
            assert!(rows.contains("accounts:read") && !rows.contains(&text[4..]), "{rows}");
        }
    }
}
