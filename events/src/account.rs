//! The events of an account. Type names and fields are storage format: see `tests/` for every form ever written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DomainEvent, EventTypes, Personal};

/// The category of account streams: `account-{id}`.
pub const CATEGORY: &str = "account";

/// What a person says of themselves. Absent fields are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// How others see the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Personal<String>>,
    /// Given name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_name: Option<Personal<String>>,
    /// Family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family_name: Option<Personal<String>>,
    /// Telephone number, E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Personal<String>>,
    /// Birth date, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth_date: Option<Personal<String>>,
    /// Postal address, as one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal<String>>,
    /// Country, ISO 3166-1 alpha-2. Events from before this field was known lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Personal<String>>,
}

/// A change of profile: for each field, left alone (absent), cleared (`null`), or set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProfileChange {
    /// The display name; it cannot be cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Personal<String>>,
    /// Given name.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    #[schemars(with = "Option<Personal<String>>")]
    pub given_name: Option<Option<Personal<String>>>,
    /// Family name.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    #[schemars(with = "Option<Personal<String>>")]
    pub family_name: Option<Option<Personal<String>>>,
    /// Telephone number.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    #[schemars(with = "Option<Personal<String>>")]
    pub phone: Option<Option<Personal<String>>>,
    /// Birth date.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    #[schemars(with = "Option<Personal<String>>")]
    pub birth_date: Option<Option<Personal<String>>>,
    /// Postal address.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    #[schemars(with = "Option<Personal<String>>")]
    pub address: Option<Option<Personal<String>>>,
    /// Country.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "double_option"
    )]
    #[schemars(with = "Option<Personal<String>>")]
    pub country: Option<Option<Personal<String>>>,
}

/// How a person wants the application to behave. In an event of change, absent means left alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// BCP 47 language tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"de-CH")]
    pub locale: Option<String>,
    /// IANA time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Europe/Zurich")]
    pub time_zone: Option<String>,
    /// Colours of the interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theme: Option<Theme>,
    /// The application's own settings, replaced as a whole; personal, since nobody knows what is in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Personal<BTreeMap<String, serde_json::Value>>>,
}

/// Colours of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// What the device says.
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// What happens to an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// Somebody registered; the address is not verified.
    AccountRegistered {
        /// The address as it was typed, trimmed.
        email: Personal<String>,
        /// The vault's name for the password's hash.
        credential_id: Uuid,
        /// What the person said of themselves.
        profile: Profile,
    },
    /// The profile changed.
    ProfileUpdated {
        /// What changed.
        change: ProfileChange,
    },
    /// Settings changed.
    SettingsChanged {
        /// What changed.
        change: Settings,
    },
    /// The address that was registered is proven to be the person's.
    EmailVerified {},
    /// Another address is asked for; nobody has proven it yet.
    EmailChangeRequested {
        /// The other address.
        email: Personal<String>,
    },
    /// The address that was asked for last is proven, and takes the place of the one before.
    EmailChanged {
        /// The address from now on.
        email: Personal<String>,
    },
    /// A link for a new password was asked for.
    PasswordResetRequested {},
    /// The password changed.
    PasswordChanged {
        /// The vault's name for the new password's hash.
        credential_id: Uuid,
        /// What stood for the person.
        proof: PasswordProof,
    },
    /// Log-ins need a code of the second factor from now on.
    SecondFactorEnabled {},
    /// Log-ins need no code any more.
    SecondFactorDisabled {},
    /// New recovery codes; those before are worth nothing.
    RecoveryCodesReplaced {},
    /// A recovery code took the second factor's place in a log-in.
    RecoveryCodeUsed {
        /// How many are left.
        left: u32,
    },
    /// Log-ins failed so often that further ones have to wait.
    LogInThrottled {},
    /// The account may do more.
    RoleGranted {
        /// The role's name.
        #[schemars(example = &"operator")]
        role: String,
    },
    /// The account may do less.
    RoleRevoked {
        /// The role's name.
        #[schemars(example = &"operator")]
        role: String,
    },
    /// Everything known of the person was given out.
    DataExported {},
    /// The account is closed: nobody can log in any more. Its data stays until it is erased.
    AccountClosed {},
    /// The person is forgotten: what is personal in this log can be read by nobody any more.
    AccountErased {},
}

/// What stood for the person when the password changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PasswordProof {
    /// The password before.
    Password,
    /// A link that was sent to the address.
    EmailLink,
}

impl DomainEvent for Event {
    fn described() -> Option<EventTypes> {
        Some(EventTypes::of::<Self>())
    }
}

/// Tells an absent field from one that is `null`.
mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(
        clippy::option_option,
        clippy::ref_option,
        reason = "absent, null and set are three things"
    )]
    pub fn serialize<S: Serializer, T: Serialize>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .as_ref()
            .and_then(Option::as_ref)
            .serialize(serializer)
    }

    #[expect(
        clippy::option_option,
        reason = "absent, null and set are three things"
    )]
    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}
