//! Claims of addresses: many pending, one verified.

use tokio::task::JoinSet;
use vault::{ClaimVerdict, Claims};

use super::support::{at, id, on_both};

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
        let vault = place.open().await;
        for account in 1..=10 {
            vault.claim_pending(HASH, id(account), at(account as i64)).await.unwrap();
        }
        let mut tasks = JoinSet::new();
        for account in 1..=10 {
            let vault = vault.clone();
            tasks.spawn(async move { (account, vault.verify_claim(HASH, id(account)).await.unwrap()) });
        }
        let verdicts = tasks.join_all().await;
        let winners: Vec<_> = verdicts.iter().filter(|(_, verdict)| *verdict == ClaimVerdict::Verified).collect();
        assert_eq!(winners.len(), 1, "{verdicts:?}");
        assert!(verdicts.iter().all(|(_, verdict)| *verdict != ClaimVerdict::NoClaim));
        let holder = id(winners[0].0);
        let claims = vault.claims(HASH).await.unwrap();
        assert_eq!(claims.verified, Some(holder));
        assert!(claims.newest_pending.is_some_and(|pending| pending != holder));
        assert_eq!(vault.verify_claim(HASH, holder).await.unwrap(), ClaimVerdict::Verified);
        assert_eq!(vault.verify_claim(HASH, id(77)).await.unwrap(), ClaimVerdict::NoClaim);

        // A repeated registration does not unmake the verification; releasing it frees the address.
        vault.claim_pending(HASH, holder, at(99)).await.unwrap();
        assert_eq!(vault.claims(HASH).await.unwrap().verified, Some(holder));
        vault.release_claims(holder).await.unwrap();
        let claims = vault.claims(HASH).await.unwrap();
        assert_eq!(claims.verified, None);
        let next = claims.newest_pending.unwrap();
        assert_eq!(vault.verify_claim(HASH, next).await.unwrap(), ClaimVerdict::Verified);
    }
}
