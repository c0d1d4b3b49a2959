//! Guessing costs time: wrong passwords and codes are counted per address, wherever they are shown. It refuses to tell what
//! is right from what is wrong while an address waits.

use std::future::Future;

use events::Actor;
use mail::Content;
use vault::{Claims, normalise_email};

use super::Command;
use super::people::{Given, People};
use crate::CommandError;
use crate::order::Origin;

/// How many locks the addresses share that somebody guesses at.
const STRIPES: usize = 256;

/// Guesses at one address take turns in a process: so many at once try no more than one after another.
pub(crate) struct Turns(Box<[tokio::sync::Mutex<()>]>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect())
    }
}

impl Turns {
    pub async fn of(&self, address: &[u8; 32]) -> tokio::sync::MutexGuard<'_, ()> {
        self.0[usize::from(address[0]) % STRIPES].lock().await
    }
}

impl People {
    /// Counts a failure. Where a delay begins, those who hold the address hear of it.
    pub async fn failed(
        &self,
        origin: &Origin,
        address: [u8; 32],
        claims: Claims,
    ) -> Result<(), CommandError> {
        let failure = self.vault().note_failure(address, origin.now).await?;
        if !failure.episode_began {
            return Ok(());
        }
        let anonymous = Origin {
            actor: Actor::Anonymous,
            ..origin.clone()
        };
        for account in claims.verified.into_iter().chain(claims.newest_pending) {
            let noted = self.note(account, &Command::Throttle, &anonymous).await?;
            if noted && claims.verified == Some(account) {
                let loaded = self.load(account).await?;
                if let Some(to) = self.address(loaded.state.email.as_ref()).await? {
                    let content = Content::LogInThrottled {};
                    self.mail(account, &to, &content, origin).await?;
                }
            }
        }
        Ok(())
    }

    /// Checks what somebody shows who is logged in already. It counts like a log-in, so that a stolen token guesses no
    /// faster; but being right forgets no failures, since others may hold the address too.
    pub async fn guarded(
        &self,
        given: &Given<'_>,
        check: impl Future<Output = Result<bool, CommandError>>,
    ) -> Result<bool, CommandError> {
        let account = self.load(given.account).await?;
        let Some(email) = self.address(account.state.email.as_ref()).await? else {
            return check.await;
        };
        let (vault, now) = (self.vault(), given.origin.now);
        let address = self.stores.keys.claim_hash(&normalise_email(&email));
        let _turn = self.turns.of(&address).await;
        if vault.throttle(address, now).await?.blocked_until.is_some() {
            return Ok(false);
        }
        let right = check.await?;
        if !right {
            let claims = vault.claims(address).await?;
            self.failed(given.origin, address, claims).await?;
        }
        Ok(right)
    }
}
