//! Token confusion: every way a token may pretend to be ours.

use std::time::Duration;

use serde_json::Value;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn settings() -> TokenSettings {
    TokenSettings {
        issuer: "https://issuer.test".into(),
        audience: "showcaller".into(),
    }
}

fn tokens(keys: &Arc<Keys>) -> Tokens {
    Tokens::new(Arc::clone(keys), settings())
}

fn account() -> Uuid {
    Uuid::from_u128(1)
}

fn session() -> Uuid {
    Uuid::from_u128(2)
}

fn grant() -> Grant {
    Grant {
        account: account(),
        session: session(),
        scopes: vec!["read:*".into(), "write:x".into()],
        authenticated_at: at(-60),
        second_factor: false,
    }
}

fn issue(tokens: &Tokens) -> String {
    tokens.issue(&grant(), at(0)).token
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(
        &URL_SAFE_NO_PAD
            .decode(token.split('.').nth(index).unwrap())
            .unwrap(),
    )
    .unwrap()
}

/// A token with these parts, signed by our own current key.
fn signed(keys: &Keys, header: &Value, claims: &Value) -> String {
    let input = format!("{}.{}", encode(header), encode(claims));
    let ring = keys.signing();
    let pair =
        aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(ring.current(at(0)).pkcs8_der()).unwrap();
    format!(
        "{input}.{}",
        URL_SAFE_NO_PAD.encode(pair.sign(input.as_bytes()))
    )
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn refused(tokens: &Tokens, token: &str) {
    let problem = tokens.verify(token, at(1)).expect_err(token);
    assert_eq!(
        (problem.status().as_u16(), problem.code()),
        (401, "invalid_token")
    );
}

#[test]
fn a_token_comes_back_as_its_caller() {
    let tokens = tokens(&Arc::new(Keys::generate()));
    let issued = tokens.issue(&grant(), at(0));
    assert_eq!(issued.expires_in, 300);
    for _ in 0..2 {
        let caller = tokens.verify(&issued.token, at(1)).unwrap();
        assert_eq!(caller.account, account());
        let credential = Credential::Session {
            id: session(),
            authenticated_at: at(-60),
            second_factor: false,
        };
        assert_eq!(caller.credential, credential);
        assert_eq!(*caller.scopes, ["read:*".to_owned(), "write:x".to_owned()]);
    }
    assert_eq!(part(&issued.token, 0)["typ"], "at+jwt");
    let names: Vec<_> = part(&issued.token, 1)
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        names,
        [
            "amr",
            "aud",
            "auth_time",
            "exp",
            "iat",
            "iss",
            "jti",
            "scope",
            "sid",
            "sub"
        ]
    );
    assert!(!format!("{issued:?}").contains("ey"));
}

#[test]
fn a_token_expires_also_when_it_was_seen_before() {
    let tokens = tokens(&Arc::new(Keys::generate()));
    let token = issue(&tokens);
    assert!(tokens.verify(&token, at(0)).is_ok());
    assert!(tokens.verify(&token, at(329)).is_ok(), "30 s of skew");
    assert!(tokens.verify(&token, at(330)).is_err());
    assert!(tokens.verify(&token, at(-30)).is_ok());
    assert!(
        tokens.verify(&token, at(-31)).is_err(),
        "issued in the future"
    );
    assert!(super::Tokens::verify(&tokens, &token, at(1)).is_ok());
}

#[test]
fn no_algorithm_and_a_mac_with_the_public_key_are_refused() {
    let keys = Arc::new(Keys::generate());
    let tokens = tokens(&keys);
    let good = issue(&tokens);
    let (header, claims) = (part(&good, 0), part(&good, 1));
    for alg in ["none", "None", "NONE", ""] {
        let mut header = header.clone();
        header["alg"] = alg.into();
        let input = format!("{}.{}", encode(&header), encode(&claims));
        refused(&tokens, &format!("{input}."));
        refused(
            &tokens,
            &format!("{input}.{}", good.rsplit('.').next().unwrap()),
        );
    }
    let jwk_x = tokens.jwks()["keys"][0]["x"].as_str().unwrap().to_owned();
    for secret in [
        &keys.signing().current(at(0)).public_key()[..],
        jwk_x.as_bytes(),
    ] {
        let mut header = header.clone();
        header["alg"] = "HS256".into();
        let input = format!("{}.{}", encode(&header), encode(&claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
        refused(&tokens, &format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)));
    }
    for alg in ["RS256", "ES256", "PS256", "HS512"] {
        let mut header = header.clone();
        header["alg"] = alg.into();
        refused(&tokens, &signed(&keys, &header, &claims));
    }
}

