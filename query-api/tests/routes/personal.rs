//! Personal values: opened for their person and for one scope, with one query of the vault.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::fixture::{ADA, BOB, EVE, Fixture, moment, notes, send};

async fn email(fixture: &Fixture, account: uuid::Uuid, scopes: &[&str], of: uuid::Uuid) -> Value {
    fixture
        .get_as(account, scopes, &format!("/v1/accounts/{of}"))
        .await
        .json()["email"]
        .clone()
}

#[tokio::test]
async fn a_person_sees_their_own_values_and_others_see_null() {
    let fixture = Fixture::new().await;
    fixture.account(ADA, 1).await;
    let plain = json!(format!("{ADA}@example.org"));
    assert_eq!(email(&fixture, ADA, &[], ADA).await, plain);
    assert_eq!(
        email(&fixture, BOB, &["read:accounts"], ADA).await,
        Value::Null
    );
    assert_eq!(email(&fixture, BOB, &["read:*"], ADA).await, Value::Null);
    assert_eq!(
        email(&fixture, BOB, &["read:accounts", "read:personal"], ADA).await,
        plain
    );
    // The scope for values opens no rows.
    assert_eq!(
        fixture
            .get_as(BOB, &["read:personal"], &format!("/v1/accounts/{ADA}"))
            .await
            .status,
        404
    );
    let custom = fixture.get_as(ADA, &[], "/v1/accounts/me").await.json()["custom"].clone();
    assert_eq!(custom, json!({ "a": [true], "b": 1 }));
}

#[tokio::test]
async fn the_owner_of_a_row_does_not_see_another_persons_value_in_it() {
    let fixture = Fixture::new().await;
    let about_bob = fixture.sealed(BOB, json!("Bob is ill")).await;
    let own = fixture.sealed(ADA, json!("I am well")).await;
    let rows = vec![
        (vec![ADA.into(), "bob".into()], vec![about_bob]),
        (vec![ADA.into(), "own".into()], vec![own]),
    ];
    fixture.commit(&notes(), 0, 1, rows).await;
    let notes = fixture.get_as(ADA, &[], "/v1/notes").await.json();
    assert_eq!(
        (&notes[0]["about"], &notes[1]["about"]),
        (&Value::Null, &json!("I am well"))
    );
}

#[tokio::test]
async fn erased_values_are_null_for_everybody() {
    let fixture = Fixture::new().await;
    fixture.account(EVE, 1).await;
    fixture.vault.erase_person(EVE, moment()).await.unwrap();
    // The key may be remembered for a second.
    test_support::eventually(std::time::Duration::from_secs(5), async || {
        email(&fixture, EVE, &[], EVE).await == Value::Null
    })
    .await;
    assert_eq!(
        email(&fixture, ADA, &["read:*", "read:personal"], EVE).await,
        Value::Null
    );
}

#[tokio::test]
async fn a_page_with_an_erased_person_shows_the_others() {
    let fixture = Fixture::new().await;
    for (person, position) in [(ADA, 1), (BOB, 2), (EVE, 3)] {
        fixture.account(person, position).await;
    }
    fixture.vault.erase_person(BOB, moment()).await.unwrap();
    let scopes = ["read:accounts", "read:personal"];
    let rows = fixture.get_as(EVE, &scopes, "/v1/accounts").await.json();
    let email_of = |person: uuid::Uuid| {
        let mut rows = rows.as_array().unwrap().iter();
        let row = rows.find(|row| row["account_id"] == json!(person)).unwrap();
        (
            row["status"].clone(),
            row["email"].clone(),
            row["custom"].clone(),
        )
    };
    assert_eq!(email_of(BOB), (json!("pending"), Value::Null, Value::Null));
    for person in [ADA, EVE] {
        assert_eq!(email_of(person).1, json!(format!("{person}@example.org")));
    }
}

#[tokio::test]
async fn a_whole_page_is_opened_with_one_query_of_the_vault() {
    let fixture = Fixture::new().await;
    for n in 0..20 {
        let person = uuid::Uuid::from_u128(1_000 + n);
        fixture.vault.create_data_key(person).await.unwrap();
        fixture.account(person, n as u64 + 1).await;
    }
    let (app, vault) = fixture.second().await;
    let asks = async |scopes: &[&str]| {
        let request = Request::get("/v1/accounts");
        let request = request.header("authorization", fixture.bearer(ADA, scopes));
        send(&app, request.body(Body::empty()).unwrap())
            .await
            .json()
    };
    // Nothing to open, nothing asked.
    asks(&["read:accounts"]).await;
    assert_eq!(vault.key_queries(), 0);
    let rows = asks(&["read:*", "read:personal"]).await;
    assert_eq!(vault.key_queries(), 1);
    assert_eq!(rows.as_array().unwrap().len(), 20);
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .all(|row| row["email"].is_string() && row["custom"].is_object())
    );
}

#[tokio::test]
async fn ciphertext_is_never_shown_and_never_opened_for_whom_it_was_not_made() {
    let fixture = Fixture::new().await;
    fixture.account(ADA, 1).await;
    for scopes in [&[][..], &["read:*"], &["read:*", "read:personal"]] {
        for path in ["/v1/accounts", &format!("/v1/accounts/{ADA}")] {
            let text = fixture.get_as(BOB, scopes, path).await.text;
            assert!(!text.contains("enc1."), "{text}");
        }
    }
    // A ciphertext that claims to be Bob's, with the payload of Ada's.
    let read_models::Value::Text(ada) = fixture.sealed(ADA, json!("secret")).await else {
        panic!("sealed")
    };
    let forged = ada.replace(&ADA.to_string(), &BOB.to_string());
    fixture
        .commit(
            &notes(),
            0,
            1,
            vec![(vec![BOB.into(), "x".into()], vec![forged.into()])],
        )
        .await;
    let answer = fixture.get_as(BOB, &[], "/v1/notes").await;
    assert_eq!(answer.verdict(), (500, "internal".into()));
    assert!(!answer.text.contains("secret"));
}
