//! A refresh token's text: base64url of session id, generation and authenticator. Nothing of it is stored.
//!
//! Refuses: to read a text whose authenticator is not this vault's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::keys::Keys;

const CLAIM_LEN: usize = 16 + 4;
const TOKEN_LEN: usize = CLAIM_LEN + 32;

/// The token of a session's generation: always the same, so that a retried refresh gets the same successor.
pub(crate) fn token(keys: &Keys, session: Uuid, generation: u32) -> SecretString {
    let mut bytes = Zeroizing::new([0; TOKEN_LEN]);
    bytes[..16].copy_from_slice(session.as_bytes());
    bytes[16..CLAIM_LEN].copy_from_slice(&generation.to_be_bytes());
    let tag = keys.session_mac(&bytes[..CLAIM_LEN]);
    bytes[CLAIM_LEN..].copy_from_slice(&tag);
    URL_SAFE_NO_PAD.encode(*bytes).into()
}

/// The session and generation that a token speaks for.
pub(crate) fn parse(keys: &Keys, text: &str) -> Option<(Uuid, u32)> {
    let mut bytes = Zeroizing::new([0; TOKEN_LEN]);
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()?;
    if length != TOKEN_LEN || !keys.verify_session_mac(&bytes[..CLAIM_LEN], &bytes[CLAIM_LEN..]) {
        return None;
    }
    let session = Uuid::from_slice(&bytes[..16]).ok()?;
    let generation = u32::from_be_bytes(bytes[16..CLAIM_LEN].try_into().ok()?);
    Some((session, generation))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_token_reads_back_and_a_changed_one_does_not() {
        let (keys, session) = (Keys::generate(), Uuid::from_u128(5));
        let text = token(&keys, session, 3).expose_secret().to_owned();
        assert_eq!(parse(&keys, &text), Some((session, 3)));
        assert_eq!(parse(&Keys::generate(), &text), None);
        for index in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                parse(&keys, std::str::from_utf8(&changed).unwrap()),
                None,
                "character {index}"
            );
        }
        for text in ["", "x", &format!("{text}AAAA"), &text[4..], "ü"] {
            assert_eq!(parse(&keys, text), None, "{text}");
        }
    }
}
