//! A person's data key: seals what is theirs, and opens it where it was sealed.
//!
//! Refuses: to open a ciphertext that stands in another stream, event or field than it was made for, and to show
//! itself in Debug.

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use events::{Ciphertext, EventId, PERSONAL_MARKER, StreamId};
use serde_json::Value;
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::keys::{cipher, mac};
use crate::random::public_random_bytes;

/// AES-GCM's tag, in bytes.
const TAG_LEN: usize = 16;

/// An unwrapped data key (AES-256-GCM, random 96-bit nonces). The cipher library wipes it when it is dropped.
/// Hold it for one request at most: longer, and an erasure would not reach it.
pub struct DataKey {
    person: Uuid,
    cipher: LessSafeKey,
    fingerprint: hmac::Key,
}

/// Why an event could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the object at {field:?} holds {PERSONAL_MARKER:?} beside other keys, so it is no personal value"
)]
pub struct SealError {
    /// The path of the object, joined by `/`.
    pub field: String,
}

/// Why a ciphertext does not open: a fault, never a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It names another person's key.
    #[error("the ciphertext belongs to another data key")]
    OtherKey,
    /// It was changed, or stands where it does not belong.
    #[error("the ciphertext is not authentic")]
    NotAuthentic,
}

impl DataKey {
    pub(crate) fn new(person: Uuid, key: &[u8; 32]) -> Self {
        let derive = hmac::Key::new(hmac::HMAC_SHA256, key);
        let derived = Zeroizing::new(mac(&derive, b"showcaller data key: fingerprint", &[]));
        Self {
            person,
            cipher: cipher(key),
            fingerprint: hmac::Key::new(hmac::HMAC_SHA256, &*derived),
        }
    }

    /// Whose key it is; also the key's id.
    pub fn person(&self) -> Uuid {
        self.person
    }

