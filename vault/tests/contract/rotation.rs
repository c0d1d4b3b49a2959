//! Keys that take turns while processes run: what is written down, who notices, and what an old master key still opens.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use test_support::{TempDir, eventually, temp_dir};
use uuid::Uuid;
use vault::{KeyError, KeyRing, Keys, Vault};

use super::support::{at, id, on_both};

/// Past for every clock, so that a key whose turn came then is current and settled.
const LONG_AGO: DateTime<Utc> = DateTime::UNIX_EPOCH;
const SOON: Duration = Duration::from_secs(5);

fn keys_file() -> (TempDir, PathBuf) {
    let folder = temp_dir();
    let path = folder.path().join("keys.json");
    Keys::create(&path).unwrap();
    (folder, path)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn load(path: &Path) -> Arc<Keys> {
    Arc::new(Keys::load(path).unwrap())
}

#[test]
fn a_new_key_waits_for_its_turn_and_takes_it_by_itself() {
    let (_folder, path) = keys_file();
    for ring in [KeyRing::Master, KeyRing::Signing] {
        let rotation = Keys::rotate(&path, ring, at(60), at(0)).unwrap();
        let keys = load(&path);
        let before = keys.ring(ring, at(59));
        assert_eq!(before.current, rotation.current);
        assert_eq!(before.next, Some((rotation.next.clone(), at(60))));
        assert_eq!(before.keys.len(), 2);
        let after = keys.ring(ring, at(60));
        assert_eq!((after.current, after.next), (rotation.next, None));
    }
    let signing = load(&path).signing();
    assert_ne!(signing.current(at(59)).kid(), signing.current(at(60)).kid());
}

#[test]
fn a_rotation_is_refused_while_the_one_before_is_pending_or_has_not_settled() {
    let (_folder, path) = keys_file();
    for (ring, settled) in [(KeyRing::Signing, 60), (KeyRing::Master, 120)] {
        let first = Keys::rotate(&path, ring, at(60), at(0)).unwrap();
        for early in [0, 59, settled - 1] {
            assert!(
                Keys::rotate(&path, ring, at(500), at(early)).is_err(),
                "{ring:?} {early}"
            );
        }
        let second = Keys::rotate(&path, ring, at(500), at(settled)).unwrap();
        assert_eq!(second.current, first.next);
    }
}

#[test]
fn the_format_rises_only_while_a_rotation_is_written_down() {
    let (_folder, path) = keys_file();
    assert_eq!(read(&path)["format"], 1);
    let old = Keys::rotate(&path, KeyRing::Signing, at(1), at(0))
        .unwrap()
        .current;
    assert_eq!(read(&path)["format"], 2);
    Keys::remove_signing_key(&path, &old, at(1)).unwrap();
    assert_eq!(read(&path)["format"], 1);
    assert_eq!(load(&path).ring(KeyRing::Signing, at(1)).keys.len(), 1);
}

#[test]
fn a_changed_file_keeps_its_mode_its_owner_and_its_link() {
    let (folder, path) = keys_file();
    let other = folder.path().join("link.json");
    symlink(&path, &other).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let root = fs::metadata(folder.path()).unwrap().uid() == 0;
    if root {
        chown(&path, Some(12_345), Some(12_345)).unwrap();
    }
    let before = fs::metadata(&path).unwrap();
    Keys::rotate(&other, KeyRing::Master, at(60), at(0)).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(after.permissions().mode() & 0o777, 0o400);
    assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
    assert!(fs::symlink_metadata(&other).unwrap().is_symlink());
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "no draft is left behind"
    );
}

