//! One-time codes and links: how long, how often, and for whom they count.

use secrecy::ExposeSecret;
use tokio::task::JoinSet;
use vault::{Challenge, ChallengeError, Issued, Purpose, Vault};

use super::support::{at, id, on_both};

const SUBJECT: [u8; 32] = [3; 32];

async fn issue(vault: &Vault, account: u128, purpose: Purpose, seconds: i64) -> Issued {
    vault
        .issue_challenge(id(account), purpose, Some(SUBJECT), at(seconds))
        .await
        .unwrap()
}

/// The challenge that a check gives, or `None` when it is refused.
fn met(result: Result<Challenge, ChallengeError>) -> Option<Challenge> {
    match result {
        Ok(challenge) => Some(challenge),
        Err(ChallengeError::Refused) => None,
        Err(ChallengeError::Fault(fault)) => panic!("{fault}"),
    }
}

async fn code(vault: &Vault, issued: &Issued, seconds: i64) -> Option<Challenge> {
    let code = issued.code.expose_secret();
    met(vault
        .check_code(id(1), Purpose::VerifyEmail, code, at(seconds))
        .await)
}

async fn link(vault: &Vault, issued: &Issued, seconds: i64) -> Option<Challenge> {
    let link = issued.link.expose_secret();
    met(vault
        .check_link(Purpose::VerifyEmail, link, at(seconds))
        .await)
}

/// A code that is not the one issued.
fn wrong(issued: &Issued) -> String {
    let right: u32 = issued.code.expose_secret().parse().unwrap();
    format!("{:08}", (right + 1) % 100_000_000)
}

on_both! {
    async fn code_and_link_of_any_process_meet_the_challenge(place: Place) {
        let (vault, other) = (place.open().await, place.open().await);
        let issued = issue(&vault, 1, Purpose::VerifyEmail, 0).await;
        let expected = Challenge { id: issued.id, account: id(1), purpose: Purpose::VerifyEmail, subject: Some(SUBJECT) };
        assert_eq!(code(&other, &issued, 1).await, Some(expected.clone()));
        assert_eq!(link(&other, &issued, 1).await, Some(expected.clone()));
        let text = issued.code.expose_secret();
        assert!(text.len() == 8 && text.bytes().all(|c| c.is_ascii_digit()), "{text}");
        assert_eq!(issued.link.expose_secret().len(), 43);
        let spaced = format!(" {}-{} ", &text[..4], &text[4..]);
        assert_eq!(met(vault.check_code(id(1), Purpose::VerifyEmail, &spaced, at(1)).await), Some(expected));
        let none = vault.issue_challenge(id(2), Purpose::ResetPassword, None, at(0)).await.unwrap();
        let none = vault.check_link(Purpose::ResetPassword, none.link.expose_secret(), at(1)).await.unwrap();
        assert_eq!((none.account, none.subject), (id(2), None));
    }

    async fn a_challenge_counts_for_its_account_and_purpose_alone(place: Place) {
        let vault = place.open().await;
        let issued = issue(&vault, 1, Purpose::VerifyEmail, 0).await;
        let (text, url) = (issued.code.expose_secret(), issued.link.expose_secret());
        assert_eq!(met(vault.check_code(id(2), Purpose::VerifyEmail, text, at(1)).await), None);
        assert_eq!(met(vault.check_code(id(1), Purpose::ChangeEmail, text, at(1)).await), None);
        assert_eq!(met(vault.check_link(Purpose::ChangeEmail, url, at(1)).await), None);
        assert_eq!(met(vault.check_link(Purpose::VerifyEmail, &url[1..], at(1)).await), None);
        assert_eq!(met(vault.check_link(Purpose::VerifyEmail, "", at(1)).await), None);
        // Another account's challenge is not met by this one's code, though both wait.
        issue(&vault, 2, Purpose::VerifyEmail, 0).await;
        issue(&vault, 1, Purpose::ChangeEmail, 0).await;
        assert_eq!(met(vault.check_code(id(2), Purpose::VerifyEmail, text, at(1)).await), None);
        assert!(code(&vault, &issued, 1).await.is_some(), "others take none of its tries");
    }

    async fn a_challenge_expires(place: Place) {
        let vault = place.open().await;
        for (purpose, minutes) in [(Purpose::VerifyEmail, 10), (Purpose::ChangeEmail, 10), (Purpose::ResetPassword, 30)] {
            let issued = issue(&vault, 1, purpose, 0).await;
            assert_eq!(issued.expires_at, at(minutes * 60));
            let check = async |seconds| {
                let by_code = met(vault.check_code(id(1), purpose, issued.code.expose_secret(), at(seconds)).await);
                let by_link = met(vault.check_link(purpose, issued.link.expose_secret(), at(seconds)).await);
                (by_code.is_some(), by_link.is_some())
            };
            assert_eq!(check(minutes * 60 - 1).await, (true, true));
            assert_eq!(check(minutes * 60).await, (false, false));
        }
    }

    async fn a_newer_challenge_replaces_the_older(place: Place) {
        let vault = place.open().await;
        let older = issue(&vault, 1, Purpose::VerifyEmail, 0).await;
        for _ in 0..5 {
            met(vault.check_code(id(1), Purpose::VerifyEmail, "x", at(1)).await);
        }
        let newer = issue(&vault, 1, Purpose::VerifyEmail, 2).await;
        assert_eq!(code(&vault, &older, 3).await, None);
        assert_eq!(link(&vault, &older, 3).await, None);
        assert_eq!(code(&vault, &newer, 3).await.map(|challenge| challenge.id), Some(newer.id));
        assert!(link(&vault, &newer, 3).await.is_some());
    }

    async fn the_fifth_try_counts_and_the_sixth_does_not(place: Place) {
        let vault = place.open().await;
        let issued = issue(&vault, 1, Purpose::VerifyEmail, 0).await;
        for _ in 0..4 {
            let wrong = vault.check_code(id(1), Purpose::VerifyEmail, &wrong(&issued), at(1)).await;
            assert_eq!(met(wrong), None);
        }
        assert!(code(&vault, &issued, 1).await.is_some());
        assert_eq!(code(&vault, &issued, 1).await, None);
        assert!(link(&vault, &issued, 1).await.is_some(), "nobody locks the holder of the mailbox out");
    }

    async fn of_twenty_tries_at_once_five_are_taken(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let issued = issue(&one, 1, Purpose::VerifyEmail, 0).await;
        let mut tasks = JoinSet::new();
        for index in 0..20 {
            let vault = if index % 2 == 0 { one.clone() } else { other.clone() };
            let issued = issued.clone();
            tasks.spawn(async move { code(&vault, &issued, 1).await.is_some() });
        }
        let met = tasks.join_all().await.into_iter().filter(|met| *met).count();
        assert_eq!(met, 5);
    }

    async fn neither_code_nor_link_is_stored_or_shown(place: Place) {
        let vault = place.open().await;
        let issued = issue(&vault, 1, Purpose::VerifyEmail, 0).await;
        let (text, url) = (issued.code.expose_secret(), issued.link.expose_secret());
        let shown = format!("{issued:?}");
        assert!(!shown.contains(text) && !shown.contains(url), "{shown}");
        if let Some(folder) = place.folder() {
            assert!(test_support::files_containing(folder, text).is_empty());
            assert!(test_support::files_containing(folder, url).is_empty());
        } else {
            let rows = test_support::psql(&place.url, "SELECT c::text FROM showcaller_vault.challenges c").await;
            assert!(rows.contains("verify-email") && !rows.contains(text) && !rows.contains(url), "{rows}");
        }
    }
}
