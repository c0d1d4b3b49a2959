//! The rules of an account, in the words of the domain.

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

fn verified() -> [Event; 2] {
    [registered(), Event::EmailVerified {}]
}

fn and(history: impl IntoIterator<Item = Event>, event: Event) -> Vec<Event> {
    history.into_iter().chain([event]).collect()
}

fn address(text: &str) -> Personal<String> {
    Personal::Plain(text.into())
}

fn grant(role: &str) -> Command {
    Command::GrantRole { role: role.into() }
}

fn granted(role: &str) -> Event {
    Event::RoleGranted { role: role.into() }
}

#[test]
fn an_address_is_verified_once() {
    given::<Account>([registered()])
        .when(Command::VerifyEmail)
        .then([Event::EmailVerified {}]);
    given::<Account>(verified())
        .when(Command::VerifyEmail)
        .then([]);
    given::<Account>([registered(), Event::AccountClosed {}])
        .when(Command::VerifyEmail)
        .then_refused(Refusal::Closed);
}

#[test]
fn an_address_changes_to_the_one_that_was_proven_whatever_was_asked_for_since() {
    let ask = |text: &str| Command::RequestEmailChange {
        email: address(text),
    };
    let asked = |text: &str| Event::EmailChangeRequested {
        email: address(text),
    };
    given::<Account>([registered()])
        .when(ask("new@example.org"))
        .then_refused(Refusal::NotVerified);
    given::<Account>(verified())
        .when(ask("new@example.org"))
        .then([asked("new@example.org")]);
    let proven = |text: &str| Command::ChangeEmail {
        email: address(text),
    };
    given::<Account>(verified())
        .when(proven("new@example.org"))
        .then_refused(Refusal::NoEmailChange);
    let twice = and(
        and(verified(), asked("one@example.org")),
        asked("two@example.org"),
    );
    let changed = |text: &str| Event::EmailChanged {
        email: address(text),
    };
    given::<Account>(twice.clone())
        .when(proven("two@example.org"))
        .then([changed("two@example.org")]);
    let done = and(twice.clone(), changed("two@example.org"));
    given::<Account>(done.clone())
        .when(proven("two@example.org"))
        .then([]);
    given::<Account>(done)
        .when(proven("one@example.org"))
        .then_refused(Refusal::NoEmailChange);
    // Proven before the other was asked for: that one may still be proven.
    let first = and(twice, changed("one@example.org"));
    given::<Account>(first)
        .when(proven("two@example.org"))
        .then([changed("two@example.org")]);
}

#[test]
fn a_password_is_changed_to_one_that_is_not_in_force() {
    let change = |id: u128| Command::ChangePassword {
        credential_id: Uuid::from_u128(id),
        proof: PasswordProof::EmailLink,
    };
    given::<Account>([registered()])
        .when(change(2))
        .then([Event::PasswordChanged {
            credential_id: Uuid::from_u128(2),
            proof: PasswordProof::EmailLink,
        }]);
    given::<Account>([registered()]).when(change(1)).then([]);
}

#[test]
fn a_second_factor_is_enabled_once_and_what_belongs_to_it_needs_it() {
    given::<Account>(verified())
        .when(Command::EnableSecondFactor)
        .then([Event::SecondFactorEnabled {}]);
    let enabled = and(verified(), Event::SecondFactorEnabled {});
    given::<Account>(enabled.clone())
        .when(Command::EnableSecondFactor)
        .then_refused(Refusal::SecondFactorEnabled);
    given::<Account>(enabled.clone())
        .when(Command::DisableSecondFactor)
        .then([Event::SecondFactorDisabled {}]);
    for command in [
        Command::DisableSecondFactor,
        Command::ReplaceRecoveryCodes,
        Command::UseRecoveryCode { left: 3 },
    ] {
        given::<Account>(verified())
            .when(command)
            .then_refused(Refusal::NoSecondFactor);
    }
}

#[test]
fn a_role_is_granted_to_a_verified_account_and_granting_or_revoking_twice_is_once() {
    given::<Account>([registered()])
        .when(grant("operator"))
        .then_refused(Refusal::NotVerified);
    given::<Account>(verified())
        .when(grant("operator"))
        .then([granted("operator")]);
    let holder = and(verified(), granted("operator"));
    given::<Account>(holder.clone())
        .when(grant("operator"))
        .then([]);
    let revoke = || Command::RevokeRole {
        role: "operator".into(),
    };
    given::<Account>(holder)
        .when(revoke())
        .then([Event::RoleRevoked {
            role: "operator".into(),
        }]);
    given::<Account>(verified()).when(revoke()).then([]);
}

#[test]
fn an_operator_made_where_the_system_runs_is_verified_and_has_the_role() {
    let Command::Register {
        email,
        credential_id,
        profile,
    } = register()
    else {
        unreachable!()
    };
    given::<Account>([])
        .when(Command::Appoint {
            email,
            credential_id,
            profile,
            role: "operator".into(),
        })
        .then([registered(), Event::EmailVerified {}, granted("operator")]);
}

#[test]
fn a_closed_account_can_be_exported_and_erased_and_nothing_else() {
    let closed = || and(verified(), Event::AccountClosed {});
    given::<Account>(closed())
        .when(Command::Export)
        .then([Event::DataExported {}]);
    given::<Account>(closed())
        .when(Command::Erase)
        .then([Event::AccountErased {}]);
    given::<Account>(closed())
        .when(grant("operator"))
        .then_refused(Refusal::Closed);
}

#[test]
fn an_erased_account_remembers_nothing_and_takes_no_commands() {
    let erased = || {
        and(
            and(verified(), granted("operator")),
            Event::AccountErased {},
        )
    };
    given::<Account>(erased()).when(Command::Erase).then([]);
    for command in [Command::Close, Command::Export, Command::VerifyEmail] {
        given::<Account>(erased())
            .when(command)
            .then_refused(Refusal::Erased);
    }
    let state = erased().iter().fold(Account::default(), Account::evolve);
    assert_eq!(
        state,
        Account {
            status: Status::Erased,
            ..Account::default()
        }
    );
}
