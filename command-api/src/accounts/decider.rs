//! The rules of an account.

use std::collections::BTreeSet;

use events::Personal;
use events::account::{CATEGORY, Event, PasswordProof, Profile, ProfileChange, Settings};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Decider;

/// What the rules need to know of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// How far its life has come.
    pub status: Status,
    /// The vault's name for the password's hash.
    pub credential_id: Option<Uuid>,
    /// The address it has, as the log holds it: ciphertext.
    pub email: Option<Personal<String>>,
    /// The address that was asked for last and is not proven.
    pub requested_email: Option<Personal<String>>,
    /// Log-ins need a code.
    pub second_factor: bool,
    /// What it was granted.
    pub roles: BTreeSet<String>,
    settings: Settings,
}

impl Account {
    /// What operators see of it: what is personal as the log holds it.
    pub(super) fn as_json(&self) -> Value {
        json!({
            "status": format!("{:?}", self.status).to_lowercase(),
            "credential_id": self.credential_id,
            "email": self.email.as_ref().and_then(Personal::sealed),
            "requested_email": self.requested_email.as_ref().and_then(Personal::sealed),
            "second_factor": self.second_factor,
            "roles": self.roles,
            "settings": self.settings,
        })
    }
}

/// How far an account's life has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// Nobody registered it.
    #[default]
    Unknown,
    /// Registered; the address is not verified.
    Pending,
    /// The address is verified.
    Verified,
    /// Closed by its owner or an operator.
    Closed,
    /// The person is forgotten.
    Erased,
}

impl Status {
    /// Its owner may log in.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Verified)
    }
}

/// What may be asked of an account.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begins it.
    Register {
        /// The address.
        email: Personal<String>,
        /// Where the vault keeps the password's hash.
        credential_id: Uuid,
        /// What the person says of themselves.
        profile: Profile,
    },
    /// Begins one that needs no proof: an operator's, made where the system runs.
    Appoint {
        /// The address.
        email: Personal<String>,
        /// Where the vault keeps the password's hash.
        credential_id: Uuid,
        /// What the person says of themselves.
        profile: Profile,
        /// What it may do.
        role: String,
    },
    /// The registered address was proven.
    VerifyEmail,
    /// Asks for another address.
    RequestEmailChange {
        /// The other address.
        email: Personal<String>,
    },
    /// A requested address was proven.
    ChangeEmail {
        /// The one that was: another may have been asked for since.
        email: Personal<String>,
    },
    /// A link for a new password is to be sent.
    RequestPasswordReset,
    /// Another password counts from now on.
    ChangePassword {
        /// Where the vault keeps its hash.
        credential_id: Uuid,
        /// What stood for the person.
        proof: PasswordProof,
    },
    /// Log-ins need a code.
    EnableSecondFactor,
    /// Log-ins need no code.
    DisableSecondFactor,
    /// There are new recovery codes.
    ReplaceRecoveryCodes,
    /// A recovery code was used.
    UseRecoveryCode {
        /// How many are left.
        left: u32,
    },
    /// Log-ins failed too often.
    Throttle,
    /// Lets it do more.
    GrantRole {
        /// The role's name.
        role: String,
    },
    /// Lets it do less.
    RevokeRole {
        /// The role's name.
        role: String,
    },
    /// Changes the profile.
    UpdateProfile(ProfileChange),
    /// Changes settings.
    ChangeSettings(Settings),
    /// Everything known was given out.
    Export,
    /// Closes it for good.
    Close,
    /// Forgets the person.
    Erase,
}

/// Why an account says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such account.
    #[error("there is no such account")]
    Unknown,
    /// It was registered before.
    #[error("the account is registered already")]
    AlreadyRegistered,
    /// Its address is not verified.
    #[error("the account's e-mail address is not verified yet")]
    NotVerified,
    /// No other address was asked for.
    #[error("no change of the e-mail address was asked for")]
    NoEmailChange,
    /// There is a second factor already.
    #[error("the account has a second factor already")]
    SecondFactorEnabled,
    /// There is no second factor.
    #[error("the account has no second factor")]
    NoSecondFactor,
    /// It is closed.
    #[error("the account is closed")]
    Closed,
    /// The person is forgotten.
    #[error("the account was erased")]
    Erased,
}

