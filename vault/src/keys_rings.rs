//! The two rings of keys that can be changed while everything runs: master keys and signing keys. In each, one key is
//! current, and another may take its place at a moment that is known beforehand.
//!
//! Refuses: a ring whose current or next key is not in it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::keys::cipher;
use crate::keys_file::{self, KeysFile, Next};

/// The DER that stands before an Ed25519 seed in PKCS#8 version 1 (RFC 8410, section 7).
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Both rings, as one state of the keys file has them.
#[derive(Clone)]
pub(crate) struct Rings {
    pub(crate) master: Arc<MasterRing>,
    pub(crate) signing: Arc<SigningRing>,
}

impl Rings {
    pub(crate) fn new(file: &KeysFile) -> Result<Self, Error> {
        let turns = |ring: &keys_file::Ring, name: &str| {
            let known = |id: &String| ring.keys.contains_key(id);
            if !known(&ring.current) || ring.next.as_ref().is_some_and(|next| !known(&next.id)) {
                return Err(Error::Invalid(format!(
                    "the keys file's current or next {name} key is not among its {name} keys"
                )));
            }
            Ok(Turns {
                current: ring.current.clone(),
                next: ring.next.clone(),
            })
        };
        let master = MasterRing {
            turns: turns(&file.master, "master")?,
            keys: (file.master.keys.iter())
                .map(|(id, key)| (id.clone(), cipher(key.bytes())))
                .collect(),
        };
        let signing = SigningRing {
            turns: turns(&file.signing, "signing")?,
            keys: (file.signing.keys.iter())
                .map(|(kid, seed)| SigningKey::new(kid, seed.bytes()))
                .collect::<Result<_, _>>()?,
        };
        Ok(Self {
            master: Arc::new(master),
            signing: Arc::new(signing),
        })
    }
}

/// Which key is current, and which one takes its place when.
pub(crate) struct Turns {
    pub(crate) current: String,
    pub(crate) next: Option<Next>,
}

impl Turns {
    /// The current key's id. The moment alone decides: nothing has to be written when it passes.
    pub(crate) fn at(&self, now: DateTime<Utc>) -> &str {
        match &self.next {
            Some(next) if next.from <= now => &next.id,
            _ => &self.current,
        }
    }
}

/// The keys that wrap data keys.
pub(crate) struct MasterRing {
    pub(crate) turns: Turns,
    pub(crate) keys: BTreeMap<String, LessSafeKey>,
}

/// The keys that sign access tokens.
pub struct SigningRing {
    pub(crate) turns: Turns,
    keys: Vec<SigningKey>,
}

impl SigningRing {
    /// The key that signs new access tokens at `now`.
    pub fn current(&self, now: DateTime<Utc>) -> &SigningKey {
        let id = self.turns.at(now);
        let current = self.keys.iter().find(|key| key.kid == id);
        current.expect("the ring's turns name keys of the ring")
    }

    /// All keys whose signatures count, the next one included: the JWKS.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }
}

impl fmt::Debug for SigningRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

/// An Ed25519 key that signs access tokens.
pub struct SigningKey {
    kid: String,
    pkcs8: Zeroizing<Vec<u8>>,
    public: [u8; 32],
}

impl SigningKey {
    fn new(kid: &str, seed: &[u8; 32]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| {
            Error::Invalid(format!(
                "the keys file's signing key {kid:?} is not an Ed25519 seed"
            ))
        })?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Ok(Self {
            kid: kid.to_owned(),
            pkcs8: Zeroizing::new([&PKCS8_ED25519, &seed[..]].concat()),
            public,
        })
    }

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
