//! `accounts`: each account as it stands now, readable by its owner.
//!
//! Refuses: to open anything personal. Ciphertexts pass through as they stand in the events.

use events::account::{CATEGORY, Event, ProfileChange, Settings, Theme};
use events::{DecodeError, DomainEvent, RecordedEvent};
use read_models::{Access, Changes, ColumnType, Op, ReadModel, Value};

use super::{id_of, metadata_of};

/// What a person gave of themselves: ciphertext while they are known, nothing once they are erased.
const PERSONAL: [&str; 9] = [
    "email",
    "display_name",
    "given_name",
    "family_name",
    "phone",
    "birth_date",
    "address",
    "country",
    "custom",
];
/// What a person likes. It names nobody, and goes with the person all the same.
const SETTINGS: [&str; 3] = ["locale", "time_zone", "theme"];

/// The definition: one row an account. `status` is `pending` (address not verified), `verified`, `closed` or `erased`;
/// `version` is the version of the account's stream, which `If-Match` compares, so every event moves it.
pub fn read_model() -> ReadModel {
    let mut model = ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("status", ColumnType::Text);
    for name in PERSONAL {
        model = model.column(name, ColumnType::Personal);
    }
    for name in SETTINGS {
        model = model.column(name, ColumnType::Text);
    }
    model
        .column("second_factor", ColumnType::Boolean)
        .column("registered_at", ColumnType::Timestamp)
        .column("verified_at", ColumnType::Timestamp)
        .column("closed_at", ColumnType::Timestamp)
        .column("version", ColumnType::Integer)
        .category(CATEGORY)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let key = [id_of(event)?.into()];
    let version = ("version", set(event.version.as_i64()));
    let now = || Ok(set(metadata_of(event)?.recorded_at));
    match Event::decode(event)? {
        Event::AccountRegistered { email, profile, .. } => rows.upsert(
            key,
            [
                ("status", set("pending")),
                ("email", set(&email)),
                ("display_name", set(profile.display_name.as_ref())),
                ("given_name", set(profile.given_name.as_ref())),
                ("family_name", set(profile.family_name.as_ref())),
                ("phone", set(profile.phone.as_ref())),
                ("birth_date", set(profile.birth_date.as_ref())),
                ("address", set(profile.address.as_ref())),
                ("country", set(profile.country.as_ref())),
                ("second_factor", set(false)),
                ("registered_at", now()?),
                version,
            ],
        ),
        Event::ProfileUpdated { change } => {
            rows.update_all(key, profile(&change).chain([version]));
        }
        Event::SettingsChanged { change } => {
            rows.update_all(key, settings(&change).chain([version]));
        }
        Event::EmailVerified {} => rows.update(
            key,
            [
                ("status", set("verified")),
                ("verified_at", now()?),
                version,
            ],
        ),
        Event::EmailChanged { email } => rows.update(key, [("email", set(&email)), version]),
        Event::SecondFactorEnabled {} => rows.update(key, [("second_factor", set(true)), version]),
        Event::SecondFactorDisabled {} => {
            rows.update(key, [("second_factor", set(false)), version]);
        }
        Event::AccountClosed {} => rows.update(
            key,
            [("status", set("closed")), ("closed_at", now()?), version],
        ),
        Event::AccountErased {} => rows.update_all(key, erased().chain([version])),
        Event::EmailChangeRequested { .. }
        | Event::PasswordResetRequested {}
        | Event::PasswordChanged { .. }
        | Event::RecoveryCodesReplaced {}
        | Event::RecoveryCodeUsed { .. }
        | Event::LogInThrottled {}
        | Event::RoleGranted { .. }
        | Event::RoleRevoked { .. }
        | Event::DataExported {} => rows.update(key, [version]),
    }
    Ok(())
}

/// The row stays, so that it is still counted; the person goes.
fn erased() -> impl Iterator<Item = (&'static str, Op)> {
    PERSONAL
        .into_iter()
        .chain(SETTINGS)
        .map(|column| (column, set(Value::Null)))
        .chain([("status", set("erased")), ("second_factor", set(false))])
}

fn set(value: impl Into<Value>) -> Op {
    Op::Set(value.into())
}

/// What is absent is left alone; what is null is cleared.
fn profile(change: &ProfileChange) -> impl Iterator<Item = (&'static str, Op)> {
    let optional = [
        ("given_name", &change.given_name),
        ("family_name", &change.family_name),
        ("phone", &change.phone),
        ("birth_date", &change.birth_date),
        ("address", &change.address),
        ("country", &change.country),
    ];
    let name = change.display_name.as_ref();
    name.map(|name| ("display_name", set(name)))
        .into_iter()
        .chain(optional.into_iter().filter_map(|(column, field)| {
            Some((column, set(field.as_ref()?.as_ref().map(Value::from))))
        }))
}