    /// Replaces every `{"$personal": value}` in an event's data by the value's [`Ciphertext`].
    /// The field is the path to it, joined by `/`; `~`, `/` and `.` in a key become `~0`, `~1` and `~2`.
    pub fn seal_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
        data: &mut Value,
    ) -> Result<(), SealError> {
        let stream = URL_SAFE_NO_PAD.encode(stream.as_str());
        self.seal_markers(&stream, event_id, &mut String::new(), data)
    }

    /// Seals one value, for `field` of the event. Both are in the clear beside it.
    pub fn seal_value(
        &self,
        stream: &StreamId,
        event_id: EventId,
        field: &str,
        value: &Value,
    ) -> Ciphertext {
        self.seal(
            &URL_SAFE_NO_PAD.encode(stream.as_str()),
            event_id,
            &field.replace('.', "~2"),
            value,
        )
    }

    /// Opens what this key sealed.
    pub fn open(&self, ciphertext: &Ciphertext) -> Result<Value, OpenError> {
        if ciphertext.key_id() != Some(self.person) {
            return Err(OpenError::OtherKey);
        }
        let (context, payload) = ciphertext.split();
        let bytes = URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| OpenError::NotAuthentic)?;
        self.open_bytes(context, bytes)
    }

    /// A keyed hash of `parts` (each counted with its length): tells whether a retried command is the same, and
    /// nothing more once the key is gone.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> String {
        URL_SAFE_NO_PAD.encode(mac(&self.fingerprint, b"fingerprint", parts))
    }

    fn seal_markers(
        &self,
        stream: &str,
        event_id: EventId,
        path: &mut String,
        data: &mut Value,
    ) -> Result<(), SealError> {
        match data {
            Value::Object(object) if object.contains_key(PERSONAL_MARKER) => {
                if object.len() > 1 {
                    return Err(SealError {
                        field: path.clone(),
                    });
                }
                let sealed = self.seal(stream, event_id, path, &object[PERSONAL_MARKER]);
                wipe(data);
                *data = Value::String(sealed.as_str().to_owned());
                Ok(())
            }
            Value::Object(object) => object
                .iter_mut()
                .try_for_each(|(key, value)| self.below(stream, event_id, path, key, value)),
            Value::Array(array) => array.iter_mut().enumerate().try_for_each(|(index, value)| {
                self.below(stream, event_id, path, &index.to_string(), value)
            }),
            _ => Ok(()),
        }
    }

    fn below(
        &self,
        stream: &str,
        event_id: EventId,
        path: &mut String,
        key: &str,
        value: &mut Value,
    ) -> Result<(), SealError> {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return Ok(());
        }
        let length = path.len();
        if length > 0 {
            path.push('/');
        }
        for c in key.chars() {
            match c {
                '~' => path.push_str("~0"),
                '/' => path.push_str("~1"),
                '.' => path.push_str("~2"),
                c => path.push(c),
            }
        }
        let result = self.seal_markers(stream, event_id, path, value);
        path.truncate(length);
        result
    }

    fn seal(&self, stream: &str, event_id: EventId, field: &str, value: &Value) -> Ciphertext {
        let context = Ciphertext::context(self.person, stream, event_id, field);
        let bytes = self.seal_bytes(&context, value);
        Ciphertext::from_parts(&context, &URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Seals a value's JSON for one place, which `context` names: nonce, ciphertext, tag.
    pub(crate) fn seal_bytes(&self, context: &str, value: &Value) -> Vec<u8> {
        let nonce = public_random_bytes::<NONCE_LEN>();
        // Sized ahead, so that no copy of the plaintext is left behind by a growing buffer.
        let mut buffer = Vec::with_capacity(NONCE_LEN + TAG_LEN + plain_bound(value));
        buffer.extend_from_slice(&nonce);
        serde_json::to_writer(&mut buffer, value).expect("a JSON value is JSON");
        let tag = self
            .cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut buffer[NONCE_LEN..],
            )
            .expect("AES-GCM seals a value below 64 GiB");
        buffer.extend_from_slice(tag.as_ref());
        buffer
    }

    /// Opens what [`Self::seal_bytes`] made for this place.
    pub(crate) fn open_bytes(&self, context: &str, bytes: Vec<u8>) -> Result<Value, OpenError> {
        let mut bytes = Zeroizing::new(bytes);
        let (nonce, sealed) = bytes
            .split_first_chunk_mut::<NONCE_LEN>()
            .ok_or(OpenError::NotAuthentic)?;
        let plain = self
            .cipher
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context),
                sealed,
            )
            .map_err(|_| OpenError::NotAuthentic)?;
        serde_json::from_slice(plain).map_err(|_| OpenError::NotAuthentic)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey")
            .field("person", &self.person)
            .finish_non_exhaustive()
    }
}

/// About how long a value's JSON is, in bytes.
fn plain_bound(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 26,
        Value::String(text) => text.len() + text.len() / 8 + 2,
        Value::Array(array) => {
            array
                .iter()
                .map(|value| plain_bound(value) + 1)
                .sum::<usize>()
                + 2
        }
        Value::Object(object) => {
            object
                .iter()
                .map(|(key, value)| key.len() + key.len() / 8 + 4 + plain_bound(value))
                .sum::<usize>()
                + 2
        }
    }
}

