//! Password hashes: how they are made, and that an id is taken once.

use tokio::task::JoinSet;
use vault::{Credential, Purpose, Stored};

use super::support::{Place, at, challenge, id, intent, on_both};

on_both! {
    async fn a_password_verifies_in_any_unicode_form(place: Place) {
        let vault = place.open().await;
        let phc = vault.hash_password("pässwörter sind schön".into()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(!vault::needs_rehash(&phc));
        let decomposed = "pa\u{308}sswo\u{308}rter sind scho\u{308}n";
        assert!(vault.verify_password(Some(&phc), decomposed.into()).await.unwrap());
        assert!(!vault.verify_password(Some(&phc), "passworter sind schon".into()).await.unwrap());
        assert!(!vault.verify_password(None, decomposed.into()).await.unwrap());
        assert_ne!(vault.hash_password("pässwörter sind schön".into()).await.unwrap(), phc, "salts differ");
    }

    async fn a_second_credential_under_an_id_leaves_the_first(place: Place) {
        let vault = place.open().await;
        assert_eq!(vault.store_credential(id(1), id(2), "first").await.unwrap(), Stored::New);
        let there = Credential { account: id(2), phc: "first".into() };
        assert_eq!(vault.store_credential(id(1), id(9), "second").await.unwrap(), Stored::Already(there.clone()));
        assert_eq!(vault.credential(id(1)).await.unwrap(), Some(there));
        assert_eq!(vault.credential(id(3)).await.unwrap(), None);
    }

    async fn a_rehash_replaces_only_what_it_was_made_from(place: Place) {
        let vault = place.open().await;
        vault.store_credential(id(1), id(2), "old").await.unwrap();
        assert!(!vault.replace_phc(id(1), "other", "new").await.unwrap());
        assert!(vault.replace_phc(id(1), "old", "new").await.unwrap());
        assert_eq!(vault.credential(id(1)).await.unwrap().unwrap().phc, "new");
    }

    async fn an_accounts_credentials_go_together(place: Place) {
        let vault = place.open().await;
        for (credential, account) in [(1, 10), (2, 10), (3, 11)] {
            vault.store_credential(id(credential), id(account), "phc").await.unwrap();
        }
        vault.delete_credentials(id(10)).await.unwrap();
        assert!(vault.credential(id(1)).await.unwrap().is_none());
        assert!(vault.credential(id(2)).await.unwrap().is_none());
        assert!(vault.credential(id(3)).await.unwrap().is_some());
    }

    async fn all_but_one_can_go(place: Place) {
        let vault = place.open().await;
        for (credential, account) in [(1, 10), (2, 10), (3, 11)] {
            vault.store_credential(id(credential), id(account), "phc").await.unwrap();
        }
        vault.delete_credentials_but(id(10), id(2)).await.unwrap();
        let mut left = Vec::new();
        for credential in 1..=3 {
            left.push(vault.credential(id(credential)).await.unwrap().is_some());
        }
        assert_eq!(left, [false, true, true]);
    }

    async fn a_reset_happens_once_of_any_number_at_once(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let shown = challenge(&one, 1, Purpose::ResetPassword, [7; 32]).await;
        let mut tasks = JoinSet::new();
        for number in 0..10 {
            let (vault, shown) = (if number % 2 == 0 { one.clone() } else { other.clone() }, shown.clone());
            tasks.spawn(async move {
                (number, vault.settle_reset(&shown, id(number), "phc", &intent(number)).await.unwrap())
            });
        }
        let won: Vec<_> = tasks.join_all().await.into_iter().filter(|(_, won)| *won).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        let mut stored = Vec::new();
        for number in 0..10 {
            if one.credential(id(number)).await.unwrap().is_some_and(|credential| credential.account == id(1)) {
                stored.push(number);
            }
        }
        assert_eq!(stored, [won[0].0]);
        assert_eq!(one.due_intents(at(100), 20).await.unwrap(), [intent(won[0].0)]);
        let verify = challenge(&one, 1, Purpose::VerifyEmail, [7; 32]).await;
        assert!(one.settle_reset(&verify, id(50), "phc", &intent(50)).await.is_err());
        assert!(one.credential(id(50)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn many_log_ins_at_once_are_all_answered_while_the_vault_goes_on() {
    let vault = Place::sqlite().open().await;
    let phc = vault
        .hash_password("one right password".into())
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    for index in 0..30 {
        let (vault, phc) = (vault.clone(), phc.clone());
        tasks.spawn(async move {
            let password = if index % 2 == 0 {
                "one right password"
            } else {
                "one wrong password"
            };
            vault
                .verify_password(Some(&phc), password.into())
                .await
                .unwrap()
                == (index % 2 == 0)
        });
    }
    // On a single-threaded runtime: this is answered only if hashing holds up no async thread.
    vault.check().await.unwrap();
    assert!(!tasks.is_empty());
    assert!(tasks.join_all().await.into_iter().all(|right| right));
}