impl Decider for Account {
    const CATEGORY: &'static str = CATEGORY;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match (self.status, command) {
            (Status::Unknown, _) => Self::begin(command),
            (_, Command::Register { .. } | Command::Appoint { .. }) => {
                Err(Refusal::AlreadyRegistered)
            }
            (Status::Erased, Command::Erase) | (Status::Closed, Command::Close) => Ok(vec![]),
            (Status::Erased, _) => Err(Refusal::Erased),
            (_, Command::Erase) => Ok(vec![Event::AccountErased {}]),
            (_, Command::Export) => Ok(vec![Event::DataExported {}]),
            (Status::Closed, _) => Err(Refusal::Closed),
            (_, Command::Close) => Ok(vec![Event::AccountClosed {}]),
            (Status::Pending | Status::Verified, _) => self.change(command),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::AccountRegistered {
                credential_id,
                email,
                ..
            } => {
                self.status = Status::Pending;
                self.credential_id = Some(*credential_id);
                self.email = Some(email.clone());
            }
            Event::EmailVerified {} => self.status = Status::Verified,
            Event::EmailChangeRequested { email } => self.requested_email = Some(email.clone()),
            Event::EmailChanged { email } => {
                self.email = Some(email.clone());
                self.requested_email.take_if(|asked| asked == email);
            }
            Event::PasswordChanged { credential_id, .. } => {
                self.credential_id = Some(*credential_id);
            }
            Event::SecondFactorEnabled {} => self.second_factor = true,
            Event::SecondFactorDisabled {} => self.second_factor = false,
            Event::RoleGranted { role } => _ = self.roles.insert(role.clone()),
            Event::RoleRevoked { role } => _ = self.roles.remove(role),
            Event::SettingsChanged { change } => {
                let Settings {
                    locale,
                    time_zone,
                    theme,
                    custom: _,
                } = change.clone();
                self.settings.locale = locale.or(self.settings.locale);
                self.settings.time_zone = time_zone.or(self.settings.time_zone);
                self.settings.theme = theme.or(self.settings.theme);
            }
            Event::AccountClosed {} => self.status = Status::Closed,
            Event::AccountErased {} => {
                self = Self {
                    status: Status::Erased,
                    ..Self::default()
                }
            }
            Event::ProfileUpdated { .. }
            | Event::PasswordResetRequested {}
            | Event::RecoveryCodesReplaced {}
            | Event::RecoveryCodeUsed { .. }
            | Event::LogInThrottled {}
            | Event::DataExported {} => {}
        }
        self
    }
}

impl Account {
    fn begin(command: &Command) -> Result<Vec<Event>, Refusal> {
        let registered = |email: &Personal<String>, credential_id: Uuid, profile: &Profile| {
            Event::AccountRegistered {
                email: email.clone(),
                credential_id,
                profile: profile.clone(),
            }
        };
        match command {
            Command::Register {
                email,
                credential_id,
                profile,
            } => Ok(vec![registered(email, *credential_id, profile)]),
            Command::Appoint {
                email,
                credential_id,
                profile,
                role,
            } => Ok(vec![
                registered(email, *credential_id, profile),
                Event::EmailVerified {},
                Event::RoleGranted { role: role.clone() },
            ]),
            _ => Err(Refusal::Unknown),
        }
    }

    /// What an open account does.
    fn change(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let verified = self.status == Status::Verified;
        match command {
            Command::VerifyEmail if verified => Ok(vec![]),
            Command::VerifyEmail => Ok(vec![Event::EmailVerified {}]),
            Command::RequestEmailChange { .. } | Command::GrantRole { .. } if !verified => {
                Err(Refusal::NotVerified)
            }
            Command::RequestEmailChange { email } => Ok(vec![Event::EmailChangeRequested {
                email: email.clone(),
            }]),
            Command::ChangeEmail { email } if self.email.as_ref() == Some(email) => Ok(vec![]),
            Command::ChangeEmail { .. } if self.requested_email.is_none() => {
                Err(Refusal::NoEmailChange)
            }
            Command::ChangeEmail { email } => Ok(vec![Event::EmailChanged {
                email: email.clone(),
            }]),
            Command::RequestPasswordReset => Ok(vec![Event::PasswordResetRequested {}]),
            Command::ChangePassword {
                credential_id,
                proof,
            } if self.credential_id != Some(*credential_id) => Ok(vec![Event::PasswordChanged {
                credential_id: *credential_id,
                proof: *proof,
            }]),
            Command::EnableSecondFactor if self.second_factor => Err(Refusal::SecondFactorEnabled),
            Command::EnableSecondFactor => Ok(vec![Event::SecondFactorEnabled {}]),
            Command::DisableSecondFactor
            | Command::ReplaceRecoveryCodes
            | Command::UseRecoveryCode { .. }
                if !self.second_factor =>
            {
                Err(Refusal::NoSecondFactor)
            }
            Command::DisableSecondFactor => Ok(vec![Event::SecondFactorDisabled {}]),
            Command::ReplaceRecoveryCodes => Ok(vec![Event::RecoveryCodesReplaced {}]),
            Command::UseRecoveryCode { left } => Ok(vec![Event::RecoveryCodeUsed { left: *left }]),
            Command::Throttle => Ok(vec![Event::LogInThrottled {}]),
            Command::GrantRole { role } if !self.roles.contains(role) => {
                Ok(vec![Event::RoleGranted { role: role.clone() }])
            }
            Command::RevokeRole { role } if self.roles.contains(role) => {
                Ok(vec![Event::RoleRevoked { role: role.clone() }])
            }
            Command::UpdateProfile(change) => Ok(vec![Event::ProfileUpdated {
                change: change.clone(),
            }]),
            Command::ChangeSettings(change) => {
                let change = self.what_is_new(change);
                Ok(if change == Settings::default() {
                    vec![]
                } else {
                    vec![Event::SettingsChanged { change }]
                })
            }
            // Granted, revoked or changed before: there is nothing to do.
            _ => Ok(vec![]),
        }
    }

    /// Leaves out what is set already. Custom settings are ciphertext in history, so they always count as new.
    fn what_is_new(&self, change: &Settings) -> Settings {
        fn news<T: PartialEq>(wanted: Option<T>, known: Option<&T>) -> Option<T> {
            wanted.filter(|value| Some(value) != known)
        }
        Settings {
            locale: news(change.locale.clone(), self.settings.locale.as_ref()),
            time_zone: news(change.time_zone.clone(), self.settings.time_zone.as_ref()),
            theme: news(change.theme, self.settings.theme.as_ref()),
            custom: change.custom.clone(),
        }
    }
}

#[cfg(test)]
#[path = "decider_tests.rs"]
mod tests;