fn settings(change: &Settings) -> impl Iterator<Item = (&'static str, Op)> {
    let theme = change.theme.map(|theme| match theme {
        Theme::System => "system",
        Theme::Light => "light",
        Theme::Dark => "dark",
    });
    [
        ("locale", change.locale.as_deref().map(set)),
        ("time_zone", change.time_zone.as_deref().map(set)),
        ("theme", theme.map(set)),
        ("custom", change.custom.as_ref().map(set)),
    ]
    .into_iter()
    .filter_map(|(column, op)| Some((column, op?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read_models::testing::{account, given, recorded_at, sealed};

    fn registered() -> serde_json::Value {
        json!({"email": sealed("email"), "credential_id": uuid::Uuid::nil(),
               "profile": {"display_name": sealed("name"), "phone": sealed("phone"), "country": sealed("GB")}})
    }

    #[test]
    fn a_registered_account_is_pending_and_keeps_ciphertexts_as_they_are() {
        given(
            &read_model(),
            [account(7, "AccountRegistered", registered())],
        )
        .then(&[&[
            ("account_id", uuid::Uuid::from_u128(7).into()),
            ("status", "pending".into()),
            ("email", sealed("email").into()),
            ("display_name", sealed("name").into()),
            ("phone", sealed("phone").into()),
            ("country", sealed("GB").into()),
            ("second_factor", false.into()),
            ("registered_at", recorded_at(1).into()),
            ("version", 1.into()),
        ]]);
    }

    #[test]
    fn a_change_of_profile_sets_clears_and_leaves_alone() {
        given(
            &read_model(),
            [
                account(7, "AccountRegistered", registered()),
                account(
                    7,
                    "ProfileUpdated",
                    json!({"change": {"phone": null, "address": sealed("home"), "country": sealed("FR")}}),
                ),
            ],
        )
        .then(&[&[
            ("account_id", uuid::Uuid::from_u128(7).into()),
            ("status", "pending".into()),
            ("email", sealed("email").into()),
            ("display_name", sealed("name").into()),
            ("address", sealed("home").into()),
            ("country", sealed("FR").into()),
            ("second_factor", false.into()),
            ("registered_at", recorded_at(1).into()),
            ("version", 2.into()),
        ]]);
    }

    #[test]
    fn settings_are_kept_and_a_closed_account_stays_as_a_row() {
        given(
            &read_model(),
            [
                account(7, "AccountRegistered", registered()),
                account(
                    7,
                    "SettingsChanged",
                    json!({"change": {"locale": "en-GB", "theme": "dark", "custom": sealed("custom")}}),
                ),
                account(7, "SettingsChanged", json!({"change": {"time_zone": "Europe/Paris"}})),
                account(7, "AccountClosed", json!({})),
            ],
        )
        .then(&[&[
            ("account_id", uuid::Uuid::from_u128(7).into()),
            ("status", "closed".into()),
            ("email", sealed("email").into()),
            ("display_name", sealed("name").into()),
            ("phone", sealed("phone").into()),
            ("country", sealed("GB").into()),
            ("locale", "en-GB".into()),
            ("time_zone", "Europe/Paris".into()),
            ("theme", "dark".into()),
            ("custom", sealed("custom").into()),
            ("second_factor", false.into()),
            ("registered_at", recorded_at(1).into()),
            ("closed_at", recorded_at(4).into()),
            ("version", 4.into()),
        ]]);
    }

    /// A registration with nothing but an address.
    fn plain() -> serde_json::Value {
        json!({"email": sealed("email"), "credential_id": uuid::Uuid::nil(), "profile": {}})
    }

    #[test]
    fn the_status_follows_the_events_and_says_since_when() {
        given(
            &read_model(),
            [
                account(7, "AccountRegistered", plain()),
                account(8, "AccountRegistered", plain()),
                account(7, "EmailVerified", json!({})),
                account(8, "EmailVerified", json!({})),
                account(8, "AccountClosed", json!({})),
            ],
        )
        .then(&[
            &[
                ("account_id", uuid::Uuid::from_u128(7).into()),
                ("status", "verified".into()),
                ("email", sealed("email").into()),
                ("second_factor", false.into()),
                ("registered_at", recorded_at(1).into()),
                ("verified_at", recorded_at(3).into()),
                ("version", 2.into()),
            ],
            &[
                ("account_id", uuid::Uuid::from_u128(8).into()),
                ("status", "closed".into()),
                ("email", sealed("email").into()),
                ("second_factor", false.into()),
                ("registered_at", recorded_at(2).into()),
                ("verified_at", recorded_at(4).into()),
                ("closed_at", recorded_at(5).into()),
                ("version", 3.into()),
            ],
        ]);
    }

    #[test]
    fn an_address_counts_once_it_is_proven_and_not_when_it_is_asked_for() {
        let other = |name| account(7, name, json!({"email": sealed("other")}));
        let row = |email: &str, version: i64| {
            [
                ("account_id", uuid::Uuid::from_u128(7).into()),
                ("status", "pending".into()),
                ("email", sealed(email).into()),
                ("second_factor", false.into()),
                ("registered_at", recorded_at(1).into()),
                ("version", version.into()),
            ]
        };
        let asked = [
            account(7, "AccountRegistered", plain()),
            other("EmailChangeRequested"),
        ];
        given(&read_model(), asked.clone()).then(&[&row("email", 2)]);
        given(
            &read_model(),
            asked.into_iter().chain([other("EmailChanged")]),
        )
        .then(&[&row("other", 3)]);
    }

    #[test]
    fn a_second_factor_is_on_until_it_is_off() {
        let row = |second_factor: bool, version: i64| {
            [
                ("account_id", uuid::Uuid::from_u128(7).into()),
                ("status", "pending".into()),
                ("email", sealed("email").into()),
                ("second_factor", second_factor.into()),
                ("registered_at", recorded_at(1).into()),
                ("version", version.into()),
            ]
        };
        let on = [
            account(7, "AccountRegistered", plain()),
            account(7, "SecondFactorEnabled", json!({})),
        ];
        given(&read_model(), on.clone()).then(&[&row(true, 2)]);
        let off = account(7, "SecondFactorDisabled", json!({}));
        given(&read_model(), on.into_iter().chain([off])).then(&[&row(false, 3)]);
    }

    #[test]
    fn what_a_row_does_not_show_moves_its_version_alone() {
        let unseen = [
            ("PasswordResetRequested", json!({})),
            (
                "PasswordChanged",
                json!({"credential_id": uuid::Uuid::nil(), "proof": "email_link"}),
            ),
            ("RecoveryCodesReplaced", json!({})),
            ("RecoveryCodeUsed", json!({"left": 9})),
            ("LogInThrottled", json!({})),
            ("RoleGranted", json!({"role": "operator"})),
            ("RoleRevoked", json!({"role": "operator"})),
            ("DataExported", json!({})),
        ];
        let version = unseen.len() as i64 + 1;
        let events = unseen.map(|(name, data)| account(7, name, data));
        given(
            &read_model(),
            std::iter::once(account(7, "AccountRegistered", plain())).chain(events),
        )
        .then(&[&[
            ("account_id", uuid::Uuid::from_u128(7).into()),
            ("status", "pending".into()),
            ("email", sealed("email").into()),
            ("second_factor", false.into()),
            ("registered_at", recorded_at(1).into()),
            ("version", version.into()),
        ]]);
    }

    #[test]
    fn an_erased_account_is_still_a_row_and_nobody_any_more() {
        let everything = json!({"email": sealed("email"), "credential_id": uuid::Uuid::nil(), "profile": {
            "display_name": sealed("a"), "given_name": sealed("b"), "family_name": sealed("c"), "phone": sealed("d"),
            "birth_date": sealed("e"), "address": sealed("f"), "country": sealed("g"),
        }});
        let settings = json!({"change": {
            "locale": "en-GB", "time_zone": "Europe/London", "theme": "dark", "custom": sealed("h"),
        }});
        given(
            &read_model(),
            [
                account(7, "AccountRegistered", everything),
                account(7, "SettingsChanged", settings),
                account(7, "EmailVerified", json!({})),
                account(7, "SecondFactorEnabled", json!({})),
                account(7, "AccountClosed", json!({})),
                account(7, "AccountErased", json!({})),
            ],
        )
        .then(&[&[
            ("account_id", uuid::Uuid::from_u128(7).into()),
            ("status", "erased".into()),
            ("second_factor", false.into()),
            ("registered_at", recorded_at(1).into()),
            ("verified_at", recorded_at(3).into()),
            ("closed_at", recorded_at(5).into()),
            ("version", 6.into()),
        ]]);
    }

    #[test]
    fn a_stream_that_is_no_account_and_an_event_nobody_knows_are_errors() {
        let mut event = account(7, "AccountClosed", json!({}));
        event.stream = events::StreamId::parse("account-seven").unwrap();
        given(&read_model(), [event]).then_error("\"seven\" is no UUID");
        given(&read_model(), [account(7, "AccountPainted", json!({}))])
            .then_error("AccountPainted");
        let plain =
            json!({"email": "ada@example.org", "credential_id": uuid::Uuid::nil(), "profile": {}});
        given(&read_model(), [account(7, "AccountRegistered", plain)]).then_error("ciphertext");
    }
}
