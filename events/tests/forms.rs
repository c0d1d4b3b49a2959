//! Every form in which an event was ever written: each must be read for ever, and come out as it went in.
//! Forms are added here, never changed.

use events::account::{Event as Account, ProfileChange};
use events::api_key::Event as ApiKey;
use events::operator::Event as Operator;
use events::projection::Event as Projection;
use events::session::Event as Session;
use events::{DomainEvent, Personal};
use serde_json::{Value, json};

const ID: &str = "00000000-0000-0000-0000-000000000007";

/// A ciphertext as it stands in the log.
fn sealed(field: &str) -> Value {
    json!(format!("enc1.{ID}.c3RyZWFt.{ID}.{field}.bm9uY2U"))
}

fn stays<E: DomainEvent>(type_name: &str, data: &Value) {
    let event = E::parse(type_name, 1, &data.to_string()).expect(type_name);
    let (name, written) = event.encode().expect(type_name);
    assert_eq!((name.as_str(), &written), (type_name, data));
}

#[test]
fn every_form_of_an_account_event_is_read_and_written_as_it_was() {
    let without_country = json!({
        "display_name": sealed("a"), "given_name": sealed("b"), "family_name": sealed("c"),
        "phone": sealed("d"), "birth_date": sealed("e"), "address": sealed("f"),
    });
    let mut with_country = without_country.clone();
    with_country["country"] = sealed("g");
    let cleared = json!({
        "given_name": null, "family_name": null, "phone": null, "birth_date": null, "address": null,
    });
    let mut country_cleared = cleared.clone();
    country_cleared["country"] = Value::Null;

    for profile in [json!({}), without_country.clone(), with_country.clone()] {
        stays::<Account>(
            "AccountRegistered",
            &json!({"email": sealed("email"), "credential_id": ID, "profile": profile}),
        );
    }
    for change in [
        json!({}),
        without_country,
        with_country,
        cleared,
        country_cleared,
    ] {
        stays::<Account>("ProfileUpdated", &json!({ "change": change }));
    }
    for change in [
        json!({"locale": "en-GB", "time_zone": "Europe/London", "theme": "system", "custom": sealed("h")}),
        json!({"theme": "light"}),
        json!({"theme": "dark"}),
    ] {
        stays::<Account>("SettingsChanged", &json!({ "change": change }));
    }
    for name in [
        "EmailVerified",
        "PasswordResetRequested",
        "SecondFactorEnabled",
        "SecondFactorDisabled",
        "RecoveryCodesReplaced",
        "LogInThrottled",
        "DataExported",
        "AccountClosed",
        "AccountErased",
    ] {
        stays::<Account>(name, &json!({}));
    }
    for name in ["EmailChangeRequested", "EmailChanged"] {
        stays::<Account>(name, &json!({"email": sealed("email")}));
    }
    for proof in ["password", "email_link"] {
        stays::<Account>(
            "PasswordChanged",
            &json!({"credential_id": ID, "proof": proof}),
        );
    }
    stays::<Account>("RecoveryCodeUsed", &json!({"left": 9}));
    for name in ["RoleGranted", "RoleRevoked"] {
        stays::<Account>(name, &json!({"role": "operator"}));
    }
}

#[test]
fn every_form_of_a_session_event_is_read_and_written_as_it_was() {
    stays::<Session>(
        "SessionStarted",
        &json!({"account_id": ID, "expires_at": "2026-11-22T16:07:21.740338Z"}),
    );
    stays::<Session>(
        "SessionStarted",
        &json!({"account_id": ID, "expires_at": "2026-11-22T16:07:21.740338Z", "second_factor": true, "device": sealed("device")}),
    );
    for reason in [
        "account_closed",
        "refresh_token_reused",
        "ended",
        "password_changed",
        "second_factor_changed",
        "role_revoked",
        "account_erased",
    ] {
        stays::<Session>("SessionEnded", &json!({"account_id": ID, "reason": reason}));
    }
}

#[test]
fn every_form_of_an_api_key_event_is_read_and_written_as_it_was() {
    stays::<ApiKey>(
        "ApiKeyCreated",
        &json!({"account_id": ID, "name": sealed("name"), "scopes": ["self:read"], "expires_at": "2026-11-22T16:07:21.740338Z"}),
    );
    for reason in [
        "revoked",
        "role_revoked",
        "account_closed",
        "account_erased",
    ] {
        stays::<ApiKey>(
            "ApiKeyRevoked",
            &json!({"account_id": ID, "reason": reason}),
        );
    }
}

#[test]
fn every_form_of_an_operators_event_is_read_and_written_as_it_was() {
    let data =
        json!({"os_user": "ada", "uid": 1000, "verb": "streams show", "subject": "account-1"});
    stays::<Operator>("PersonalDataRevealed", &data);
    let mut with_sudo = data;
    with_sudo["login_uid"] = json!(1001);
    stays::<Operator>("PersonalDataRevealed", &with_sudo);
}

#[test]
fn a_country_is_left_alone_cleared_or_set_and_is_personal() {
    let country = |change: Value| {
        let data = json!({ "change": change }).to_string();
        match Account::parse("ProfileUpdated", 1, &data).unwrap() {
            Account::ProfileUpdated { change } => change.country,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(country(json!({})), None);
    assert_eq!(country(json!({ "country": null })), Some(None));
    assert!(matches!(
        country(json!({ "country": sealed("g") })),
        Some(Some(Personal::Sealed(_)))
    ));
    let plain = Account::ProfileUpdated {
        change: ProfileChange {
            country: Some(Some(Personal::Plain("DE".into()))),
            ..ProfileChange::default()
        },
    };
    let (_, data) = plain.encode().unwrap();
    assert_eq!(data, json!({"change": {"country": {"$personal": "DE"}}}));
}

#[test]
fn every_form_of_an_operators_wish_is_read_and_written_as_it_was() {
    for (name, data) in [
        ("RebuildRequested", json!({})),
        ("RebuildRequested", json!({ "compare": true })),
        ("RebuildCancelled", json!({})),
        ("RollbackRequested", json!({})),
        ("KeptBuildsDropped", json!({})),
        ("ParkedRetried", json!({})),
        ("ParkedRetried", json!({ "stream": "account-1" })),
        ("ParkedRetried", json!({ "cause": "missing field" })),
        (
            "ParkedDiscarded",
            json!({ "stream": "account-1", "position": 7, "reason": "no use" }),
        ),
    ] {
        stays::<Projection>(name, &data);
    }
}
