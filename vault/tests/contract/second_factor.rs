//! Second factors: enrolled with a code, each code once, and a way back without the device.

use aws_lc_rs::hmac;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinSet;
use vault::{EnrollError, Factor, KeyError, Vault};

use super::support::{at, id, on_both};

/// What an authenticator app shows.
fn app(secret: &SecretString, seconds: i64) -> String {
    let bits: Vec<_> = secret
        .expose_secret()
        .chars()
        .map(|c| "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).unwrap())
        .flat_map(|digit| (0..5).rev().map(move |bit| (digit >> bit) & 1))
        .collect();
    let byte = |bits: &[usize]| bits.iter().fold(0, |byte, bit| byte << 1 | *bit as u8);
    let seed: Vec<_> = bits.chunks(8).map(byte).collect();
    assert_eq!(seed.len(), 20);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &seed);
    let tag = hmac::sign(&key, &(at(seconds).timestamp() / 30).to_be_bytes());
    let offset = usize::from(tag.as_ref()[19] & 15);
    let word = u32::from_be_bytes(tag.as_ref()[offset..offset + 4].try_into().unwrap());
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// A code that is none of those that count.
fn wrong(secret: &SecretString, seconds: i64) -> String {
    let right = [-30, 0, 30].map(|skew| app(secret, seconds + skew));
    (0..4)
        .map(|code| format!("{code:06}"))
        .find(|code| !right.contains(code))
        .unwrap()
}

async fn check(vault: &Vault, code: &str, seconds: i64) -> Factor {
    vault
        .check_second_factor(id(1), code, at(seconds))
        .await
        .unwrap()
}

/// An account with a device, confirmed with the code of the fixed noon.
async fn enrolled(vault: &Vault, account: u128) -> (SecretString, Vec<SecretString>) {
    vault.create_data_key(id(account)).await.unwrap();
    let secret = vault.enroll_totp(id(account)).await.unwrap();
    let codes = vault
        .confirm_totp(id(account), &app(&secret, 0), at(0))
        .await
        .unwrap();
    (secret, codes.expect("the code is right"))
}

on_both! {
    async fn only_a_factor_that_was_confirmed_before_a_time_is_dropped(place: Place) {
        let vault = place.open().await;
        enrolled(&vault, 1).await;
        assert!(!vault.drop_second_factor_of_before(id(1), at(0)).await.unwrap());
        assert!(vault.has_second_factor(id(1)).await.unwrap());
        assert!(vault.drop_second_factor_of_before(id(1), at(1)).await.unwrap());
        assert!(!vault.has_second_factor(id(1)).await.unwrap());
        // One that waits for its first code stays.
        vault.enroll_totp(id(1)).await.unwrap();
        assert!(!vault.drop_second_factor_of_before(id(1), at(9_999)).await.unwrap());
    }

    async fn a_device_counts_once_it_is_confirmed(place: Place) {
        let vault = place.open().await;
        vault.create_data_key(id(1)).await.unwrap();
        let first = vault.enroll_totp(id(1)).await.unwrap();
        let secret = vault.enroll_totp(id(1)).await.unwrap();
        assert_ne!(first.expose_secret(), secret.expose_secret());
        assert!(!vault.has_second_factor(id(1)).await.unwrap());
        assert_eq!(check(&vault, &app(&secret, 0), 0).await, Factor::NotEnrolled);
        assert!(vault.new_recovery_codes(id(1)).await.unwrap().is_none());
        for code in [app(&first, 0), wrong(&secret, 0), String::new(), "abcdef".into()] {
            if code != app(&secret, 0) {
                assert!(vault.confirm_totp(id(1), &code, at(0)).await.unwrap().is_none(), "{code}");
            }
        }
        let spaced = format!("{} {}", &app(&secret, 0)[..3], &app(&secret, 0)[3..]);
        let codes = vault.confirm_totp(id(1), &spaced, at(0)).await.unwrap().unwrap();
        assert_eq!(codes.len(), 10);
        assert!(vault.has_second_factor(id(1)).await.unwrap());
        assert!(vault.confirm_totp(id(1), &app(&secret, 30), at(30)).await.unwrap().is_none(), "it is confirmed");
        assert!(matches!(vault.enroll_totp(id(1)).await, Err(EnrollError::Already)));
        assert_eq!(check(&vault, &app(&secret, 0), 0).await, Factor::Wrong, "the confirming code was used");
        assert_eq!(check(&place.open().await, &app(&secret, 30), 30).await, Factor::Totp);
        assert_eq!(vault.check_second_factor(id(2), "123456", at(0)).await.unwrap(), Factor::NotEnrolled);
        assert!(matches!(vault.enroll_totp(id(2)).await, Err(EnrollError::Key(KeyError::Missing))));
    }

    async fn a_code_counts_thirty_seconds_early_or_late_and_once(place: Place) {
        let vault = place.open().await;
        let (secret, _) = enrolled(&vault, 1).await;
        assert_eq!(check(&vault, &wrong(&secret, 300), 300).await, Factor::Wrong);
        assert_eq!(check(&vault, &app(&secret, 300), 360).await, Factor::Wrong);
        assert_eq!(check(&vault, &app(&secret, 390), 330).await, Factor::Wrong);
        assert_eq!(check(&vault, &app(&secret, 300), 330).await, Factor::Totp, "late");
        assert_eq!(check(&vault, &app(&secret, 300), 300).await, Factor::Wrong, "again");
        assert_eq!(check(&vault, &app(&secret, 390), 360).await, Factor::Totp, "early");
        assert_eq!(check(&vault, &app(&secret, 360), 360).await, Factor::Wrong, "older than one that was used");
    }

    async fn of_twenty_that_show_one_code_at_once_one_gets_in(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let (secret, recovery) = enrolled(&one, 1).await;
        for code in [app(&secret, 60), recovery[3].expose_secret().to_owned()] {
            let mut tasks = JoinSet::new();
            for index in 0..20 {
                let (vault, code) = (if index % 2 == 0 { one.clone() } else { other.clone() }, code.clone());
                tasks.spawn(async move { check(&vault, &code, 60).await });
            }
            let factors = tasks.join_all().await;
            assert_eq!(factors.iter().filter(|factor| **factor != Factor::Wrong).count(), 1, "{factors:?}");
        }
    }

    async fn each_recovery_code_counts_once_however_it_is_written(place: Place) {
        let vault = place.open().await;
        let (_, codes) = enrolled(&vault, 1).await;
        let (_, others) = enrolled(&vault, 2).await;
        for code in &codes {
            let code = code.expose_secret();
            assert!(code.len() == 14 && code.split('-').all(|part| part.len() == 4), "{code}");
            assert!(!code.contains(['i', 'l', 'o', 'u']), "{code}");
        }
        assert_eq!(check(&vault, others[0].expose_secret(), 0).await, Factor::Wrong);
        let written = |text: &str| text.to_uppercase().replace('-', " ").replace('0', "O").replace('1', "l");
        for (index, code) in codes.iter().enumerate() {
            let left = Factor::RecoveryCode { left: 9 - index as u32 };
            assert_eq!(check(&vault, &written(code.expose_secret()), 0).await, left);
            assert_eq!(check(&vault, code.expose_secret(), 0).await, Factor::Wrong);
        }
    }

    async fn new_recovery_codes_replace_the_old(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        let (_, old) = enrolled(&vault, 1).await;
        let (one, two) = tokio::join!(vault.new_recovery_codes(id(1)), other.new_recovery_codes(id(1)));
        let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
        let mut good = 0;
        for code in old.iter().chain(&one).chain(&two) {
            good += u32::from(check(&vault, code.expose_secret(), 0).await != Factor::Wrong);
        }
        assert_eq!(good, 10, "those of the last alone");
    }

    async fn what_is_removed_counts_no_more(place: Place) {
        let vault = place.open().await;
        let (secret, codes) = enrolled(&vault, 1).await;
        assert!(vault.remove_second_factor(id(1)).await.unwrap());
        assert!(!vault.remove_second_factor(id(1)).await.unwrap());
        assert!(!vault.has_second_factor(id(1)).await.unwrap());
        assert_eq!(check(&vault, &app(&secret, 60), 60).await, Factor::NotEnrolled);
        let again = vault.enroll_totp(id(1)).await.unwrap();
        vault.confirm_totp(id(1), &app(&again, 60), at(60)).await.unwrap().unwrap();
        assert_eq!(check(&vault, codes[0].expose_secret(), 60).await, Factor::Wrong);
        assert_eq!(check(&vault, &app(&again, 90), 90).await, Factor::Totp);
    }

    async fn neither_seed_nor_recovery_code_is_stored_in_clear(place: Place) {
        let vault = place.open().await;
        let (secret, codes) = enrolled(&vault, 1).await;
        if let Some(folder) = place.folder() {
            for text in [secret.expose_secret(), codes[0].expose_secret(), &codes[0].expose_secret().replace('-', "")] {
                assert!(test_support::files_containing(folder, text).is_empty());
            }
        }
        vault.erase_person(id(1), at(1)).await.unwrap();
        assert_eq!(check(&vault, &app(&secret, 60), 60).await, Factor::NotEnrolled);
        assert!(matches!(vault.enroll_totp(id(1)).await, Err(EnrollError::Key(KeyError::Erased))));
    }
}
