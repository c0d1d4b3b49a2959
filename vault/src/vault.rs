//! The vault itself: opening it, people's data keys, and opening what they sealed.
//!
//! Refuses: to make a key for a person who was erased, and to take a missing key for an erased one.

use async_recursion::async_recursion as boxed;
use std::collections::HashMap;
use std::sync::Arc;

use events::Ciphertext;
use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;

use crate::clock;
use crate::data_key::DataKey;
use crate::error::{Error, KeyError};
use crate::keys::Keys;
use crate::loader::Loader;
use crate::migrate::migrate;
use crate::password::Hasher;
use crate::store::{Store, VAULT, on, within};

/// PostgreSQL connections by default.
const CONNECTIONS: u32 = 8;

/// How a vault is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VaultOptions {
    /// PostgreSQL connections at most (default 8). SQLite has one that writes and four that read.
    pub max_connections: u32,
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self {
            max_connections: CONNECTIONS,
        }
    }
}

/// A ciphertext, opened.
#[derive(Clone, PartialEq)]
pub enum Opened {
    /// What the person gave.
    Plain(Value),
    /// The person was erased.
    Erased,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(personal)",
            Self::Erased => "Erased",
        })
    }
}

/// An open vault. Clones are the same vault; its connections and its one task end with the last of them.
#[derive(Clone)]
pub struct Vault(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<Store>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) loader: Loader,
    hasher: Hasher,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("keys", &self.0.keys)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens `sqlite:{path}` (folder and file are made) or `postgres://…`, and brings its tables to this program's
    /// format. Refused: a newer format, other keys than it was made with, a database that may lose commits.
    /// Must be called within a Tokio runtime.
    #[boxed]
    pub async fn open(url: &str, keys: Arc<Keys>, options: VaultOptions) -> Result<Self, Error> {
        let store = Arc::new(Store::open(&VAULT, url, options.max_connections).await?);
        migrate(&store, &keys).await?;
        let loader = Loader::start(Arc::clone(&store), Arc::clone(&keys));
        Ok(Self(Arc::new(Inner {
            store,
            keys,
            loader,
            hasher: Hasher::new(),
        })))
    }

    /// The keys it was opened with.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.0.keys
    }

    /// Whether the database answers.
    #[boxed]
    pub async fn check(&self) -> Result<(), Error> {
        on!(&*self.0.store, pools =>
            within(sqlx::query("SELECT version FROM format").fetch_one(&pools.read)).await.map(drop))
    }

    /// A person's data key, made and stored durably if there is none. Call it only where a person's stream begins.
    #[boxed]
    pub async fn create_data_key(&self, person: Uuid) -> Result<Arc<DataKey>, KeyError> {
        let (key, wrapped) = self.0.keys.new_data_key(person, clock::now());
        let inserted = on!(&*self.0.store, pools => within(
            sqlx::query("INSERT INTO data_keys (person, master_key, wrapped) VALUES ($1, $2, $3) \
                         ON CONFLICT (person) DO NOTHING")
                .bind(person)
                .bind(wrapped.master)
                .bind(wrapped.bytes)
                .execute(&pools.write)
        )
        .await?
        .rows_affected());
        if inserted == 1 {
            Ok(Arc::new(key))
        } else {
            self.data_key(person).await
        }
    }

    /// A person's data key, as it was in the vault at most a second ago. Lookups that wait together are one query.
    #[boxed]
    pub async fn data_key(&self, person: Uuid) -> Result<Arc<DataKey>, KeyError> {
        self.0.loader.key(person).await
    }

    /// Several people's data keys, with one query at most (one a thousand). Every person asked for is in the answer.
    #[boxed]
    pub async fn data_keys(
        &self,
        persons: &[Uuid],
    ) -> Result<HashMap<Uuid, Result<Arc<DataKey>, KeyError>>, Error> {
        self.0.loader.keys(persons).await
    }

    /// Opens ciphertexts of any people, in the order given. One that belongs nowhere, or whose key is missing, is a
    /// fault of them all.
    #[boxed]
    pub async fn open_many(&self, ciphertexts: &[Ciphertext]) -> Result<Vec<Opened>, Error> {
        let persons = ciphertexts
            .iter()
            .map(person_of)
            .collect::<Result<Vec<_>, _>>()?;
        let keys = self.data_keys(&persons).await?;
        ciphertexts
            .iter()
            .zip(persons)
            .map(|(ciphertext, person)| match &keys[&person] {
                Ok(key) => key
                    .open(ciphertext)
                    .map(Opened::Plain)
                    .map_err(|error| Error::Invalid(format!("{ciphertext:?}: {error}"))),
                Err(KeyError::Erased) => Ok(Opened::Erased),
                Err(KeyError::Missing) => {
                    Err(Error::Invalid(format!("{person}: {}", KeyError::Missing)))
                }
                Err(KeyError::Fault(fault)) => Err(fault.clone()),
            })
            .collect()
    }

    /// How many queries for data keys this vault has sent: for metrics, and to see that lookups are batched.
    pub fn key_queries(&self) -> u64 {
        self.0.loader.queries()
    }

    /// Hashes a password (Argon2id, m = 19 MiB, t = 2, p = 1; Unicode NFC first) off the async threads, and gives the
    /// PHC string. [`Error::Busy`] when too many wait already. Check it against [`crate::password_policy`] first.
    #[boxed]
    pub async fn hash_password(&self, password: SecretString) -> Result<String, Error> {
        self.0.hasher.hash(password).await
    }

    /// Whether it is the password. Always takes one hash: without a PHC string, a dummy's, and the answer is no.
    #[boxed]
    pub async fn verify_password(
        &self,
        phc: Option<&str>,
        password: SecretString,
    ) -> Result<bool, Error> {
        self.0.hasher.verify(phc, password).await
    }
}

fn person_of(ciphertext: &Ciphertext) -> Result<Uuid, Error> {
    ciphertext
        .key_id()
        .ok_or_else(|| Error::Invalid(format!("{ciphertext:?} names no data key")))
}
