//! The rules of an account.

use events::Personal;
use events::account::{CATEGORY, Event, Profile, ProfileChange, Settings};
use uuid::Uuid;

use crate::Decider;

/// What the rules need to know of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// How far its life has come.
    pub status: Status,
    /// The vault's name for the password's hash.
    pub credential_id: Option<Uuid>,
    settings: Settings,
}

/// How far an account's life has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// Nobody registered it.
    #[default]
    Unknown,
    /// Registered; the address is not verified.
    Pending,
    /// Closed by its owner or an operator.
    Closed,
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
    /// Changes the profile.
    UpdateProfile(ProfileChange),
    /// Changes settings.
    ChangeSettings(Settings),
    /// Closes it for good.
    Close,
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
    /// It is closed.
    #[error("the account is closed")]
    Closed,
}

impl Decider for Account {
    const CATEGORY: &'static str = CATEGORY;
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match (self.status, command) {
            (
                Status::Unknown,
                Command::Register {
                    email,
                    credential_id,
                    profile,
                },
            ) => Ok(vec![Event::AccountRegistered {
                email: email.clone(),
                credential_id: *credential_id,
                profile: profile.clone(),
            }]),
            (Status::Unknown, _) => Err(Refusal::Unknown),
            (_, Command::Register { .. }) => Err(Refusal::AlreadyRegistered),
            (Status::Closed, Command::Close) => Ok(vec![]),
            (Status::Closed, _) => Err(Refusal::Closed),
            (Status::Pending, Command::UpdateProfile(change)) => Ok(vec![Event::ProfileUpdated {
                change: change.clone(),
            }]),
            (Status::Pending, Command::ChangeSettings(change)) => {
                let change = self.what_is_new(change);
                Ok(if change == Settings::default() {
                    vec![]
                } else {
                    vec![Event::SettingsChanged { change }]
                })
            }
            (Status::Pending, Command::Close) => Ok(vec![Event::AccountClosed {}]),
        }
    }

    fn evolve(mut self, event: &Event) -> Self {
        match event {
            Event::AccountRegistered { credential_id, .. } => {
                self.status = Status::Pending;
                self.credential_id = Some(*credential_id);
            }
            Event::ProfileUpdated { .. } => {}
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
        }
        self
    }
}

impl Account {
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
mod tests {
    use events::account::Theme;

    use super::*;
    use crate::given;

    fn registered() -> Event {
        Event::AccountRegistered {
            email: Personal::Plain("ada@example.org".into()),
            credential_id: Uuid::from_u128(1),
            profile: Profile {
                display_name: Some(Personal::Plain("Ada".into())),
                ..Profile::default()
            },
        }
    }

    fn register() -> Command {
        let Event::AccountRegistered {
            email,
            credential_id,
            profile,
        } = registered()
        else {
            unreachable!()
        };
        Command::Register {
            email,
            credential_id,
            profile,
        }
    }

    fn theme(theme: Theme) -> Settings {
        Settings {
            theme: Some(theme),
            ..Settings::default()
        }
    }

    #[test]
    fn registering_begins_an_account() {
        given::<Account>([]).when(register()).then([registered()]);
    }

    #[test]
    fn an_account_is_registered_once() {
        given::<Account>([registered()])
            .when(register())
            .then_refused(Refusal::AlreadyRegistered);
    }

    #[test]
    fn nothing_can_be_asked_of_an_account_that_is_not_there() {
        given::<Account>([])
            .when(Command::Close)
            .then_refused(Refusal::Unknown);
        given::<Account>([])
            .when(Command::ChangeSettings(theme(Theme::Dark)))
            .then_refused(Refusal::Unknown);
    }

    #[test]
    fn a_profile_can_be_updated_until_the_account_is_closed() {
        let change = ProfileChange {
            phone: Some(None),
            ..ProfileChange::default()
        };
        let update = Command::UpdateProfile(change.clone());
        given::<Account>([registered()])
            .when(update.clone())
            .then([Event::ProfileUpdated { change }]);
        given::<Account>([registered(), Event::AccountClosed {}])
            .when(update)
            .then_refused(Refusal::Closed);
    }

    #[test]
    fn settings_that_are_set_already_are_no_news() {
        let dark = Event::SettingsChanged {
            change: theme(Theme::Dark),
        };
        given::<Account>([registered(), dark.clone()])
            .when(Command::ChangeSettings(theme(Theme::Dark)))
            .then([]);
        given::<Account>([registered(), dark])
            .when(Command::ChangeSettings(Settings {
                locale: Some("de".into()),
                ..theme(Theme::Dark)
            }))
            .then([Event::SettingsChanged {
                change: Settings {
                    locale: Some("de".into()),
                    ..Settings::default()
                },
            }]);
    }

    #[test]
    fn closing_twice_is_closing_once() {
        given::<Account>([registered()])
            .when(Command::Close)
            .then([Event::AccountClosed {}]);
        given::<Account>([registered(), Event::AccountClosed {}])
            .when(Command::Close)
            .then([]);
    }
}
