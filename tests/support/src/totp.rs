//! An authenticator application: time-based one-time passwords (RFC 6238 with SHA-1, 30 s, 6 digits). Its own HMAC and
//! SHA-1, a few lines each, so that no code under test vouches for itself.

const BLOCK: usize = 64;
const STEP_S: u64 = 30;

/// The step that a moment (seconds since 1970) is in.
pub fn totp_step(unix_s: u64) -> u64 {
    unix_s / STEP_S
}

/// The code of a step, for a secret in base32 as the server shows it.
///
/// # Panics
/// When the secret is no base32.
pub fn totp(secret: &str, step: u64) -> String {
    let tag = hmac(&base32(secret), &step.to_be_bytes());
    let offset = usize::from(tag[19] & 0xf);
    let word: [u8; 4] = tag[offset..offset + 4]
        .try_into()
        .expect("four bytes are four bytes");
    let number = u32::from_be_bytes(word) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

fn base32(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'2'..=b'7' => digit - b'2' + 26,
            _ => panic!("{text:?} is no base32"),
        };
        bits = (bits << 5) | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 20] {
    assert!(key.len() <= BLOCK, "no secret is that long");
    let padded = |pad: u8| -> Vec<u8> {
        let key = key.iter().copied().chain(std::iter::repeat(0));
        key.take(BLOCK).map(|byte| byte ^ pad).collect()
    };
    let inner = sha1(&[&padded(0x36), message].concat());
    sha1(&[&padded(0x5c), &inner[..]].concat())
}

/// FIPS 180-4, section 6.1.
#[expect(clippy::many_single_char_names, reason = "the standard names them so")]
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut data = message.to_vec();
    data.push(0x80);
    while data.len() % BLOCK != BLOCK - 8 {
        data.push(0);
    }
    data.extend((message.len() as u64 * 8).to_be_bytes());
    let mut state: [u32; 5] = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    for block in data.chunks_exact(BLOCK) {
        let mut words: Vec<u32> = block
            .chunks_exact(4)
            .map(|word| {
                word.iter()
                    .fold(0, |all, byte| (all << 8) | u32::from(*byte))
            })
            .collect();
        for t in 16..80 {
            words
                .push((words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (t, word) in words.into_iter().enumerate() {
            let (f, k) = match t {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = [a.rotate_left(5), f, e, k, word]
                .into_iter()
                .fold(0_u32, u32::wrapping_add);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (kept, new) in state.iter_mut().zip([a, b, c, d, e]) {
            *kept = kept.wrapping_add(new);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_6238_come_out() {
        // "12345678901234567890" in base32; the last six of the eight digits of its appendix B.
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(totp(secret, totp_step(seconds)), code, "{seconds}");
        }
    }
}
