//! The hashes that make the log provable: each stream's chain, each partition's running digest, and the stable hash that
//! assigns a stream to its partition. All are SHA-256, so that any language can recompute them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::{EventId, InvalidId, Partition, StreamId, Version};

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name([u8; 32]);

        impl $name {
            /// What stands before the first: 32 zero bytes.
            pub const ZERO: Self = Self([0; 32]);

            /// From its 32 bytes as stored.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidId> {
                <[u8; 32]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| InvalidId(format!("a hash has 32 bytes, not {}", bytes.len())))
            }

            /// From 64 hexadecimal digits.
            pub fn from_hex(text: &str) -> Result<Self, InvalidId> {
                let mut bytes = [0; 32];
                if text.len() != 64 || !text.is_ascii() {
                    return Err(InvalidId("a hash has 64 hexadecimal digits".into()));
                }
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16)
                        .map_err(|_| InvalidId("a hash has 64 hexadecimal digits".into()))?;
                }
                Ok(Self(bytes))
            }

            /// Its 32 bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::from_hex(&text).map_err(de::Error::custom)
            }
        }
    };
}

hash_type! {
    /// An event's hash: over the hash before it in its stream and everything stored of the event.
    Hash
}
hash_type! {
    /// A partition's running digest: over the digest before and the next event's hash. Two equal digests prove that the
    /// same events were taken in, each once, in the same order.
    Digest
}

impl Digest {
    /// The digest after one more event.
    #[must_use]
    pub fn then(&self, event: &Hash) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(event.0);
        Self(hasher.finalize().into())
    }
}

/// The hash of an event after `previous` in its stream. `data` and `metadata` are the stored bytes; every part is
/// preceded by its length (8 bytes, little endian), so no two events share an input.
#[expect(
    clippy::too_many_arguments,
    reason = "exactly what is stored of an event"
)]
pub fn chain(
    previous: &Hash,
    id: EventId,
    stream: &StreamId,
    version: Version,
    type_name: &str,
    schema_version: u16,
    data: &str,
    metadata: &str,
) -> Hash {
    Hash(sha256(&[
        &previous.0,
        id.0.as_bytes(),
        stream.as_str().as_bytes(),
        &version.get().to_le_bytes(),
        type_name.as_bytes(),
        &schema_version.to_le_bytes(),
        data.as_bytes(),
        metadata.as_bytes(),
    ]))
}

/// The partition of a stream among `partitions`: the first 8 bytes of the SHA-256 of its name, as a big-endian number,
/// modulo their count.
pub fn partition_of(stream: &StreamId, partitions: u16) -> Partition {
    let hash = Sha256::digest(stream.as_str().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    Partition((u64::from_be_bytes(first) % u64::from(partitions.max(1))) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_keeps_its_partition_for_ever() {
        let stream = StreamId::parse("account-1").unwrap();
        assert_eq!(partition_of(&stream, 8), Partition(6));
        assert_eq!(partition_of(&stream, 1), Partition(0));
    }

    #[test]
    fn hex_form_goes_there_and_back() {
        let hash = Hash(sha256(&[b"x"]));
        assert_eq!(Hash::from_hex(&hash.to_string()).unwrap(), hash);
        assert!(Hash::from_hex("zz").is_err());
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_hash() {
        let stream = StreamId::parse("a-1").unwrap();
        let id = EventId(uuid::Uuid::nil());
        let one = chain(&Hash::ZERO, id, &stream, Version::new(1), "Ab", 1, "c", "");
        let two = chain(&Hash::ZERO, id, &stream, Version::new(1), "A", 1, "bc", "");
        assert_ne!(one, two);
    }
}
