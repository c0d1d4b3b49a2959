//! `accounts`: each account as it stands now, readable by its owner.
//!
//! Refuses: to open anything personal. Ciphertexts pass through as they stand in the events.

use events::account::{CATEGORY, Event, ProfileChange, Settings, Theme};
use events::{DecodeError, DomainEvent, RecordedEvent};
use read_models::{Access, Changes, ColumnType, Op, ReadModel, Value};

use super::{account_of, metadata_of};

/// The definition: one row an account. `status` is `pending` (address not verified), `verified` or `closed`; `version`
/// is the version of the account's stream, which `If-Match` compares.
pub fn read_model() -> ReadModel {
    ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("status", ColumnType::Text)
        .column("email", ColumnType::Personal)
        .column("display_name", ColumnType::Personal)
        .column("given_name", ColumnType::Personal)
        .column("family_name", ColumnType::Personal)
        .column("phone", ColumnType::Personal)
        .column("birth_date", ColumnType::Personal)
        .column("address", ColumnType::Personal)
        .column("country", ColumnType::Personal)
        .column("locale", ColumnType::Text)
        .column("time_zone", ColumnType::Text)
        .column("theme", ColumnType::Text)
        .column("custom", ColumnType::Personal)
        .column("registered_at", ColumnType::Timestamp)
        .column("version", ColumnType::Integer)
        .category(CATEGORY)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let key = [account_of(event)?.into()];
    let version = ("version", set(event.version.as_i64()));
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
                ("registered_at", set(metadata_of(event)?.recorded_at)),
                version,
            ],
        ),
        Event::ProfileUpdated { change } => {
            rows.update_all(key, profile(&change).chain([version]));
        }
        Event::SettingsChanged { change } => {
            rows.update_all(key, settings(&change).chain([version]));
        }
        Event::AccountClosed {} => rows.update(key, [("status", set("closed")), version]),
    }
    Ok(())
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
            ("registered_at", recorded_at(1).into()),
            ("version", 4.into()),
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
