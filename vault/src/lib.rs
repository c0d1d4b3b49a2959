//! The store that can forget: data keys, credentials, e-mail claims and refresh-token families, and the ciphers and
//! hashes that go with them.
//!
//! Refuses: to hold a secret in plain text (data keys are wrapped, passwords hashed, addresses keyed-hashed, refresh
//! tokens not stored at all), to keep an unwrapped key for longer than a second, to read the clock for a rule (callers
//! pass `now`), and to decide what an account may do.

mod challenges;
mod claims;
mod credentials;
mod data_key;
mod error;
mod intents;
mod keys;
mod keys_file;
mod loader;
mod migrate;
mod password;
mod random;
mod refresh_token;
mod sealed;
mod seen;
mod sessions;
mod store;
mod throttle;
mod vault;

pub use challenges::{Challenge, ChallengeError, Issued, Purpose};
pub use claims::{Claims, Settled};
pub use credentials::{Credential, Stored};
pub use data_key::{DataKey, OpenError, SealError};
pub use error::{Error, KeyError};
pub use intents::Intent;
pub use keys::{Keys, SigningKey, normalise_email};
pub use password::{PasswordProblem, needs_rehash, password_policy};
pub use random::random_uuid;
pub use seen::{OpenSession, Seen};
pub use sessions::{
    EndedPage, EndedSession, FeedPosition, NewSession, RefreshError, RefreshRefusal, Refreshed,
};
pub use throttle::{Failure, Rate, Throttle};
pub use vault::{Opened, Vault, VaultOptions};
