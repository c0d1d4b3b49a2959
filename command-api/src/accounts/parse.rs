//! How the bodies of account commands become commands.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use events::Personal;
use events::account::{Profile, ProfileChange, Settings, Theme};
use serde_json::Value;
use uuid::Uuid;
use web::Caller;

use super::decider::{Account, Command, Refusal};
use crate::aggregate::Aggregate;
use crate::form::Form;
use crate::{Rule, rules};

/// The most keys `custom` may have.
const CUSTOM_KEYS: usize = 50;
/// The most bytes `custom` may have as JSON.
const CUSTOM_BYTES: usize = 8 * 1024;
const THEMES: [(&str, Theme); 3] = [
    ("system", Theme::System),
    ("light", Theme::Light),
    ("dark", Theme::Dark),
];
/// Nobody is that many years old.
const OLDEST_YEARS: u32 = 150;

impl Aggregate for Account {
    fn shown(&self) -> Value {
        self.as_json()
    }

    const COLLECTION: &'static str = "accounts";
    const COMMANDS: &'static [&'static str] = &[
        "update-profile",
        "change-settings",
        "verify-email",
        "resend-verification",
        "change-email",
        "confirm-email",
        "change-password",
        "enroll-totp",
        "confirm-totp",
        "remove-totp",
        "replace-recovery-codes",
        "end-sessions",
        "grant-role",
        "revoke-role",
        "export",
        "close",
        "erase",
    ];

    fn parse(name: &str, form: &mut Form) -> Option<Command> {
        match name {
            "update-profile" => Some(Command::UpdateProfile(profile_change(form))),
            "change-settings" => Some(Command::ChangeSettings(settings(form))),
            _ => None,
        }
    }

    /// Its host has asked the policy.
    fn allows(_caller: &Caller, _id: &str, _command: &Command) -> bool {
        true
    }

    fn person(id: &str) -> Option<Uuid> {
        id.parse().ok()
    }

    fn code(refusal: &Refusal) -> &'static str {
        match refusal {
            Refusal::Unknown => "account_unknown",
            Refusal::AlreadyRegistered => "account_already_registered",
            Refusal::NotVerified => "email_not_verified",
            Refusal::NoEmailChange => "no_email_change",
            Refusal::SecondFactorEnabled => "second_factor_enabled",
            Refusal::NoSecondFactor => "no_second_factor",
            Refusal::Closed => "account_closed",
            Refusal::Erased => "erased",
        }
    }
}

impl Account {
    /// Whether a command is its decision alone: nothing is done around it.
    pub(super) fn is_plain(command: &str) -> bool {
        matches!(command, "update-profile" | "change-settings")
    }
}

/// The profile in the body of a registration.
pub(super) fn profile(form: &mut Form) -> Profile {
    let personal = |text: Option<String>| text.map(Personal::Plain);
    Profile {
        display_name: Some(Personal::Plain(form.text("display_name", rules::NAME))),
        given_name: personal(form.optional_text("given_name", rules::NAME)),
        family_name: personal(form.optional_text("family_name", rules::NAME)),
        phone: personal(form.optional_text("phone", rules::PHONE)),
        birth_date: birth_date(form).flatten().map(Personal::Plain),
        address: personal(form.optional_text("address", rules::POSTAL_ADDRESS)),
        country: personal(form.optional_text("country", rules::COUNTRY)),
    }
}

fn profile_change(form: &mut Form) -> ProfileChange {
    let mut clearable = |name, rule: Rule| {
        form.nullable_text(name, rule)
            .map(|text| text.map(Personal::Plain))
    };
    let mut change = ProfileChange {
        display_name: None,
        given_name: clearable("given_name", rules::NAME),
        family_name: clearable("family_name", rules::NAME),
        phone: clearable("phone", rules::PHONE),
        birth_date: None,
        address: clearable("address", rules::POSTAL_ADDRESS),
        country: clearable("country", rules::COUNTRY),
    };
    change.birth_date = birth_date(form).map(|text| text.map(Personal::Plain));
    let name = form.kept_text("display_name", rules::NAME);
    change.display_name = name.map(Personal::Plain);
    let said = change != ProfileChange::default();
    form.at_least_one(said, "name at least one field to change");
    change
}

#[expect(
    clippy::option_option,
    reason = "absent, null and set are three things"
)]
fn birth_date(form: &mut Form) -> Option<Option<String>> {
    let text = form.nullable_text("birth_date", rules::BIRTH_DATE)?;
    let today = form.now().date_naive();
    if let Some(Ok(date)) = text.as_ref().map(|text| text.parse::<NaiveDate>()) {
        if date > today {
            form.refuse(
                "birth_date",
                "in_the_future",
                "a birth date is not in the future",
            );
        } else if today.years_since(date) >= Some(OLDEST_YEARS) {
            form.refuse(
                "birth_date",
                "too_long_ago",
                format!("a birth date is less than {OLDEST_YEARS} years ago"),
            );
        }
    }
    Some(text)
}

