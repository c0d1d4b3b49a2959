//! Passwords: which ones are allowed, and hashing them without holding up anything else.
//!
//! Refuses: rules about what a password is composed of; more hashes at once than the machine has cores.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::metrics;
use crate::random::random_bytes;

/// The shortest password allowed, in Unicode scalar values after NFC.
pub const SHORTEST_PASSWORD: usize = 8;
/// The longest password allowed, counted likewise.
pub const LONGEST_PASSWORD: usize = 128;
/// Argon2id's memory, in KiB.
const MEMORY_KIB: u32 = 19_456;
/// Argon2id's passes.
const PASSES: u32 = 2;
/// Argon2id's lanes.
const LANES: u32 = 1;
/// How many hashes may run or wait for each that may run: at about 20 ms each, a wait of a second or two.
const LINE_PER_CORE: usize = 64;
/// The salt's length, in bytes.
const SALT_LEN: usize = 16;
/// A hash of no password, under the parameters above: what is verified where there is no account.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2hvd2NhbGxlci1ub25l$u0ZbB1mUjSxYvEsh1f6a1oXnS2bVnYq2wq8p3Jb2xkE";

static COMMON: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("common-passwords.txt").lines().collect());

/// Why a password is not allowed. Its codes are for problem details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordProblem {
    /// Fewer than 8 characters.
    #[error("a password has at least {SHORTEST_PASSWORD} characters")]
    TooShort,
    /// More than 128 characters.
    #[error("a password has at most {LONGEST_PASSWORD} characters")]
    TooLong,
    /// On the list of those that everybody tries first.
    #[error("this password is one of the first that anybody would try")]
    Common,
}

/// Checks a new password: 8 to 128 Unicode characters (counted after NFC), and not a common one. Nothing else.
pub fn password_policy(password: &str) -> Result<(), PasswordProblem> {
    // Counted lazily, so that a huge text costs no more than a long one.
    let length = password.nfc().take(LONGEST_PASSWORD + 1).count();
    if length < SHORTEST_PASSWORD {
        return Err(PasswordProblem::TooShort);
    }
    if length > LONGEST_PASSWORD {
        return Err(PasswordProblem::TooLong);
    }
    let lower: Zeroizing<String> =
        Zeroizing::new(password.nfc().flat_map(char::to_lowercase).collect());
    if COMMON.contains(lower.as_str()) {
        Err(PasswordProblem::Common)
    } else {
        Ok(())
    }
}

/// Whether a stored hash was made with other parameters than today's: hash again at the next log-in.
pub fn needs_rehash(phc: &str) -> bool {
    let Ok(hash) = PasswordHash::new(phc) else {
        return true;
    };
    let today = params();
    hash.algorithm != argon2::ARGON2ID_IDENT
        || hash.version != Some(Version::V0x13.into())
        || !Params::try_from(&hash).is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (today.m_cost(), today.t_cost(), today.p_cost())
        })
}

/// Hashes passwords on blocking threads, as many at once as there are cores, with a waiting line of bounded length.
pub(crate) struct Hasher {
    cores: Arc<Semaphore>,
    line: Arc<Semaphore>,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            line: Arc::new(Semaphore::new(cores * LINE_PER_CORE)),
        }
    }

    pub(crate) async fn hash(&self, password: SecretString) -> Result<String, Error> {
        self.run(move || {
            let hash: Result<PasswordHash, _> = argon2().hash_password_with_salt(
                normalised(&password).as_bytes(),
                &random_bytes::<SALT_LEN>(),
            );
            hash.map(|hash| hash.to_string())
                .map_err(|error| Error::Invalid(format!("a password could not be hashed: {error}")))
        })
        .await
    }

    pub(crate) async fn verify(
        &self,
        phc: Option<&str>,
        password: SecretString,
    ) -> Result<bool, Error> {
        let known = phc.is_some();
        let phc = phc.unwrap_or(DUMMY).to_owned();
        self.run(move || {
            let unreadable =
                |error| Error::Invalid(format!("a stored password hash is unreadable: {error}"));
            let hash = PasswordHash::new(&phc).map_err(|error| unreadable(error.to_string()))?;
            match argon2().verify_password(normalised(&password).as_bytes(), &hash) {
                Ok(()) => Ok(known),
                Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(unreadable(error.to_string())),
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.line).try_acquire_owned().map_err(|_| {
            metrics::REFUSED.add(1);
            Error::Busy
        })?;
        let (began, _waiting) = (Instant::now(), metrics::HASHING.hold());
        let core = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(|_| Error::Busy)?;
        // The permits go along: a caller that gives up does not make room while its hash still runs.
        let task = tokio::task::spawn_blocking(move || {
            let _permits = (place, core);
            work()
        });
        let done = task.await;
        metrics::HASH.took(began.elapsed());
        done.map_err(|_| Error::Unavailable("a password's hashing was cut off".into()))?
    }
}

fn params() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are within Argon2's bounds")
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params())
}

