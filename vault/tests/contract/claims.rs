//! Claims of addresses: many pending, one verified.

use tokio::task::JoinSet;
use vault::{Challenge, Claims, Purpose, Settled};

use super::support::{at, challenge, id, intent, on_both};

const HASH: [u8; 32] = [7; 32];

on_both! {
    async fn the_newest_pending_claim_is_told(place: Place) {
        let vault = place.open().await;
        assert_eq!(vault.claims(HASH).await.unwrap(), Claims::default());
        for (account, seconds) in [(1, 0), (2, 20), (3, 10)] {
            vault.claim_pending(HASH, id(account), at(seconds)).await.unwrap();
        }
        // Claiming again makes it no newer.
        vault.claim_pending(HASH, id(1), at(90)).await.unwrap();
        let claims = vault.claims(HASH).await.unwrap();
        assert_eq!(claims, Claims { verified: None, newest_pending: Some(id(2)) });
        assert_eq!(vault.claims([8; 32]).await.unwrap(), Claims::default());
    }

    async fn one_of_many_becomes_the_verified_holder(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let mut tasks = JoinSet::new();
        for account in 1..=10 {
            one.claim_pending(HASH, id(account), at(account as i64)).await.unwrap();
            let challenge = challenge(&one, account, Purpose::VerifyEmail, HASH).await;
            let vault = if account % 2 == 0 { one.clone() } else { other.clone() };
            tasks.spawn(async move { (account, vault.settle_claim(&challenge, &intent(account)).await.unwrap()) });
        }
        let verdicts = tasks.join_all().await;
        let winners: Vec<_> = verdicts.iter().filter(|(_, verdict)| *verdict == Settled::Verified).collect();
        assert_eq!(winners.len(), 1, "{verdicts:?}");
        assert!(verdicts.iter().all(|(_, verdict)| *verdict != Settled::Used), "{verdicts:?}");
        let holder = id(winners[0].0);
        let claims = one.claims(HASH).await.unwrap();
        assert_eq!(claims.verified, Some(holder));
        assert!(claims.newest_pending.is_some_and(|pending| pending != holder));
        let begun = one.due_intents(at(100), 20).await.unwrap();
        assert_eq!(begun, [intent(winners[0].0)], "the others' were not stored");

        // A repeated registration does not unmake the verification; releasing it frees the address.
        one.claim_pending(HASH, holder, at(99)).await.unwrap();
        assert_eq!(one.claims(HASH).await.unwrap().verified, Some(holder));
        one.release_claims(holder).await.unwrap();
        let claims = one.claims(HASH).await.unwrap();
        assert_eq!(claims.verified, None);
        let next = claims.newest_pending.unwrap().as_u128();
        let again = challenge(&one, next, Purpose::VerifyEmail, HASH).await;
        assert_eq!(one.settle_claim(&again, &intent(99)).await.unwrap(), Settled::Verified);
    }

    async fn an_address_that_is_taken_leaves_everything_as_it_was(place: Place) {
        const OTHER: [u8; 32] = [8; 32];
        let vault = place.open().await;
        let first = challenge(&vault, 1, Purpose::ChangeEmail, HASH).await;
        assert_eq!(vault.settle_claim(&first, &intent(1)).await.unwrap(), Settled::Verified, "without a claim before");
        vault.claim_pending(OTHER, id(2), at(0)).await.unwrap();
        let late = challenge(&vault, 2, Purpose::ChangeEmail, HASH).await;
        for _ in 0..2 {
            // The second time as the first: the challenge is not used up.
            assert_eq!(vault.settle_claim(&late, &intent(2)).await.unwrap(), Settled::Taken);
        }
        assert_eq!(vault.claims(HASH).await.unwrap(), Claims { verified: Some(id(1)), newest_pending: None });
        assert_eq!(vault.claims(OTHER).await.unwrap().newest_pending, Some(id(2)));
        assert_eq!(vault.due_intents(at(100), 20).await.unwrap(), [intent(1)]);
    }

    async fn a_change_of_address_moves_the_claim(place: Place) {
        const NEW: [u8; 32] = [8; 32];
        let vault = place.open().await;
        for hash in [HASH, [9; 32]] {
            vault.claim_pending(hash, id(1), at(0)).await.unwrap();
            vault.claim_pending(hash, id(2), at(0)).await.unwrap();
        }
        let old = challenge(&vault, 1, Purpose::VerifyEmail, HASH).await;
        assert_eq!(vault.settle_claim(&old, &intent(1)).await.unwrap(), Settled::Verified);
        let new = challenge(&vault, 1, Purpose::ChangeEmail, NEW).await;
        assert_eq!(vault.settle_claim(&new, &intent(2)).await.unwrap(), Settled::Verified);
        assert_eq!(vault.claims(NEW).await.unwrap(), Claims { verified: Some(id(1)), newest_pending: None });
        for hash in [HASH, [9; 32]] {
            let others = Claims { verified: None, newest_pending: Some(id(2)) };
            assert_eq!(vault.claims(hash).await.unwrap(), others, "this account's alone are gone");
        }
    }

    async fn a_challenge_settles_once_and_only_what_it_is_for(place: Place) {
        let (one, other) = (place.open().await, place.open().await);
        let shown = challenge(&one, 1, Purpose::VerifyEmail, HASH).await;
        let mut tasks = JoinSet::new();
        for number in 0..10 {
            let (vault, shown) = (if number % 2 == 0 { one.clone() } else { other.clone() }, shown.clone());
            tasks.spawn(async move { vault.settle_claim(&shown, &intent(number)).await.unwrap() });
        }
        let verdicts = tasks.join_all().await;
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Settled::Verified).count(), 1, "{verdicts:?}");
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Settled::Used).count(), 9, "{verdicts:?}");
        assert_eq!(one.due_intents(at(100), 20).await.unwrap().len(), 1);

        let replaced = challenge(&one, 1, Purpose::ChangeEmail, HASH).await;
        challenge(&one, 1, Purpose::ChangeEmail, HASH).await;
        assert_eq!(one.settle_claim(&replaced, &intent(20)).await.unwrap(), Settled::Used);
        let reset = challenge(&one, 1, Purpose::ResetPassword, HASH).await;
        assert!(one.settle_claim(&reset, &intent(21)).await.is_err());
        assert!(one.settle_claim(&Challenge { subject: None, ..replaced }, &intent(22)).await.is_err());
    }
}
