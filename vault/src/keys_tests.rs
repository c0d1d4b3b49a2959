//! What each key gives, and to whom.

use super::*;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

#[test]
fn an_address_is_one_claim_however_it_is_written() {
    let keys = Keys::generate();
    let one = keys.claim_hash(&normalise_email("  Zoë.Müller@Example.ORG\t"));
    let other = keys.claim_hash(&normalise_email("zoe\u{308}.mu\u{308}ller@example.org"));
    assert_eq!(one, other);
    assert_ne!(one, keys.claim_hash("zoe.muller@example.org"));
    assert_ne!(
        one,
        Keys::generate().claim_hash(&normalise_email("Zoë.Müller@example.org"))
    );
    // Lower-casing makes two characters of this one; normalising again must change nothing.
    let dotted = normalise_email("\u{130}x@example.org");
    assert_eq!(normalise_email(&dotted), dotted);
}

#[test]
fn a_command_id_is_the_same_for_the_same_three_and_no_others() {
    let keys = Keys::generate();
    let id = keys.command_id("p", "account-1", "k");
    assert_eq!(id, keys.command_id("p", "account-1", "k"));
    assert_eq!(id.0.get_version_num(), 8);
    for (principal, target, key) in [
        ("pa", "ccount-1", "k"),
        ("p", "account-1k", ""),
        ("q", "account-1", "k"),
    ] {
        assert_ne!(id, keys.command_id(principal, target, key));
    }
    assert_ne!(id, Keys::generate().command_id("p", "account-1", "k"));
}

#[test]
fn a_token_authenticator_fits_its_bytes_alone() {
    let keys = Keys::generate();
    let tag = keys.token_mac(b"position");
    assert!(keys.verify_token_mac(b"position", &tag));
    assert!(!keys.verify_token_mac(b"positioN", &tag));
    assert!(!keys.verify_token_mac(b"position", &tag[..31]));
    assert!(!Keys::generate().verify_token_mac(b"position", &tag));
}

#[test]
fn a_wrapped_data_key_opens_for_its_person_alone() {
    let keys = Keys::generate();
    let (person, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let (made, Wrapped { master, bytes }) = keys.new_data_key(person, now());
    let wrapped = bytes;
    let master = master.as_str();
    let opened = keys.unwrap_data_key(person, master, &wrapped).unwrap();
    assert_eq!(opened.fingerprint(&[b"x"]), made.fingerprint(&[b"x"]));
    assert!(keys.unwrap_data_key(other, master, &wrapped).is_err());
    assert!(
        keys.unwrap_data_key(person, master, &wrapped[..59])
            .is_err()
    );
    assert!(keys.unwrap_data_key(person, master, &[]).is_err());
    let error = keys
        .unwrap_data_key(person, "gone", &wrapped)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"gone\"") && error.contains("put it back"),
        "{error}"
    );
    assert!(
        Keys::generate()
            .unwrap_data_key(person, master, &wrapped)
            .is_err()
    );
}

#[test]
fn signing_keys_sign_for_the_token_library() {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
    let (keys, stranger) = (Keys::generate(), Keys::generate());
    let claims = serde_json::json!({"exp": 4_000_000_000_u64});
    let key = EncodingKey::from_ed_der(keys.signing().current(now()).pkcs8_der());
    let token = encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap();
    let verify = |keys: &Keys| {
        let key = DecodingKey::from_ed_der(keys.signing().current(now()).public_key());
        decode::<serde_json::Value>(&token, &key, &Validation::new(Algorithm::EdDSA)).is_ok()
    };
    assert!(verify(&keys) && !verify(&stranger));
}

#[test]
fn debug_shows_ids_alone() {
    let keys = Keys::generate();
    let shown = format!("{keys:?}");
    assert!(
        shown.contains(keys.signing().current(now()).kid())
            && shown.contains(keys.masters().turns.at(now())),
        "{shown}"
    );
    assert!(shown.len() < 200, "{shown}");
}
