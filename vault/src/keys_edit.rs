//! Changing the rings of a keys file while everything runs: a new key is written down before its turn comes, and an old one
//! is taken out when nobody needs it.
//!
//! Refuses: to change a ring whose last change has not come to rest, and to take out a key that is current or next.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use crate::error::Error;
use crate::keys::Keys;
use crate::keys_file::{self, KeysFile, Next, Ring};
use crate::keys_rings::Turns;

/// How many keys a ring holds at most.
const KEYS_A_RING: usize = 16;
/// How long after its turn has ended a master key may still wrap a new data key somewhere: clocks may be 30 s apart, and a
/// write takes 10 s at most.
pub(crate) const SETTLES_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// Keys of one kind, of which one is current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRing {
    /// Wrap people's data keys.
    Master,
    /// Sign access tokens.
    Signing,
}

/// What a ring holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingState {
    /// The id of the key that is current.
    pub current: String,
    /// The id of the key that takes its place, and when.
    pub next: Option<(String, DateTime<Utc>)>,
    /// The ids of all keys.
    pub keys: Vec<String>,
}

/// A rotation that was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The key that is current until then.
    pub current: String,
    /// The new key.
    pub next: String,
    /// When it becomes current.
    pub from: DateTime<Utc>,
}

impl Keys {
    /// What a ring holds at `now`.
    pub fn ring(&self, ring: KeyRing, now: DateTime<Utc>) -> RingState {
        let state = |turns: &Turns, keys: Vec<String>| RingState {
            current: turns.at(now).to_owned(),
            next: (turns.next.as_ref())
                .filter(|next| next.from > now)
                .map(|next| (next.id.clone(), next.from)),
            keys,
        };
        match ring {
            KeyRing::Master => {
                let masters = self.masters();
                state(&masters.turns, masters.keys.keys().cloned().collect())
            }
            KeyRing::Signing => {
                let signing = self.signing();
                let kids = signing.keys().iter().map(|key| key.kid().to_owned());
                state(&signing.turns, kids.collect())
            }
        }
    }

    /// Adds a new key to a ring of a keys file; it becomes current at `from`. Refused while the rotation before it is
    /// pending.
    pub fn rotate(
        path: &Path,
        ring: KeyRing,
        from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Rotation, Error> {
        change(path, ring, now, |ring| {
            if let Some(next) = &ring.next {
                return Err(Error::Invalid(format!(
                    "the rotation to {} is pending until {}: rotate again after that",
                    next.id,
                    shown(next.from)
                )));
            }
            if ring.keys.len() >= KEYS_A_RING {
                return Err(Error::Invalid(format!(
                    "the keys file holds {KEYS_A_RING} keys of this kind, as many as it may: remove old ones first \
                     (`showcaller keys list`)"
                )));
            }
            let id = ring.draw();
            ring.next = Some(Next {
                id: id.clone(),
                from,
            });
            Ok(Rotation {
                current: ring.current.clone(),
                next: id,
                from,
            })
        })
    }

    /// Takes a signing key out of a keys file: tokens that it signed are refused within a second. Refused for the key
    /// that is current or next.
    pub fn remove_signing_key(path: &Path, id: &str, now: DateTime<Utc>) -> Result<(), Error> {
        remove(path, KeyRing::Signing, id, now)
    }
}

/// Takes a key out of a ring. That nothing needs it any more is the caller's to know.
pub(crate) fn remove(
    path: &Path,
    ring: KeyRing,
    id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    change(path, ring, now, |ring| {
        let next = ring.next.as_ref().map(|next| next.id.as_str());
        if id == ring.current || Some(id) == next {
            return Err(Error::Invalid(format!(
                "the key {id} is in use or about to be: rotate first, and remove it when its turn has ended"
            )));
        }
        match ring.keys.remove(id) {
            Some(_) => Ok(()),
            None => Err(Error::Invalid(format!(
                "the keys file holds no key {id} of this kind (`showcaller keys list`)"
            ))),
        }
    })
}

/// Changes a ring of a file. A turn that has come and settled is written down as what it is: the current key.
fn change<T>(
    path: &Path,
    which: KeyRing,
    now: DateTime<Utc>,
    change: impl FnOnce(&mut Ring) -> Result<T, Error>,
) -> Result<T, Error> {
    keys_file::change(path, |file| {
        let settles = match which {
            KeyRing::Master => SETTLES_WITHIN,
            KeyRing::Signing => TimeDelta::zero(),
        };
        let ring = ring_of(file, which);
        if let Some(next) = ring.next.take_if(|next| next.from <= now) {
            if next.from + settles > now {
                return Err(Error::Invalid(format!(
                    "the key {} became current at {}, and a process may be a little behind: try again after {}",
                    next.id,
                    shown(next.from),
                    shown(next.from + settles)
                )));
            }
            ring.current = next.id;
        }
        let outcome = change(ring)?;
        // What would not load must not be written.
        Keys::from_file(file)?;
        Ok(outcome)
    })
}

fn ring_of(file: &mut KeysFile, which: KeyRing) -> &mut Ring {
    match which {
        KeyRing::Master => &mut file.master,
        KeyRing::Signing => &mut file.signing,
    }
}

fn shown(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
