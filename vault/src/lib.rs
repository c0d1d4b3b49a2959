//! The store that can forget: data keys, credentials, e-mail claims and refresh-token families, and the ciphers and
//! hashes that go with them.
//!
//! Refuses: to hold a secret in plain text (data keys are wrapped, passwords hashed, addresses keyed-hashed, refresh
//! tokens not stored at all), to keep an unwrapped key for longer than a second, to read the clock for a rule (callers
//! pass `now`), and to decide what an account may do.

mod claims;
mod clock;
mod credentials;
mod data_key;
mod error;
mod keys;
mod keys_edit;
mod keys_file;
mod keys_rings;
mod keys_watch;
mod loader;
mod migrate;
mod password;
mod random;
mod refresh_token;
mod rewrap;
mod sessions;
mod store;
mod vault;

pub use claims::{ClaimVerdict, Claims};
pub use credentials::{Credential, Stored};
pub use data_key::{DataKey, OpenError, SealError};
pub use error::{Error, KeyError};
pub use keys::{Keys, normalise_email};
pub use keys_edit::{KeyRing, RingState, Rotation};
pub use keys_rings::{SigningKey, SigningRing};
pub use password::{PasswordProblem, needs_rehash, password_policy};
pub use random::random_uuid;
pub use rewrap::Rewrapped;
pub use sessions::{
    EndedPage, EndedSession, FeedPosition, RefreshError, RefreshRefusal, Refreshed,
};
pub use vault::{Opened, Vault, VaultOptions};
