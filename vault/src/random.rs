//! The crate's one door to randomness. Refuses: to go on when the machine has none (it panics).

use uuid::Uuid;

/// Random bytes fit for keys and nonces.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the machine gives random bytes");
    bytes
}

/// A random (version 4) UUID from the cipher library's generator: the program's one door to random ids.
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(random_bytes()).into_uuid()
}