fn settings(form: &mut Form) -> Settings {
    let settings = Settings {
        locale: form.optional_text("locale", rules::LOCALE),
        time_zone: form.optional_text("time_zone", rules::TIME_ZONE),
        theme: theme(form),
        custom: custom(form).map(Personal::Plain),
    };
    let said = settings != Settings::default();
    form.at_least_one(said, "name at least one setting to change");
    settings
}

fn theme(form: &mut Form) -> Option<Theme> {
    let names = THEMES.map(|(name, _)| name);
    let chosen = form.optional_choice("theme", "unknown_theme", &names)?;
    THEMES
        .into_iter()
        .find_map(|(name, theme)| (name == chosen).then_some(theme))
}

/// Replaces the custom settings as a whole.
fn custom(form: &mut Form) -> Option<BTreeMap<String, Value>> {
    let fields = form.optional_map("custom", CUSTOM_KEYS)?;
    if serde_json::to_vec(&fields).map_or(0, |json| json.len()) > CUSTOM_BYTES {
        form.refuse(
            "custom",
            "too_long",
            format!("custom settings have at most {CUSTOM_BYTES} bytes of JSON"),
        );
    }
    Some(fields.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    fn problems(command: &str, body: Value) -> Vec<(String, &'static str)> {
        let Value::Object(fields) = body else {
            panic!("a body is an object")
        };
        let mut form = Form::new(fields, DateTime::UNIX_EPOCH, None);
        assert!(Account::parse(command, &mut form).is_some());
        form.finish()
            .into_iter()
            .map(|error| (error.pointer, error.code))
            .collect()
    }

    #[test]
    fn a_change_of_nothing_is_refused() {
        assert_eq!(
            problems("update-profile", json!({})),
            [(String::new(), "empty")]
        );
        assert_eq!(
            problems("change-settings", json!({})),
            [(String::new(), "empty")]
        );
    }

    #[test]
    fn wrong_settings_are_all_named() {
        assert_eq!(
            problems(
                "change-settings",
                json!({"locale": "english", "theme": "pink", "custom": [1], "x": 1})
            ),
            [
                ("/locale".into(), "invalid_locale"),
                ("/theme".into(), "unknown_theme"),
                ("/custom".into(), "wrong_type"),
                ("/x".into(), "unknown_field"),
            ]
        );
    }

    #[test]
    fn a_birth_date_lies_in_the_past_but_less_than_150_years_back() {
        let found = |date: Value| problems("update-profile", json!({ "birth_date": date }));
        // It is 1970-01-01.
        for date in ["1970-01-01", "1820-01-02"] {
            assert_eq!(found(json!(date)), [], "{date}");
        }
        for (date, code) in [
            ("1970-01-02", "in_the_future"),
            ("9999-12-31", "in_the_future"),
            ("1820-01-01", "too_long_ago"),
            ("0001-01-01", "too_long_ago"),
            ("+10000-01-01", "invalid_date"),
            ("-0001-01-01", "invalid_date"),
        ] {
            assert_eq!(found(json!(date)), [("/birth_date".into(), code)], "{date}");
        }
        assert_eq!(found(Value::Null), []);
    }

    #[test]
    fn wrong_profile_fields_are_all_named() {
        let zalgo = format!("a{}", "\u{335}".repeat(9));
        assert_eq!(
            problems(
                "update-profile",
                json!({"given_name": zalgo, "family_name": "a\u{200B}b", "phone": "1", "address": "a\u{E000}",
                       "country": "UK", "birth_date": "1970-02-30", "display_name": "x".repeat(101)})
            ),
            [
                ("/given_name".into(), "too_many_marks"),
                ("/family_name".into(), "control_character"),
                ("/phone".into(), "invalid_phone"),
                ("/address".into(), "unknown_character"),
                ("/country".into(), "unknown_country"),
                ("/birth_date".into(), "invalid_date"),
                ("/display_name".into(), "too_long"),
            ]
        );
    }

    #[test]
    fn a_country_is_set_in_its_canonical_form_and_can_be_cleared() {
        let change = |country: Value| {
            let Value::Object(fields) = json!({ "country": country }) else {
                unreachable!()
            };
            let mut form = Form::new(fields, DateTime::UNIX_EPOCH, None);
            let change = profile_change(&mut form);
            assert!(form.finish().is_empty());
            change.country
        };
        assert_eq!(
            change(json!("de")),
            Some(Some(Personal::Plain("DE".into())))
        );
        assert_eq!(change(Value::Null), Some(None));
    }
}
