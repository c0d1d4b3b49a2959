//! The position token: which positions of the log a client has seen, so that a query can wait for them. Opaque and signed;
//! it refuses to be opened when it was not sealed by these keys.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use events::{LogIdentity, Partition, Position, StreamId};
use std::sync::Arc;
use uuid::Uuid;
use vault::Keys;

use crate::Problem;

/// The header that a command's answer carries the token in.
pub const POSITION_HEADER: &str = "Showcaller-Position";
/// The header that a request sends it back in.
pub const AFTER_HEADER: &str = "Showcaller-After";

/// How many of the streams written last a token names.
const STREAMS: usize = 16;
/// Longest token looked at, in characters: enough for 256 partitions.
const SEALED_CHARS: usize = 6 * 1024;
/// The form's number, and what tells these bytes from any others signed with the same key.
const LABEL: &[u8] = b"position token 1";
/// Bytes of the authenticator that a token carries.
const TAG_BYTES: usize = 16;

/// Which positions a client has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionToken {
    /// The log.
    pub log: Uuid,
    /// The log's epoch.
    pub epoch: Uuid,
    /// For each partition written to, the last position.
    pub positions: BTreeMap<Partition, Position>,
    /// The last 16 streams written: [`short_hash`](Self::short_hash) and position, the newest last.
    pub streams: Vec<(u64, Position)>,
}

impl PositionToken {
    /// Nothing seen yet of this log.
    pub fn new(log: LogIdentity) -> Self {
        Self {
            log: log.log,
            epoch: log.epoch,
            positions: BTreeMap::new(),
            streams: Vec::new(),
        }
    }

    /// Whether it speaks of this log and epoch.
    pub fn is_of(&self, log: LogIdentity) -> bool {
        (self.log, self.epoch) == (log.log, log.epoch)
    }

    /// Takes in what another token has seen. One of another log or epoch is dropped: it says nothing of this log.
    pub fn merge(&mut self, other: &Self) {
        if (self.log, self.epoch) != (other.log, other.epoch) {
            return;
        }
        for (&partition, &position) in &other.positions {
            self.raise(partition, position);
        }
        for &(stream, position) in &other.streams {
            self.note_hash(stream, position);
        }
    }

    /// Takes in that a stream of this partition was written, up to a position.
    pub fn note(&mut self, partition: Partition, stream: &StreamId, position: Position) {
        self.raise(partition, position);
        self.note_hash(Self::short_hash(stream), position);
    }

    /// What a token names a stream by: bytes 8 to 16 of the SHA-256 of its name, big endian.
    pub fn short_hash(stream: &StreamId) -> u64 {
        let hash = digest::digest(&digest::SHA256, stream.as_str().as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.as_ref()[8..16]);
        u64::from_be_bytes(bytes)
    }

    fn raise(&mut self, partition: Partition, position: Position) {
        let known = self.positions.entry(partition).or_default();
        *known = position.max(*known);
    }

    fn note_hash(&mut self, stream: u64, position: Position) {
        let known = self
            .streams
            .iter()
            .position(|(known, _)| *known == stream)
            .map(|i| self.streams.remove(i).1);
        let position = known.map_or(position, |known| known.max(position));
        let place = self
            .streams
            .partition_point(|(_, other)| *other <= position);
        self.streams.insert(place, (stream, position));
        if self.streams.len() > STREAMS {
            self.streams.remove(0);
        }
    }

    /// The text form, signed.
    pub fn seal(&self, keys: &Keys) -> String {
        let mut bytes = Vec::with_capacity(64 + 12 * (self.positions.len() + self.streams.len()));
        bytes.extend_from_slice(self.log.as_bytes());
        bytes.extend_from_slice(self.epoch.as_bytes());
        put(&mut bytes, self.positions.len() as u64);
        for (partition, position) in &self.positions {
            put(&mut bytes, u64::from(partition.0));
            put(&mut bytes, position.get());
        }
        for (stream, position) in &self.streams {
            bytes.extend_from_slice(&stream.to_be_bytes());
            put(&mut bytes, position.get());
        }
        let tag = keys.token_mac(&labelled(&bytes));
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens a text form; 400 `malformed` for one that these keys did not seal.
    pub fn open(text: &str, keys: &Keys) -> Result<Self, Problem> {
        let bad = || {
            Problem::malformed(format!(
                "The position token was not given by this server: send {POSITION_HEADER} back unchanged, or leave {AFTER_HEADER} out."
            ))
        };
        if text.len() > SEALED_CHARS {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| bad())?;
        let (body, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or_else(bad)?;
        let expected = keys.token_mac(&labelled(body));
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected[..TAG_BYTES], tag)
            .map_err(|_| bad())?;
        Self::read(body).ok_or_else(bad)
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let log = Uuid::from_bytes(*take(&mut bytes)?);
        let epoch = Uuid::from_bytes(*take(&mut bytes)?);
        let mut positions = BTreeMap::new();
        for _ in 0..number(&mut bytes)? {
            let partition = Partition(u16::try_from(number(&mut bytes)?).ok()?);
            positions.insert(partition, Position::new(number(&mut bytes)?));
        }
        let mut streams = Vec::new();
        while !bytes.is_empty() && streams.len() < STREAMS {
            let stream = u64::from_be_bytes(*take(&mut bytes)?);
            streams.push((stream, Position::new(number(&mut bytes)?)));
        }
        bytes.is_empty().then_some(Self {
            log,
            epoch,
            positions,
            streams,
        })
    }
}

fn labelled(bytes: &[u8]) -> Vec<u8> {
    [LABEL, bytes].concat()
}

/// Appends a number in LEB128: seven bits a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(taken)
}