#[test]
fn every_header_field_and_claim_must_be_right() {
    let keys = Arc::new(Keys::generate());
    let tokens = tokens(&keys);
    let good = issue(&tokens);
    let (header, claims) = (part(&good, 0), part(&good, 1));
    assert!(
        tokens
            .verify(&signed(&keys, &header, &claims), at(1))
            .is_ok(),
        "the forge itself works"
    );

    for (name, value) in [
        ("typ", json!("JWT")),
        ("typ", json!("id+jwt")),
        ("typ", Value::Null),
        ("kid", json!("unknown")),
        ("kid", json!("../../etc/passwd")),
        ("kid", Value::Null),
        ("crit", json!(["exp"])),
    ] {
        let mut header = header.clone();
        header[name] = value;
        refused(&tokens, &signed(&keys, &header, &claims));
    }
    for (name, value) in [
        ("iss", json!("https://other.test")),
        ("aud", json!("other")),
        ("sub", json!("not a uuid")),
        ("sid", json!(7)),
        ("exp", json!("soon")),
        ("exp", json!(at(-60).timestamp())),
        ("exp", json!(i64::MIN)),
        ("iat", json!(i64::MAX)),
        ("iat", json!(at(120).timestamp())),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        refused(&tokens, &signed(&keys, &header, &claims));
    }
    for name in ["iss", "aud", "sub", "sid", "exp", "iat", "jti"] {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        refused(&tokens, &signed(&keys, &header, &claims));
    }
}

#[test]
fn foreign_keys_are_refused_also_when_the_header_brings_them_along() {
    let keys = Arc::new(Keys::generate());
    let (ours, foreign) = (tokens(&keys), Keys::generate());
    let good = issue(&ours);
    let (header, claims) = (part(&good, 0), part(&good, 1));
    refused(&ours, &signed(&foreign, &header, &claims));
    let mut header = header;
    header["jwk"] = json!({
        "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(foreign.signing().current(at(0)).public_key()),
    });
    refused(&ours, &signed(&foreign, &header, &claims));
    header["kid"] = foreign.signing().current(at(0)).kid().into();
    refused(&ours, &signed(&foreign, &header, &claims));
}

#[test]
fn torn_tokens_are_refused() {
    let tokens = tokens(&Arc::new(Keys::generate()));
    let good = issue(&tokens);
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        &good[1..],
        &good[..good.len() - 2],
        &format!("{good}.x"),
        &"a".repeat(100_000),
    ] {
        refused(&tokens, text);
    }
    let (head, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[0] ^= 1;
    refused(
        &tokens,
        &format!("{head}.{}", URL_SAFE_NO_PAD.encode(bytes)),
    );
}

#[test]
fn a_token_says_when_and_how_the_person_logged_in() {
    let keys = Arc::new(Keys::generate());
    let tokens = tokens(&keys);
    let second_factor = |caller: &Caller| match caller.credential {
        Credential::Session { second_factor, .. } => second_factor,
        Credential::ApiKey { .. } => panic!("it is a session's"),
    };
    let one = issue(&tokens);
    assert_eq!(part(&one, 1)["amr"], json!(["pwd"]));
    assert_eq!(part(&one, 1)["auth_time"], at(-60).timestamp());
    let caller = tokens.verify(&one, at(1)).unwrap();
    assert!(!second_factor(&caller) && caller.fresh(at(1)));

    let grant = Grant {
        second_factor: true,
        authenticated_at: at(-3_600),
        ..grant()
    };
    let two = tokens.issue(&grant, at(0)).token;
    assert_eq!(part(&two, 1)["amr"], json!(["pwd", "otp"]));
    let caller = tokens.verify(&two, at(1)).unwrap();
    assert!(second_factor(&caller) && !caller.fresh(at(1)));

    // As it was issued before these claims came up.
    let mut claims = part(&one, 1);
    claims.as_object_mut().unwrap().remove("auth_time");
    claims.as_object_mut().unwrap().remove("amr");
    let old = signed(&keys, &part(&one, 0), &claims);
    let caller = tokens.verify(&old, at(1)).unwrap();
    assert!(!second_factor(&caller) && !caller.fresh(at(1)));
    assert_eq!(caller.session(), Some(session()));
}

#[test]
fn a_token_already_seen_costs_at_most_20_microseconds() {
    const ROUNDS: u32 = 2_000;
    let tokens = tokens(&Arc::new(Keys::generate()));
    let token = issue(&tokens);
    tokens.verify(&token, at(1)).unwrap();
    // The best of several runs: the machine may be busy with other things.
    let best = (0..10)
        .map(|_| {
            let start = std::time::Instant::now();
            for _ in 0..ROUNDS {
                std::hint::black_box(tokens.verify(std::hint::black_box(&token), at(1)).unwrap());
            }
            start.elapsed() / ROUNDS
        })
        .min()
        .unwrap();
    eprintln!("a token already seen: {best:?}");
    assert!(best <= Duration::from_micros(20), "{best:?}");
}

#[test]
fn the_key_set_names_public_keys_alone() {
    let keys = Arc::new(Keys::generate());
    let set = tokens(&keys).jwks();
    let key = set["keys"][0].as_object().unwrap();
    let names: Vec<_> = key.keys().map(String::as_str).collect();
    assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(key["kid"], keys.signing().current(at(0)).kid());
}
