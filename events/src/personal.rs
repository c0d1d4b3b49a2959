//! Personal data's two forms: plain inside the process, ciphertext everywhere else. Enciphering itself is the vault's.
//!
//! A plain [`Personal`] serialises as `{"$personal": value}`; the command path replaces each such marker by its
//! ciphertext before anything is stored. A stored event that still holds a marker is a defect, so reading one fails.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::InvalidId;

/// The only key of the JSON object that marks a value still to be encrypted.
pub const PERSONAL_MARKER: &str = "$personal";
const PREFIX: &str = "enc1.";

/// A personal value's ciphertext in its text form:
/// `enc1.{key id}.{stream, base64url}.{event id}.{field}.{nonce and ciphertext, base64url}`.
/// Everything before the last dot is its additional authenticated data, so it opens only where it belongs.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Ciphertext(String);

impl Ciphertext {
    /// Checks the form (not the authenticity) of a text.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.starts_with(PREFIX) && text.split('.').count() == 6 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId(
                "this is not a ciphertext of the form enc1.….….….….…".into(),
            ))
        }
    }

    /// The prefix that every ciphertext of `field` has: it is the additional authenticated data as well.
    /// `stream_b64` is the stream's name in unpadded base64url; `field` is a path like `profile/display_name`.
    pub fn context(
        key_id: uuid::Uuid,
        stream_b64: &str,
        event_id: crate::EventId,
        field: &str,
    ) -> String {
        format!("{PREFIX}{key_id}.{stream_b64}.{event_id}.{field}")
    }

    /// Joins a [`context`](Self::context) and the base64url payload.
    pub fn from_parts(context: &str, payload_b64: &str) -> Self {
        Self(format!("{context}.{payload_b64}"))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The additional authenticated data and the base64url payload.
    pub fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('.').unwrap_or((&self.0, ""))
    }

    /// The id of the data key that opens it.
    pub fn key_id(&self) -> Option<uuid::Uuid> {
        self.0.split('.').nth(1)?.parse().ok()
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.split().0)
    }
}

impl<'de> Deserialize<'de> for Ciphertext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// A value that belongs to a person.
#[derive(Clone, PartialEq, Eq)]
pub enum Personal<T> {
    /// As the command brought it; it leaves the process only encrypted.
    Plain(T),
    /// As the log holds it.
    Sealed(Ciphertext),
}

impl<T> Personal<T> {
    /// The ciphertext, once it has been stored.
    pub fn sealed(&self) -> Option<&Ciphertext> {
        match self {
            Self::Plain(_) => None,
            Self::Sealed(ciphertext) => Some(ciphertext),
        }
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("(personal)"),
            Self::Sealed(ciphertext) => ciphertext.fmt(f),
        }
    }
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => serializer.collect_map([(PERSONAL_MARKER, value)]),
            Self::Sealed(ciphertext) => ciphertext.serialize(serializer),
        }
    }
}

impl<'de, T> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ciphertext::deserialize(deserializer).map(Self::Sealed)
    }
}

/// What others see of it: a text, whatever is in it.
impl<T> JsonSchema for Personal<T> {
    fn schema_name() -> Cow<'static, str> {
        "Personal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^enc1\.[0-9a-f-]{36}\.[A-Za-z0-9_-]+\.[0-9a-f-]{36}\.[^.]+\.[A-Za-z0-9_-]+$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_are_marked_and_never_shown() {
        let name = Personal::Plain("Ada".to_owned());
        assert_eq!(
            serde_json::to_string(&name).unwrap(),
            r#"{"$personal":"Ada"}"#
        );
        assert_eq!(format!("{name:?}"), "(personal)");
    }

    #[test]
    fn a_marker_left_in_the_log_is_an_error() {
        assert!(serde_json::from_str::<Personal<String>>(r#"{"$personal":"Ada"}"#).is_err());
        assert!(serde_json::from_str::<Personal<String>>(r#""Ada""#).is_err());
    }
}
