//! The crate's one door to randomness. Refuses: to go on when the machine has none (it panics).

use std::cell::RefCell;

use uuid::Uuid;

/// How many bytes are asked for at a time where they are no secret: asking costs more than the bytes.
const AHEAD: usize = 1_024;

thread_local! {
    /// How many of these bytes are not used yet; they stand in front.
    static UNUSED: RefCell<(usize, [u8; AHEAD])> = const { RefCell::new((0, [0; AHEAD])) };
}

/// Random bytes fit for keys: nobody had them before.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// Random bytes for what anybody may see, such as nonces and ids: from the same generator, drawn ahead of their use.
pub(crate) fn public_random_bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= AHEAD) };
    UNUSED.with_borrow_mut(|(left, ahead)| {
        if *left < N {
            fill(ahead);
            *left = AHEAD;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&ahead[*left - N..*left]);
        *left -= N;
        bytes
    })
}

/// A random (version 4) UUID from the cipher library's generator: the program's one door to random ids.
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(public_random_bytes()).into_uuid()
}

fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the machine gives random bytes");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_byte_drawn_ahead_is_given_twice() {
        let many = 3 * AHEAD / 12;
        let seen: HashSet<[u8; 12]> = (0..many).map(|_| public_random_bytes()).collect();
        assert_eq!(seen.len(), many);
        let there = std::thread::spawn(public_random_bytes::<12>)
            .join()
            .unwrap();
        assert!(!seen.contains(&there), "each thread draws its own");
    }
}
