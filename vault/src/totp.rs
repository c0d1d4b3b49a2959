//! Time-based one-time passwords (RFC 6238 with SHA-1, 30 s, 6 digits), and base32 (RFC 4648) for their seeds.
//!
//! Refuses: to remember anything; that a step counts once is the caller's to see to.

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};

use crate::keys::same;

/// A seed's length in bytes: that of SHA-1's result (RFC 4226, section 4).
pub(crate) const SEED_LEN: usize = 20;
/// A step's length in seconds.
const STEP_S: i64 = 30;
/// How many steps a client's clock may be off, either way.
const SKEW: i64 = 1;
/// Six digits.
const DIGITS: usize = 6;
const MODULUS: u32 = 1_000_000;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The step that a code belongs to, of those that count now. Takes the same time whichever it is.
pub(crate) fn matching_step(seed: &[u8], code: &str, now: DateTime<Utc>) -> Option<i64> {
    let step = now.timestamp().div_euclid(STEP_S);
    let mut found = None;
    for step in step - SKEW..=step + SKEW {
        if same(totp(seed, step).as_bytes(), code.as_bytes()) {
            found = Some(step);
        }
    }
    found
}

/// Whether a text may be a code: six ASCII digits.
pub(crate) fn is_code(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The code of a step.
fn totp(seed: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    // RFC 4226, section 5.3: the last four bits say where the code's 31 bits are.
    let offset = usize::from(tag[tag.len() - 1] & 0xf);
    let mut word = [0; 4];
    word.copy_from_slice(&tag[offset..offset + 4]);
    let number = (u32::from_be_bytes(word) & 0x7fff_ffff) % MODULUS;
    format!("{number:06}")
}

/// Base32 without padding, as authenticator apps take it.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut block = [0; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        for index in 0..(chunk.len() * 8).div_ceil(5) {
            let digit = (bits >> (35 - 5 * index)) & 31;
            text.push(char::from(BASE32[digit as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"12345678901234567890";

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_vectors_of_rfc_6238_come_out() {
        // The last six of the eight digits of its appendix B.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(totp(SEED, seconds / 30), code);
            assert_eq!(matching_step(SEED, code, at(seconds)), Some(seconds / 30));
        }
    }

    #[test]
    fn a_code_counts_one_step_early_and_one_late() {
        for (now, found) in [
            (29, Some(1)),
            (0, Some(1)),
            (89, Some(1)),
            (90, None),
            (-1, None),
        ] {
            assert_eq!(matching_step(SEED, "287082", at(now)), found, "at {now}");
        }
        assert_eq!(matching_step(SEED, "287083", at(59)), None);
        assert_eq!(matching_step(b"another seed", "287082", at(59)), None);
        assert!(is_code("000000"));
        for text in ["", "28708", "2870822", "28708x", "２８"] {
            assert!(!is_code(text), "{text}");
        }
    }

    #[test]
    fn the_vectors_of_rfc_4648_come_out_without_padding() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }
}
