//! The keys that are no person's: master keys, hash keys and signing keys, ready for use.
//!
//! Refuses: to show a key in Debug, and to hand a key's bytes out (but for signing keys, which the token library needs).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use events::CommandId;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::data_key::DataKey;
use crate::error::Error;
use crate::keys_file::{self, KeysFile};
use crate::random::random_bytes;

/// The DER that stands before an Ed25519 seed in PKCS#8 version 1 (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// Opens the additional authenticated data of a wrapped data key.
const WRAP_LABEL: &[u8] = b"showcaller data key 1";

/// What the keys file holds. Key bytes are wiped when it is dropped.
pub struct Keys {
    masters: BTreeMap<String, LessSafeKey>,
    current_master: String,
    claim: hmac::Key,
    command: hmac::Key,
    token: hmac::Key,
    session: hmac::Key,
    signing: Vec<SigningKey>,
}

/// An Ed25519 key that signs access tokens.
pub struct SigningKey {
    kid: String,
    pkcs8: Zeroizing<Vec<u8>>,
    public: [u8; 32],
}

impl SigningKey {
    /// Its name in a token's header and in the JWKS.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The private key as PKCS#8 version 1 DER, as `jsonwebtoken::EncodingKey::from_ed_der` takes it.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The raw public key, as `jsonwebtoken::DecodingKey::from_ed_der` and (in base64url) a JWK's `x` take it.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads a keys file. One that others may read is refused, as is one of a newer format.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_file(&keys_file::load(path.as_ref())?)
    }

    /// Draws new keys and writes them to a new file (mode 0600, folder made if needed). A file that is there already
    /// is never overwritten.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = KeysFile::generate();
        keys_file::create(path.as_ref(), &file)?;
        Self::from_file(&file)
    }

    /// New keys in memory alone. What is encrypted under them is lost with the process: for tests.
    pub fn generate() -> Self {
        Self::from_file(&KeysFile::generate()).expect("generated keys are valid")
    }

    fn from_file(file: &KeysFile) -> Result<Self, Error> {
        if !file.master.keys.contains_key(&file.master.current) {
            return Err(Error::Invalid(
                "the keys file's current master key is not among its master keys".into(),
            ));
        }
        let mut signing = Vec::with_capacity(file.signing.keys.len());
        for (kid, seed) in &file.signing.keys {
            let pair = Ed25519KeyPair::from_seed_unchecked(seed.bytes()).map_err(|_| {
                Error::Invalid(format!(
                    "the keys file's signing key {kid:?} is not an Ed25519 seed"
                ))
            })?;
            let mut public = [0; 32];
            public.copy_from_slice(pair.public_key().as_ref());
            let pkcs8 = Zeroizing::new([&PKCS8_ED25519, &seed.bytes()[..]].concat());
            signing.push(SigningKey {
                kid: kid.clone(),
                pkcs8,
                public,
            });
        }
        let current = signing
            .iter()
            .position(|key| key.kid == file.signing.current);
        let current = current.ok_or_else(|| {
            Error::Invalid(
                "the keys file's current signing key is not among its signing keys".into(),
            )
        })?;
        signing.swap(0, current);
        let mac_key =
            |secret: &keys_file::Secret| hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
        Ok(Self {
            masters: file
                .master
                .keys
                .iter()
                .map(|(id, key)| (id.clone(), cipher(key.bytes())))
                .collect(),
            current_master: file.master.current.clone(),
            claim: mac_key(&file.claim),
            command: mac_key(&file.command),
            token: mac_key(&file.token),
            session: mac_key(&file.session),
            signing,
        })
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

    /// The key that signs new access tokens.
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing[0]
    }

    /// All keys whose signatures count, the current one first: the JWKS.
    pub fn signing_keys(&self) -> &[SigningKey] {
        &self.signing
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

    pub(crate) fn current_master(&self) -> &str {
        &self.current_master
    }

    /// A new data key of `person`, and its wrapped form under the current master key: nonce, ciphertext, tag.
    pub(crate) fn new_data_key(&self, person: Uuid) -> (DataKey, Vec<u8>) {
        let key = Zeroizing::new(random_bytes::<32>());
        let nonce = random_bytes::<NONCE_LEN>();
        let mut wrapped = nonce.to_vec();
        let mut sealed = Zeroizing::new(key.to_vec());
        let tag = self.masters[&self.current_master]
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                wrap_aad(&self.current_master, person),
                &mut sealed,
            )
            .expect("AES-GCM seals 32 bytes");
        wrapped.extend_from_slice(&sealed);
        wrapped.extend_from_slice(tag.as_ref());
        (DataKey::new(person, &key), wrapped)
    }

    pub(crate) fn unwrap_data_key(
        &self,
        person: Uuid,
        master: &str,
        wrapped: &[u8],
    ) -> Result<DataKey, Error> {
        let key = self.masters.get(master).ok_or_else(|| {
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
        Ok(DataKey::new(person, plain))
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
        f.debug_struct("Keys")
            .field("masters", &self.masters.keys())
            .field("current_master", &self.current_master)
            .field("signing", &self.signing)
            .finish_non_exhaustive()
    }
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
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_claim_however_it_is_written() {
        let keys = Keys::generate();
        let one = keys.claim_hash(&normalise_email("  Zoë.Müller@Example.ORG\t"));
        let other = keys.claim_hash(&normalise_email("zoe\u{308}.mu\u{308}ller@example.org"));
        assert_eq!(one, other);
        assert_ne!(one, keys.claim_hash("zoe.muller@example.org"));
        assert_ne!(
            one,
            Keys::generate().claim_hash(&normalise_email("Zoë.Müller@example.org"))
        );
        // Lower-casing makes two characters of this one; normalising again must change nothing.
        let dotted = normalise_email("\u{130}x@example.org");
        assert_eq!(normalise_email(&dotted), dotted);
    }

    #[test]
    fn a_command_id_is_the_same_for_the_same_three_and_no_others() {
        let keys = Keys::generate();
        let id = keys.command_id("p", "account-1", "k");
        assert_eq!(id, keys.command_id("p", "account-1", "k"));
        assert_eq!(id.0.get_version_num(), 8);
        for (principal, target, key) in [
            ("pa", "ccount-1", "k"),
            ("p", "account-1k", ""),
            ("q", "account-1", "k"),
        ] {
            assert_ne!(id, keys.command_id(principal, target, key));
        }
        assert_ne!(id, Keys::generate().command_id("p", "account-1", "k"));
    }

    #[test]
    fn a_token_authenticator_fits_its_bytes_alone() {
        let keys = Keys::generate();
        let tag = keys.token_mac(b"position");
        assert!(keys.verify_token_mac(b"position", &tag));
        assert!(!keys.verify_token_mac(b"positioN", &tag));
        assert!(!keys.verify_token_mac(b"position", &tag[..31]));
        assert!(!Keys::generate().verify_token_mac(b"position", &tag));
    }

    #[test]
    fn a_wrapped_data_key_opens_for_its_person_alone() {
        let keys = Keys::generate();
        let (person, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (made, wrapped) = keys.new_data_key(person);
        let master = keys.current_master();
        let opened = keys.unwrap_data_key(person, master, &wrapped).unwrap();
        assert_eq!(opened.fingerprint(&[b"x"]), made.fingerprint(&[b"x"]));
        assert!(keys.unwrap_data_key(other, master, &wrapped).is_err());
        assert!(
            keys.unwrap_data_key(person, master, &wrapped[..59])
                .is_err()
        );
        assert!(keys.unwrap_data_key(person, master, &[]).is_err());
        let error = keys
            .unwrap_data_key(person, "gone", &wrapped)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"gone\"") && error.contains("put it back"),
            "{error}"
        );
        assert!(
            Keys::generate()
                .unwrap_data_key(person, master, &wrapped)
                .is_err()
        );
    }

    #[test]
    fn signing_keys_sign_for_the_token_library() {
        use jsonwebtoken::{
            Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode,
        };
        let (keys, stranger) = (Keys::generate(), Keys::generate());
        let claims = serde_json::json!({"exp": 4_000_000_000_u64});
        let key = EncodingKey::from_ed_der(keys.signing_key().pkcs8_der());
        let token = encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
        let verify = |keys: &Keys| {
            let key = DecodingKey::from_ed_der(keys.signing_key().public_key());
            decode::<serde_json::Value>(&token, &key, &Validation::new(Algorithm::EdDSA)).is_ok()
        };
        assert!(verify(&keys) && !verify(&stranger));
    }

    #[test]
    fn debug_shows_ids_alone() {
        let keys = Keys::generate();
        let shown = format!("{keys:?}");
        assert!(
            shown.contains(keys.signing_key().kid()) && shown.contains(keys.current_master()),
            "{shown}"
        );
        assert!(shown.len() < 200, "{shown}");
    }
}