/// Overwrites the plaintext that a ciphertext replaces.
pub(crate) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(array) => array.iter_mut().for_each(wipe),
        Value::Object(object) => object.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> DataKey {
        DataKey::new(Uuid::from_u128(1), &[7; 32])
    }

    fn place() -> (StreamId, EventId) {
        (
            StreamId::parse("account-1").unwrap(),
            EventId(Uuid::from_u128(2)),
        )
    }

    #[test]
    fn every_marker_is_sealed_and_opens_again() {
        let (stream, event_id) = place();
        let mut data = json!({
            "email": {"$personal": "ada@example.org"},
            "profile": {"display_name": {"$personal": "Ada"}, "phone": null},
            "list": [1, {"a.b/c~d": {"$personal": {"deep": ["x", 1.5, null]}}}],
            "theme": "dark",
        });
        key().seal_event(&stream, event_id, &mut data).unwrap();
        let text = data.to_string();
        assert!(
            !text.contains("$personal") && !text.contains("Ada") && !text.contains("ada@"),
            "{text}"
        );
        assert_eq!(
            (&data["theme"], &data["profile"]["phone"]),
            (&json!("dark"), &Value::Null)
        );

        let open = |value: &Value| {
            let ciphertext = Ciphertext::parse(value.as_str().unwrap()).unwrap();
            (
                ciphertext.split().0.rsplit_once('.').unwrap().1.to_owned(),
                key().open(&ciphertext).unwrap(),
            )
        };
        assert_eq!(
            open(&data["email"]),
            ("email".into(), json!("ada@example.org"))
        );
        assert_eq!(
            open(&data["profile"]["display_name"]),
            ("profile/display_name".into(), json!("Ada"))
        );
        let (field, value) = open(&data["list"][1]["a.b/c~d"]);
        assert_eq!(
            (field.as_str(), value),
            ("list/1/a~2b~1c~0d", json!({"deep": ["x", 1.5, null]}))
        );
    }

    #[test]
    fn a_marker_beside_other_keys_is_refused() {
        let (stream, event_id) = place();
        let mut data = json!({"profile": {"name": {"$personal": "Ada", "other": 1}}});
        let error = key().seal_event(&stream, event_id, &mut data).unwrap_err();
        assert_eq!(error.field, "profile/name");
        assert!(!error.to_string().contains("Ada"));
    }

    #[test]
    fn a_ciphertext_opens_nowhere_but_where_it_was_made() {
        let (stream, event_id) = place();
        let key = key();
        let sealed = key.seal_value(&stream, event_id, "email", &json!("ada@example.org"));
        assert_eq!(key.open(&sealed), Ok(json!("ada@example.org")));

        let payload = sealed.split().1;
        let stream_b64 = |name: &str| URL_SAFE_NO_PAD.encode(name);
        let moved = |key_id, stream: &str, event_id, field| {
            key.open(&Ciphertext::from_parts(
                &Ciphertext::context(key_id, &stream_b64(stream), event_id, field),
                payload,
            ))
        };
        let person = key.person();
        assert_eq!(
            moved(person, "account-1", event_id, "email"),
            Ok(json!("ada@example.org"))
        );
        assert_eq!(
            moved(person, "account-1", event_id, "phone"),
            Err(OpenError::NotAuthentic)
        );
        assert_eq!(
            moved(person, "account-2", event_id, "email"),
            Err(OpenError::NotAuthentic)
        );
        let other_event = EventId(Uuid::from_u128(3));
        assert_eq!(
            moved(person, "account-1", other_event, "email"),
            Err(OpenError::NotAuthentic)
        );
        assert_eq!(
            moved(Uuid::from_u128(9), "account-1", event_id, "email"),
            Err(OpenError::OtherKey)
        );
        // Another key under the same name.
        assert_eq!(
            DataKey::new(person, &[8; 32]).open(&sealed),
            Err(OpenError::NotAuthentic)
        );
        // Changed, cut short, or no base64 at all.
        for payload in ["", "AAAA", "!!", &payload[..payload.len() - 4]] {
            let changed = Ciphertext::from_parts(sealed.split().0, payload);
            assert_eq!(
                key.open(&changed),
                Err(OpenError::NotAuthentic),
                "{payload}"
            );
        }
    }

    #[test]
    fn the_same_value_never_seals_the_same_twice() {
        let (stream, event_id) = place();
        let seal = || key().seal_value(&stream, event_id, "email", &json!("x"));
        assert_ne!(seal(), seal());
    }

    #[test]
    fn fingerprints_tell_lists_and_keys_apart() {
        let key = key();
        assert_eq!(
            key.fingerprint(&[b"ab", b"c"]),
            key.fingerprint(&[b"ab", b"c"])
        );
        assert_ne!(
            key.fingerprint(&[b"ab", b"c"]),
            key.fingerprint(&[b"a", b"bc"])
        );
        assert_ne!(
            key.fingerprint(&[b"ab"]),
            DataKey::new(key.person(), &[8; 32]).fingerprint(&[b"ab"])
        );
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(
            format!("{:?}", key()),
            "DataKey { person: 00000000-0000-0000-0000-000000000001, .. }"
        );
    }
}