/// The token that a request brought in `Showcaller-After`, opened.
#[derive(Debug, Clone)]
pub struct After(pub Option<PositionToken>);

impl<S> FromRequestParts<S> for After
where
    S: Send + Sync,
    Arc<Keys>: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(AFTER_HEADER) else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default();
        PositionToken::open(text, &Arc::<Keys>::from_ref(state)).map(|token| Self(Some(token)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> StreamId {
        StreamId::new("account", &id.to_string()).unwrap()
    }

    fn log(number: u128) -> LogIdentity {
        LogIdentity {
            log: Uuid::from_u128(number),
            epoch: Uuid::from_u128(9),
            partitions: 8,
        }
    }

    fn seen(notes: &[(u16, u32, u64)]) -> PositionToken {
        let mut token = PositionToken::new(log(1));
        for &(partition, id, position) in notes {
            token.note(Partition(partition), &stream(id), Position::new(position));
        }
        token
    }

    #[test]
    fn a_token_comes_back_as_it_was_sealed() {
        let keys = Keys::generate();
        for token in [
            seen(&[]),
            seen(&[(3, 1, 5)]),
            seen(&[(0, 1, 1), (7, 2, u64::MAX), (7, 3, 300)]),
        ] {
            assert_eq!(
                PositionToken::open(&token.seal(&keys), &keys).unwrap(),
                token
            );
        }
    }

    #[test]
    fn a_full_token_of_eight_partitions_fits_in_450_characters() {
        let notes: Vec<_> = (0..40)
            .map(|i| ((i % 8) as u16, i, 1_000_000_000 + u64::from(i)))
            .collect();
        let token = seen(&notes);
        assert_eq!(token.streams.len(), STREAMS);
        let sealed = token.seal(&Keys::generate());
        assert!(sealed.len() <= 450, "{}", sealed.len());
    }

    #[test]
    fn any_changed_bit_and_any_other_key_is_refused() {
        let keys = Keys::generate();
        let sealed = seen(&[(3, 1, 5)]).seal(&keys);
        let bytes = URL_SAFE_NO_PAD.decode(&sealed).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(
                PositionToken::open(&URL_SAFE_NO_PAD.encode(bytes), &keys).is_err(),
                "bit {bit}"
            );
        }
        for text in [
            "",
            "x",
            &sealed[1..],
            &sealed[..sealed.len() - 2],
            &"A".repeat(100_000),
            "ü",
        ] {
            assert_eq!(
                PositionToken::open(text, &keys).unwrap_err().code(),
                "malformed"
            );
        }
        assert!(PositionToken::open(&sealed, &Keys::generate()).is_err());
    }

    #[test]
    fn merging_keeps_the_later_of_each_in_any_order() {
        let (one, two) = (seen(&[(0, 1, 5), (1, 2, 6)]), seen(&[(0, 1, 3), (2, 3, 9)]));
        let (mut there, mut back) = (one.clone(), two.clone());
        there.merge(&two);
        back.merge(&one);
        assert_eq!(there, back);
        assert_eq!(there, seen(&[(0, 1, 5), (1, 2, 6), (2, 3, 9)]));
    }

    #[test]
    fn the_sixteen_newest_streams_are_kept() {
        let mut token = seen(&(1..=20).map(|i| (0, i, u64::from(i))).collect::<Vec<_>>());
        token.note(Partition(0), &stream(6), Position::new(30));
        let kept: Vec<_> = token
            .streams
            .iter()
            .map(|(_, position)| position.get())
            .collect();
        assert_eq!(
            kept,
            [5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 30]
        );
        assert_eq!(
            token.streams.last().unwrap().0,
            PositionToken::short_hash(&stream(6))
        );
    }

    #[test]
    fn a_token_of_another_log_or_epoch_is_dropped() {
        let mut token = seen(&[(0, 1, 5)]);
        let mut other = seen(&[(0, 1, 99)]);
        other.epoch = Uuid::from_u128(10);
        token.merge(&other);
        assert_eq!(token, seen(&[(0, 1, 5)]));
        assert!(token.is_of(log(1)) && !token.is_of(log(2)) && !other.is_of(log(1)));
    }
}
