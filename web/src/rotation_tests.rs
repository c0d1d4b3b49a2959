//! Signing keys that take turns while two processes serve from one keys file.

use std::path::Path;
use std::time::Duration;

use test_support::{TempDir, eventually, temp_dir};
use vault::KeyRing;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// Two processes on one new keys file.
fn two(folder: &TempDir) -> (std::path::PathBuf, Tokens, Tokens) {
    let path = folder.path().join("keys.json");
    Keys::create(&path).unwrap();
    let (one, two) = (process(&path), process(&path));
    (path, one, two)
}

fn process(path: &Path) -> Tokens {
    let settings = TokenSettings {
        issuer: "test".into(),
        audience: "test".into(),
    };
    Tokens::new(Arc::new(Keys::load(path).unwrap()), settings)
}

fn issue(tokens: &Tokens, now: DateTime<Utc>) -> String {
    let grant = Grant {
        account: Uuid::from_u128(1),
        session: Uuid::from_u128(2),
        scopes: Vec::new(),
        authenticated_at: now,
        second_factor: false,
    };
    tokens.issue(&grant, now).token
}

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

fn kids(tokens: &Tokens) -> Vec<String> {
    let jwks = tokens.jwks();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_rotation_refuses_no_token_in_any_process() {
    let folder = temp_dir();
    let (path, one, two) = two(&folder);
    let before = issue(&one, at(0));
    let rotation = Keys::rotate(&path, KeyRing::Signing, at(300), at(0)).unwrap();
    assert_eq!(rotation.current, kid(&before));

    // Both publish the next key before it signs, within a second or two.
    eventually(Duration::from_secs(5), || async {
        [&one, &two]
            .iter()
            .all(|process| kids(process).contains(&rotation.next))
    })
    .await;
    assert_eq!(kid(&issue(&one, at(299))), rotation.current);
    let after = issue(&one, at(300));
    assert_eq!(kid(&after), rotation.next);
    for process in [&one, &two] {
        assert!(process.verify(&before, at(301)).is_ok());
        assert!(process.verify(&after, at(301)).is_ok());
    }
    let late = self::process(&path);
    assert_eq!(kid(&issue(&late, at(301))), rotation.next);
    assert!(late.verify(&before, at(301)).is_ok());
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_before_its_token_is_refused() {
    let folder = temp_dir();
    let (path, one, _) = two(&folder);
    let rotation = Keys::rotate(&path, KeyRing::Signing, at(0), at(0)).unwrap();
    // Another process knows the new file already; this one has not looked since.
    let quicker = issue(&process(&path), at(1));
    assert_eq!(kid(&quicker), rotation.next);
    assert!(one.verify(&quicker, at(1)).is_ok());
}

#[tokio::test]
async fn a_key_that_is_taken_out_ends_its_tokens_also_those_seen_before() {
    let folder = temp_dir();
    let (path, one, two) = two(&folder);
    let before = issue(&one, at(0));
    let rotation = Keys::rotate(&path, KeyRing::Signing, at(10), at(0)).unwrap();
    for process in [&one, &two] {
        assert!(process.verify(&before, at(1)).is_ok());
    }
    for kid in [&rotation.current, &rotation.next] {
        let refused = Keys::remove_signing_key(&path, kid, at(9)).unwrap_err();
        assert!(refused.to_string().contains("in use"), "{refused}");
    }
    Keys::remove_signing_key(&path, &rotation.current, at(10)).unwrap();
    for process in [&one, &two] {
        eventually(Duration::from_secs(5), || async {
            process.verify(&before, at(11)).is_err()
        })
        .await;
        assert!(process.verify(&issue(&one, at(11)), at(11)).is_ok());
        assert_eq!(kids(process), std::slice::from_ref(&rotation.next));
    }
}
