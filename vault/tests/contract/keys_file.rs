//! The keys file: who may read it, what is refused, and how a master key is added.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use test_support::temp_dir;
use vault::Keys;

use super::support::{at, id, on_both};

fn rewrite(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut file);
    fs::write(path, file.to_string()).unwrap();
}

fn refused(path: &PathBuf) -> String {
    Keys::load(path).unwrap_err().to_string()
}

#[test]
fn a_created_file_is_its_owners_alone_and_loads_as_the_same_keys() {
    let folder = temp_dir();
    let path = folder.path().join("new/keys.json");
    let made = Keys::create(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let loaded = Keys::load(&path).unwrap();
    assert_eq!(made.claim_hash("a@b.c"), loaded.claim_hash("a@b.c"));
    assert_eq!(
        made.command_id("p", "t", "k"),
        loaded.command_id("p", "t", "k")
    );
    assert_eq!(made.token_mac(b"x"), loaded.token_mac(b"x"));
    let (made, loaded) = (made.signing(), loaded.signing());
    let (made, loaded) = (made.current(at(0)), loaded.current(at(0)));
    assert_eq!(made.kid(), loaded.kid());
    assert_eq!(made.pkcs8_der(), loaded.pkcs8_der());
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "no draft is left behind"
    );
}

#[test]
fn a_file_that_is_there_is_never_overwritten() {
    let folder = temp_dir();
    let path = folder.path().join("keys.json");
    fs::write(&path, "mine").unwrap();
    assert!(
        Keys::create(&path)
            .unwrap_err()
            .to_string()
            .contains("never overwritten")
    );
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no draft is left behind"
    );
}

#[test]
fn a_file_that_others_may_read_is_refused_with_what_to_write() {
    let folder = temp_dir();
    let path = folder.path().join("keys.json");
    Keys::create(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(refused(&path).contains(&format!("chmod 600 {}", path.display())));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    Keys::load(&path).unwrap();
}

#[test]
fn what_is_wrong_is_told_without_quoting_the_file() {
    let folder = temp_dir();
    let path = folder.path().join("keys.json");
    assert!(refused(&path).contains("showcaller keys create"));

    let wrong: [fn(&mut Value); 5] = [
        |file| file["claim"] = json!("canary"),
        |file| file["master"] = json!("canary"),
        |file| file["master"]["current"] = json!("canary"),
        |file| file["signing"]["current"] = json!("canary"),
        |file| file["canary"] = json!(1),
    ];
    for change in wrong {
        drop(fs::remove_file(&path));
        Keys::create(&path).unwrap();
        rewrite(&path, change);
        let message = refused(&path);
        assert!(!message.contains("canary"), "{message}");
    }
    rewrite(&path, |file| file["format"] = json!(7));
    assert!(refused(&path).contains("a showcaller that reads keys format 7"));
}

on_both! {
    async fn keys_wrapped_by_an_older_master_key_still_open(place: Place) {
        let folder = temp_dir();
        let path = folder.path().join("keys.json");
        let old = Arc::new(Keys::create(&path).unwrap());
        let before = place.open_with(&old).await.unwrap();
        let first = before.create_data_key(id(1)).await.unwrap();

        // A file of another machine, which the process that began before does not see.
        let other = folder.path().join("other.json");
        fs::copy(&path, &other).unwrap();
        rewrite(&other, |file| {
            file["master"]["keys"]["second"] = json!("AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=");
            file["master"]["current"] = json!("second");
        });
        let after = place.open_with(&Arc::new(Keys::load(&other).unwrap())).await.unwrap();
        assert_eq!(after.data_key(id(1)).await.unwrap().fingerprint(&[b"x"]), first.fingerprint(&[b"x"]));

        // What the new master key wrapped is told apart from a missing key by those that lack it.
        after.create_data_key(id(2)).await.unwrap();
        let error = before.data_key(id(2)).await.unwrap_err();
        assert!(matches!(&error, vault::KeyError::Fault(_)) && error.to_string().contains("second"), "{error}");
    }
}