fn normalised(password: &SecretString) -> Zeroizing<String> {
    Zeroizing::new(password.expose_secret().nfc().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash under weaker parameters, as an older release might have left one.
    const OLD: &str = "$argon2id$v=19$m=4096,t=3,p=1$c2hvd2NhbGxlci1ub25l$u0ZbB1mUjSxYvEsh1f6a1oXnS2bVnYq2wq8p3Jb2xkE";

    #[test]
    fn a_password_has_8_to_128_characters_of_any_script_counted_after_nfc() {
        assert_eq!(password_policy("kör7ßŭx"), Err(PasswordProblem::TooShort));
        assert_eq!(password_policy("パスワードは長く"), Ok(()));
        assert_eq!(password_policy("🦀🦀🦀🦀🦀🦀🦀🦀"), Ok(()));
        // Seven letters with combining marks: fourteen code points before NFC, seven after.
        assert_eq!(
            password_policy(&"e\u{301}".repeat(7)),
            Err(PasswordProblem::TooShort)
        );
        assert_eq!(password_policy(&"xy".repeat(64)), Ok(()));
        assert_eq!(
            password_policy(&format!("{}z", "xy".repeat(64))),
            Err(PasswordProblem::TooLong)
        );
    }

    #[test]
    fn common_passwords_are_refused_in_any_case() {
        for common in [
            "password",
            "Password1",
            "QWERTYUIOP",
            "12345678",
            "iloveyou",
            "contrase\u{6e}\u{303}a",
        ] {
            assert_eq!(
                password_policy(common),
                Err(PasswordProblem::Common),
                "{common}"
            );
        }
    }

    #[test]
    fn the_list_holds_only_what_a_lookup_can_find() {
        assert!(COMMON.len() > 1_000);
        for entry in COMMON.iter() {
            let form: String = entry.nfc().flat_map(char::to_lowercase).collect();
            assert_eq!(form, *entry);
            assert!(
                entry.chars().count() >= SHORTEST_PASSWORD,
                "{entry:?} is refused for its length already"
            );
        }
    }

    #[test]
    fn other_parameters_ask_for_a_rehash() {
        assert!(!needs_rehash(DUMMY));
        assert!(needs_rehash(OLD));
        assert!(needs_rehash("$2b$12$abcdefghijklmnopqrstuv"));
        assert!(needs_rehash(&DUMMY.replace("argon2id", "argon2i")));
    }

    #[tokio::test]
    async fn the_dummy_is_readable_and_nobodys_password() {
        let hasher = Hasher::new();
        assert!(!hasher.verify(None, "anything at all".into()).await.unwrap());
        assert!(
            hasher
                .verify(Some("not a PHC string"), "x".into())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_full_waiting_line_is_refused_at_once() {
        let hasher = Hasher {
            cores: Arc::new(Semaphore::new(1)),
            line: Arc::new(Semaphore::new(0)),
        };
        assert!(matches!(
            hasher.hash("correct horse".into()).await,
            Err(Error::Busy)
        ));
    }
}
