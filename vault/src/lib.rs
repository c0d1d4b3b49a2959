//! The store that can forget: data keys, credentials, e-mail claims, sessions, second factors, API keys, one-time codes,
//! mail on its way and throttles, with the ciphers and hashes that go with them, and the ledger of erasures beside it.
//!
//! Refuses: to hold a secret or a personal value in plain text (data keys are wrapped, passwords hashed, addresses and
//! codes keyed-hashed, mail and places sealed, refresh tokens not stored at all), to keep an unwrapped key for longer
//! than a second, to read the clock for a rule (callers pass `now`), and to decide what an account may do.

mod api_keys;
mod challenges;
mod claims;
mod clock;
mod copy;
mod credentials;
mod data_key;
mod erase;
mod error;
mod intents;
mod keys;
mod keys_edit;
mod keys_file;
mod keys_rings;
mod keys_watch;
mod ledger;
mod loader;
pub mod metrics;
mod migrate;
mod outbox;
mod password;
mod random;
mod refresh_token;
mod retention;
mod rewrap;
mod sealed;
mod second_factor;
mod seen;
mod sessions;
mod store;
mod throttle;
mod totp;
mod vault;

pub use api_keys::{ApiKey, ApiKeyInfo};
pub use challenges::{Challenge, ChallengeError, Issued, Purpose};
pub use claims::{Claims, Settled};
pub use credentials::{Credential, Stored};
pub use data_key::{DataKey, OpenError, SealError};
pub use erase::ERASED_AGAIN;
pub use error::{Error, KeyError};
pub use intents::Intent;
pub use keys::{Keys, normalise_email};
pub use keys_edit::{KeyRing, RingState, Rotation};
pub use keys_rings::{SigningKey, SigningRing};
pub use ledger::{Entry, ErasureLedger};
pub use outbox::{DueMail, Enqueued, Outgoing};
pub use password::{
    LONGEST_PASSWORD, PasswordProblem, SHORTEST_PASSWORD, needs_rehash, password_policy,
};
pub use random::random_uuid;
pub use retention::Forgotten;
pub use rewrap::Rewrapped;
pub use second_factor::{EnrollError, Factor};
pub use seen::{OpenSession, Seen};
pub use sessions::{
    EndedPage, EndedSession, FeedPosition, NewSession, RefreshError, RefreshRefusal, Refreshed,
};
pub use throttle::{Failure, Rate, Throttle};
pub use vault::{Opened, Vault, VaultOptions};
