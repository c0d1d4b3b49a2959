//! The keys that are no person's: master keys, hash keys and signing keys, ready for use.
//!
//! Refuses: to show a key in Debug, and to hand a key's bytes out (but for signing keys, which the token library needs).

use std::fmt;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use events::CommandId;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::data_key::DataKey;
use crate::error::Error;
use crate::keys_file::{self, KeysFile};
use crate::keys_rings::{MasterRing, Rings, SigningRing};
use crate::keys_watch::{Seen, Stamp, Watch};
use crate::random::random_bytes;

/// Opens the additional authenticated data of a wrapped data key.
const WRAP_LABEL: &[u8] = b"showcaller data key 1";

/// What the keys file holds. Key bytes are wiped when it is dropped. Its rings follow the file; the other keys are for ever.
pub struct Keys {
    claim: hmac::Key,
    command: hmac::Key,
    token: hmac::Key,
    session: hmac::Key,
    rings: RwLock<Rings>,
    file: Option<Watch>,
}

impl Keys {
    /// Reads a keys file, and reads it again when it changes, within a second: a key that is added, or whose turn is
    /// planned, is known before it is used. One that others may read is refused, as is one of a newer format.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let (file, stamp) = keys_file::load(path.as_ref())?;
        Self::from_file(&file)?.watching(path.as_ref(), stamp)
    }

    /// Draws new keys and writes them to a new file (mode 0600, folder made if needed). A file that is there already
    /// is never overwritten.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        keys_file::create(path.as_ref(), &KeysFile::generate())?;
        Self::load(path)
    }

    /// New keys in memory alone. What is encrypted under them is lost with the process: for tests.
    pub fn generate() -> Self {
        Self::from_file(&KeysFile::generate()).expect("generated keys are valid")
    }

    pub(crate) fn from_file(file: &KeysFile) -> Result<Self, Error> {
        let mac_key =
            |secret: &keys_file::Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
        Ok(Self {
            claim: mac_key(&file.claim),
            command: mac_key(&file.command),
            token: mac_key(&file.token),
            session: mac_key(&file.session),
            rings: RwLock::new(Rings::new(file)?),
            file: None,
        })
    }

    fn watching(mut self, path: &Path, stamp: Stamp) -> Result<Self, Error> {
        // Relative paths would follow the process's folder.
        let path = std::path::absolute(path).map_err(|error| {
            Error::Invalid(format!(
                "the keys file {} can't be found: {error}",
                path.display()
            ))
        })?;
        self.file = Some(Watch::new(&path, stamp));
        Ok(self)
    }

    /// Looks at the keys file now, before it is due, at most once a second: for a key that is not known.
    pub fn look_again(&self) {
        if let Some(file) = &self.file
            && let Some(seen) = file.urged()
        {
            self.look(&file.path, seen);
        }
    }

    /// The rings as the file has them, or had them a second ago.
    fn rings(&self) -> Rings {
        if let Some(file) = &self.file
            && let Some(seen) = file.due()
        {
            self.look(&file.path, seen);
        }
        let rings = self.rings.read().unwrap_or_else(PoisonError::into_inner);
        rings.clone()
    }

    /// Takes over the rings of a file that has changed. One that cannot be used is told once, and changes nothing.
    fn look(&self, path: &Path, mut seen: MutexGuard<'_, Seen>) {
        let stamp = Stamp::of(path);
        if stamp == Some(seen.loaded) {
            return;
        }
        match self.reread(path) {
            Ok((rings, loaded)) => {
                *self.rings.write().unwrap_or_else(PoisonError::into_inner) = rings;
                seen.loaded = loaded;
                seen.complaint = None;
                tracing::info!(file = %path.display(), "read the keys file again");
            }
            Err(error) => {
                let complaint = error.to_string();
                if seen.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(error = %complaint, "the changed keys file can't be used; the keys known before stay in use");
                    seen.complaint = Some(complaint);
                }
            }
        }
    }

    fn reread(&self, path: &Path) -> Result<(Rings, Stamp), Error> {
        let (file, stamp) = keys_file::load(path)?;
        let new = Self::from_file(&file)?;
        let lasting = |keys: &Self| (keys.check_value(), keys.token_mac(b"check"));
        if lasting(&new) != lasting(self) {
            return Err(Error::Invalid(format!(
                "{} now holds other claim, command, token or session keys, which a running process does not change",
                path.display()
            )));
        }
        Ok((new.rings(), stamp))
    }

    /// The keys that sign access tokens and those that verify them. The same `Arc` until the keys file changes.
    pub fn signing(&self) -> Arc<SigningRing> {
        self.rings().signing
    }

    /// The keys that wrap data keys. The same `Arc` until the keys file changes.
    pub(crate) fn masters(&self) -> Arc<MasterRing> {
        self.rings().master
    }

    /// The keyed hash under which an address is claimed. Takes what [`normalise_email`] gives.
    pub fn claim_hash(&self, normalised_email: &str) -> [u8; 32] {
        mac(&self.claim, b"email", &[normalised_email.as_bytes()])
    }

    /// [`normalise_email`], for callers that have the keys at hand.
    pub fn normalise_email(&self, email: &str) -> String {
        normalise_email(email)
    }

    /// The id of the command that `principal` gives for `target` (a stream, or a category where a stream begins) under
    /// an Idempotency-Key: always the same for the same three.
    pub fn command_id(&self, principal: &str, target: &str, idempotency_key: &str) -> CommandId {
        let hash = mac(
            &self.command,
            b"command id",
            &[
                principal.as_bytes(),
                target.as_bytes(),
                idempotency_key.as_bytes(),
            ],
        );
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        CommandId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// A keyed hash of `parts` (each counted with its length), for commands on streams without a person.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> String {
        URL_SAFE_NO_PAD.encode(mac(&self.command, b"fingerprint", parts))
    }

    /// The authenticator of a position token or a cursor.
    pub fn token_mac(&self, bytes: &[u8]) -> [u8; 32] {
        mac(&self.token, b"token", &[bytes])
    }

    /// Whether `tag` is the authenticator of `bytes`; takes the same time whatever differs.
    pub fn verify_token_mac(&self, bytes: &[u8], tag: &[u8]) -> bool {
        same(&self.token_mac(bytes), tag)
    }

    /// The authenticator of a backup's manifest: keyed by what no rotation replaces, since backups are kept for long.
    pub fn manifest_mac(&self, bytes: &[u8]) -> [u8; 32] {
        mac(&self.command, b"backup manifest", &[bytes])
    }

    /// Whether `tag` is the authenticator of a manifest.
    pub fn verify_manifest_mac(&self, bytes: &[u8], tag: &[u8]) -> bool {
        same(&self.manifest_mac(bytes), tag)
    }

    pub(crate) fn session_mac(&self, bytes: &[u8]) -> [u8; 32] {
        mac(&self.session, b"refresh token", &[bytes])
    }

    pub(crate) fn verify_session_mac(&self, bytes: &[u8], tag: &[u8]) -> bool {
        same(&self.session_mac(bytes), tag)
    }

    /// A value that tells whether a vault was made with these keys, and says nothing about them.
    pub(crate) fn check_value(&self) -> String {
        let parts = [&self.claim, &self.command, &self.session].map(|key| mac(key, b"check", &[]));
        URL_SAFE_NO_PAD.encode(mac(
            &self.claim,
            b"check",
            &[&parts[0], &parts[1], &parts[2]],
        ))
    }

    /// A new data key of `person`, and its wrapped form.
    pub(crate) fn new_data_key(&self, person: Uuid, now: DateTime<Utc>) -> (DataKey, Wrapped) {
        let key = Zeroizing::new(random_bytes::<32>());
        let wrapped = self.wrap(person, &key, now);
        (DataKey::new(person, &key), wrapped)
    }

    fn wrap(&self, person: Uuid, key: &[u8; 32], now: DateTime<Utc>) -> Wrapped {
        let masters = self.masters();
        let master = masters.turns.at(now);
        let nonce = random_bytes::<NONCE_LEN>();
        let mut bytes = nonce.to_vec();
        let mut sealed = Zeroizing::new(key.to_vec());
        let tag = masters.keys[master]
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                wrap_aad(master, person),
                &mut sealed,
            )
            .expect("AES-GCM seals 32 bytes");
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(tag.as_ref());
        Wrapped {
            master: master.to_owned(),
            bytes,
        }
    }

    /// The same data key, wrapped by the master key that is current now.
    pub(crate) fn rewrap(
        &self,
        person: Uuid,
        master: &str,
        wrapped: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Wrapped, Error> {
        let key = self.unwrap(person, master, wrapped)?;
        Ok(self.wrap(person, &key, now))
    }

    fn unwrap(
        &self,
        person: Uuid,
        master: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, Error> {
        let mut masters = self.masters();
        if !masters.keys.contains_key(master) {
            // Another process may know a newer file.
            self.look_again();
            masters = self.masters();
        }
        let key = masters.keys.get(master).ok_or_else(|| {
            Error::Invalid(format!(
                "a data key is wrapped by the master key {master:?}, which the keys file does not hold: put it back"
            ))
        })?;
        let forged = || {
            Error::Invalid(format!(
                "a data key does not open under the master key {master:?}"
            ))
        };
        let (nonce, sealed) = wrapped
            .split_first_chunk::<NONCE_LEN>()
            .ok_or_else(forged)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let plain = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                wrap_aad(master, person),
                &mut sealed,
            )
            .map_err(|_| forged())?;
        let plain: &[u8; 32] = (&*plain).try_into().map_err(|_| forged())?;
        Ok(Zeroizing::new(*plain))
    }

    pub(crate) fn unwrap_data_key(
        &self,
        person: Uuid,
        master: &str,
        wrapped: &[u8],
    ) -> Result<DataKey, Error> {
        let plain = self.unwrap(person, master, wrapped)?;
        Ok(DataKey::new(person, &plain))
    }

    /// The key under which something is counted, a client's address for example: `label` says what.
    pub fn rate_key(&self, label: &str, text: &str) -> [u8; 32] {
        self.secret_hash(b"rate", &[label.as_bytes(), text.as_bytes()])
    }

    /// The keyed hash under which a short-lived secret (a code, a link) is stored; each kind has a label of its own.
    pub(crate) fn secret_hash(&self, label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        mac(&self.session, label, parts)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rings = self.rings();
        f.debug_struct("Keys")
            .field("masters", &rings.master.keys.keys())
            .field("signing", &rings.signing)
            .finish_non_exhaustive()
    }
}

/// A data key as the vault holds it: which master key it is wrapped by, and nonce, ciphertext, tag.
pub(crate) struct Wrapped {
    pub(crate) master: String,
    pub(crate) bytes: Vec<u8>,
}

/// The one form under which an address is claimed: trimmed, Unicode NFC, lower case.
pub fn normalise_email(email: &str) -> String {
    email
        .trim()
        .nfc()
        .flat_map(char::to_lowercase)
        .nfc()
        .collect()
}

/// An AES-256-GCM key with its schedule prepared.
pub(crate) fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

/// HMAC-SHA256 over a label and parts, each with its length before it, so that no two lists read the same.
pub(crate) fn mac(key: &hmac::Key, label: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in std::iter::once(&label).chain(parts) {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.sign().as_ref());
    bytes
}

/// Compares in the same time whatever differs.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn wrap_aad(master: &str, person: Uuid) -> Aad<Vec<u8>> {
    Aad::from([WRAP_LABEL, &[0], master.as_bytes(), &[0], person.as_bytes()].concat())
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