#[test]
fn of_two_who_rotate_at_once_one_is_refused_and_no_key_is_lost() {
    let (_folder, path) = keys_file();
    let rotate = || Keys::rotate(&path, KeyRing::Master, at(60), at(0));
    let won = std::thread::scope(|scope| {
        let racing: Vec<_> = (0..8).map(|_| scope.spawn(rotate)).collect();
        let outcomes = racing.into_iter().map(|one| one.join().unwrap());
        outcomes.filter_map(Result::ok).collect::<Vec<_>>()
    });
    assert_eq!(won.len(), 1);
    let state = load(&path).ring(KeyRing::Master, at(0));
    assert_eq!(
        (state.current, state.next.unwrap().0),
        (won[0].current.clone(), won[0].next.clone())
    );
    assert_eq!(state.keys.len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing_and_a_good_one_is_taken_up_again() {
    let (folder, path) = keys_file();
    let good = fs::read(&path).unwrap();
    let stranger = folder.path().join("stranger.json");
    Keys::create(&stranger).unwrap();
    let mut last = load(&path);
    let before = last.signing().current(at(0)).kid().to_owned();
    for bad in [b"{".to_vec(), Vec::new(), fs::read(&stranger).unwrap()] {
        let keys = load(&path);
        fs::write(&path, &bad).unwrap();
        keys.look_again();
        assert_eq!(keys.signing().current(at(0)).kid(), before);
        fs::write(&path, &good).unwrap();
        last = keys;
    }
    let keys = last;
    let rotation = Keys::rotate(&path, KeyRing::Signing, at(0), at(0)).unwrap();
    eventually(SOON, || async {
        keys.signing().current(at(0)).kid() == rotation.next
    })
    .await;
    let keys = load(&path);
    fs::remove_file(&path).unwrap();
    keys.look_again();
    assert_eq!(keys.signing().current(at(0)).kid(), rotation.next);
}

#[tokio::test]
async fn a_mounted_secret_that_is_switched_by_its_link_is_noticed() {
    let (folder, path) = keys_file();
    let (now, later) = (folder.path().join("..data"), folder.path().join("..next"));
    let place = |name: &str| folder.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(place(name)).unwrap();
        fs::copy(&path, place(name).join("keys.json")).unwrap();
    }
    let rotation = Keys::rotate(
        &place("two").join("keys.json"),
        KeyRing::Signing,
        at(0),
        at(0),
    )
    .unwrap();
    symlink(place("one"), &now).unwrap();
    let keys = load(&now.join("keys.json"));
    assert_eq!(keys.signing().current(at(0)).kid(), rotation.current);
    symlink(place("two"), &later).unwrap();
    fs::rename(&later, &now).unwrap();
    eventually(SOON, || async {
        keys.signing().current(at(0)).kid() == rotation.next
    })
    .await;
}

#[test]
fn a_next_key_that_is_not_there_is_refused() {
    let (_folder, path) = keys_file();
    let mut file = read(&path);
    file["format"] = json!(2);
    file["master"]["next"] = json!({"id": "gone", "from": "2026-01-01T00:00:00Z"});
    fs::write(&path, file.to_string()).unwrap();
    assert!(
        Keys::load(&path)
            .unwrap_err()
            .to_string()
            .contains("not among its master keys")
    );
}

/// Wraps everything anew, three rows at a time; how many rows were changed.
async fn rewrap(vault: &Vault) -> u64 {
    let (mut after, mut changed) = (Some(Uuid::nil()), 0);
    while let Some(from) = after {
        let page = vault.rewrap_data_keys(from, 3, at(0)).await.unwrap();
        assert_eq!(page.stuck, 0);
        assert!(page.changed <= 3);
        changed += page.changed;
        after = page.through;
    }
    changed
}

async fn fingerprints(vault: &Vault, people: impl Iterator<Item = u128>) -> Vec<String> {
    let mut all = Vec::new();
    for person in people {
        all.push(
            vault
                .data_key(id(person))
                .await
                .unwrap()
                .fingerprint(&[b"x"]),
        );
    }
    all
}

on_both! {
    async fn an_old_master_key_goes_when_everything_is_wrapped_anew(place: Place) {
        let (_folder, path) = keys_file();
        let open = async || place.open_with(&load(&path)).await.unwrap();
        let (one, two) = (open().await, open().await);
        for person in 1..=10 {
            one.create_data_key(id(person)).await.unwrap();
        }
        let before = fingerprints(&one, 1..=10).await;
        one.erase_person(id(4), at(0)).await.unwrap();
        let rotation = Keys::rotate(&path, KeyRing::Master, LONG_AGO, at(0)).unwrap();
        let (old, new) = (rotation.current, rotation.next);

        // The first process learns of it; the second one meets what the first one wrapped.
        let mut person = 100;
        while !one.data_keys_by_master().await.unwrap().contains_key(&new) {
            person += 1;
            one.create_data_key(id(person)).await.unwrap();
        }
        two.data_key(id(person)).await.expect("it looks at the file before it gives up");
        let refused = one.remove_master_key(&path, &old, at(0)).await.unwrap_err().to_string();
        assert!(refused.contains("still wraps"), "{refused}");
        assert!(one.remove_master_key(&path, &new, at(0)).await.is_err());

        assert!(rewrap(&one).await >= 9);
        assert_eq!(rewrap(&two).await, 0, "nothing is left to do");
        assert_eq!(one.data_keys_by_master().await.unwrap().into_keys().collect::<Vec<_>>(), [new.as_str()]);
        one.remove_master_key(&path, &old, at(0)).await.unwrap();
        let after = open().await;
        assert_eq!(after.keys().ring(KeyRing::Master, at(0)).keys, [new]);
        let expected: Vec<_> = before.iter().enumerate().filter(|(index, _)| *index != 3).map(|(_, key)| key.clone()).collect();
        assert_eq!(fingerprints(&after, (1..=10).filter(|person| *person != 4)).await, expected);
        assert!(matches!(after.data_key(id(4)).await, Err(KeyError::Erased)));
    }

    async fn erasures_win_over_wrapping_anew(place: Place) {
        let (_folder, path) = keys_file();
        let vault = place.open_with(&load(&path)).await.unwrap();
        for person in 1..=40 {
            vault.create_data_key(id(person)).await.unwrap();
        }
        Keys::rotate(&path, KeyRing::Master, LONG_AGO, at(0)).unwrap();
        let other = place.open_with(&load(&path)).await.unwrap();
        let erasing = tokio::spawn({
            let vault = vault.clone();
            async move {
                for person in (1..=40).step_by(2) {
                    vault.erase_person(id(person), at(0)).await.unwrap();
                }
            }
        });
        let changed = rewrap(&other).await;
        erasing.await.unwrap();
        assert!((20..=40).contains(&changed), "{changed}");
        for person in 1..=40 {
            let key = other.data_key(id(person)).await;
            if person % 2 == 1 {
                assert!(matches!(key, Err(KeyError::Erased)), "{person}: {key:?}");
            } else {
                key.unwrap();
            }
        }
    }

    async fn the_background_task_wraps_everything_anew(place: Place) {
        let (_folder, path) = keys_file();
        let vault = place.open_with(&load(&path)).await.unwrap();
        for person in 1..=300 {
            vault.create_data_key(id(person)).await.unwrap();
        }
        let rotation = Keys::rotate(&path, KeyRing::Master, LONG_AGO, at(0)).unwrap();
        let vault = place.open_with(&load(&path)).await.unwrap();
        let watched = vault.clone();
        let done = eventually(Duration::from_secs(20), || async {
            let wraps = watched.data_keys_by_master().await.unwrap();
            wraps.get(&rotation.next) == Some(&300)
        });
        tokio::select! {
            () = vault.keep_rewrapped(|| at(0) + TimeDelta::days(1)) => panic!("it ended"),
            () = done => {}
        }
    }
}
