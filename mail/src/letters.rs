//! The texts of the mails: one function each, and [`Content`], which can be stored as JSON until a mail is sent.
//!
//! Refuses: HTML, and anything that a stranger typed (names, messages), so that nobody can send their own words to
//! somebody else through us.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::Letter;

/// What a mail says, without its recipient. Stored as JSON: the names are storage format. `Debug` shows the kind alone:
/// codes and links are secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    /// Asks a newly registered person to verify the address.
    VerifyEmail {
        /// The code to type.
        code: String,
        /// The link that does the same: [`verify_email_link`].
        link: String,
        /// How long both work.
        minutes: u32,
    },
    /// Tells the holder of an account that somebody registered with the same address.
    AlreadyRegistered {},
    /// To the new address: asks to confirm it.
    ChangeEmailConfirm {
        /// The code to type.
        code: String,
        /// The link that does the same: [`confirm_email_link`].
        link: String,
        /// How long both work.
        minutes: u32,
    },
    /// To the old address: a change was asked for.
    ChangeEmailNotice {},
    /// To the old address: the change is done.
    EmailChanged {},
    /// Lets the person choose a new password.
    ResetPassword {
        /// The link: [`reset_password_link`].
        link: String,
        /// How long it works.
        minutes: u32,
    },
    /// The password was changed.
    PasswordChanged {},
    /// The second factor was turned on or off.
    SecondFactorChanged {
        /// Whether it is on now.
        on: bool,
    },
    /// Log-ins are slowed down after many wrong passwords.
    LogInThrottled {},
    /// The account and its data are gone.
    AccountErased {
        /// The number of the erasure, for questions about it.
        receipt: String,
    },
}

impl Content {
    /// The mail to `to`, in the name of the application `app_name`.
    pub fn letter(&self, to: &str, app_name: &str) -> Letter {
        let (subject, text) = match self {
            Self::VerifyEmail {
                code,
                link,
                minutes,
            } => verify_email(app_name, code, link, *minutes),
            Self::AlreadyRegistered {} => already_registered(app_name),
            Self::ChangeEmailConfirm {
                code,
                link,
                minutes,
            } => change_email_confirm(app_name, code, link, *minutes),
            Self::ChangeEmailNotice {} => change_email_notice(app_name),
            Self::EmailChanged {} => email_changed(app_name),
            Self::ResetPassword { link, minutes } => reset_password(app_name, link, *minutes),
            Self::PasswordChanged {} => password_changed(app_name),
            Self::SecondFactorChanged { on } => second_factor_changed(app_name, *on),
            Self::LogInThrottled {} => log_in_throttled(app_name),
            Self::AccountErased { receipt } => account_erased(app_name, receipt),
        };
        Letter {
            to: to.to_owned(),
            subject,
            text,
        }
    }

    /// The name of the kind, as in the JSON form. Says nothing personal.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify_email",
            Self::AlreadyRegistered {} => "already_registered",
            Self::ChangeEmailConfirm { .. } => "change_email_confirm",
            Self::ChangeEmailNotice {} => "change_email_notice",
            Self::EmailChanged {} => "email_changed",
            Self::ResetPassword { .. } => "reset_password",
            Self::PasswordChanged {} => "password_changed",
            Self::SecondFactorChanged { .. } => "second_factor_changed",
            Self::LogInThrottled {} => "log_in_throttled",
            Self::AccountErased { .. } => "account_erased",
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// `{app_url}/verify-email?token=…`
pub fn verify_email_link(app_url: &str, token: &str) -> String {
    link(app_url, "verify-email", token)
}

/// `{app_url}/confirm-email?token=…`
pub fn confirm_email_link(app_url: &str, token: &str) -> String {
    link(app_url, "confirm-email", token)
}

/// `{app_url}/reset-password?token=…`
pub fn reset_password_link(app_url: &str, token: &str) -> String {
    link(app_url, "reset-password", token)
}

fn link(app_url: &str, page: &str, token: &str) -> String {
    let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    format!("{}/{page}?token={token}", app_url.trim_end_matches('/'))
}

/// A subject and a text.
type Text = (String, String);

fn verify_email(app: &str, code: &str, link: &str, minutes: u32) -> Text {
    (
        format!("Confirm your address for {app}"),
        format!(
            "Welcome to {app}.

To confirm that this address is yours, type this code:

    {code}

or open this link:

{link}

Both work once, for {minutes} minutes.

If you did not register, do nothing: without the code the account is
deleted after some days.
"
        ),
    )
}

fn already_registered(app: &str) -> Text {
    (
        format!("You already have an account at {app}"),
        format!(
            "Somebody, perhaps you, registered at {app} with this address.

You already have an account here, so log in with it. If you do not know
the password any more, ask for a new one on the log-in page.

If this was not you, there is nothing to do: your account is unchanged.
"
        ),
    )
}

fn change_email_confirm(app: &str, code: &str, link: &str, minutes: u32) -> Text {
    (
        format!("Confirm your address for {app}"),
        format!(
            "Somebody asked to use this address for an account at {app}.

If this was you, type this code:

    {code}

or open this link:

{link}

Both work once, for {minutes} minutes.

If this was not you, do nothing: the address is then not used.
"
        ),
    )
}

fn change_email_notice(app: &str) -> Text {
    (
        format!("Your address at {app} is about to change"),
        format!(
            "Somebody asked to use another mail address for your account at {app}.
It changes when the new address is confirmed.

If this was you, there is nothing to do here.

If this was not you, somebody else may know your password: log in now
and change it.
"
        ),
    )
}

fn email_changed(app: &str) -> Text {
    (
        format!("Your address at {app} has changed"),
        format!(
            "Your account at {app} now uses another mail address. This is the last
mail to this one.

If this was not you, tell the people who run {app} at once.
"
        ),
    )
}

fn reset_password(app: &str, link: &str, minutes: u32) -> Text {
    (
        format!("Choose a new password for {app}"),
        format!(
            "To choose a new password for your account at {app}, open this link:

{link}

It works once, for {minutes} minutes.

If you did not ask for it, do nothing: your password stays as it is.
"
        ),
    )
}

fn password_changed(app: &str) -> Text {
    (
        format!("Your password at {app} has changed"),
        format!(
            "The password of your account at {app} was changed.

If this was not you, ask for a new password on the log-in page now.
"
        ),
    )
}

fn second_factor_changed(app: &str, on: bool) -> Text {
    let state = if on { "on" } else { "off" };
    (
        format!("The second factor at {app} is {state}"),
        format!(
            "The second factor of your account at {app} was turned {state}.

If this was not you, somebody else may know your password: log in now
and change it.
"
        ),
    )
}

fn log_in_throttled(app: &str) -> Text {
    (
        format!("Many wrong passwords at {app}"),
        format!(
            "Somebody tried several wrong passwords for your account at {app}. Nobody
got in by it. For a while, log-ins are slowed down.

If this was you, wait a few minutes, or ask for a new password on the
log-in page. If it was not, make sure that your password is a long one
that you use nowhere else.
"
        ),
    )
}

fn account_erased(app: &str, receipt: &str) -> Text {
    (
        format!("Your account at {app} is erased"),
        format!(
            "Your account at {app} and the personal data in it were erased. This can
not be undone.

If you have questions about it, name this receipt:

    {receipt}

This is our last mail.
"
        ),
    )
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::letter::Sender;

    fn each() -> Vec<(Content, serde_json::Value)> {
        let (code, link) = ("482913", "https://app.example/verify-email?token=t0ken");
        let with_code = |kind| json!({"kind": kind, "code": code, "link": link, "minutes": 10});
        let bare = |kind| json!({"kind": kind});
        vec![
            (
                Content::VerifyEmail {
                    code: code.into(),
                    link: link.into(),
                    minutes: 10,
                },
                with_code("verify_email"),
            ),
            (Content::AlreadyRegistered {}, bare("already_registered")),
            (
                Content::ChangeEmailConfirm {
                    code: code.into(),
                    link: link.into(),
                    minutes: 10,
                },
                with_code("change_email_confirm"),
            ),
            (Content::ChangeEmailNotice {}, bare("change_email_notice")),
            (Content::EmailChanged {}, bare("email_changed")),
            (
                Content::ResetPassword {
                    link: link.into(),
                    minutes: 30,
                },
                json!({"kind": "reset_password", "link": link, "minutes": 30}),
            ),
            (Content::PasswordChanged {}, bare("password_changed")),
            (
                Content::SecondFactorChanged { on: true },
                json!({"kind": "second_factor_changed", "on": true}),
            ),
            (Content::LogInThrottled {}, bare("log_in_throttled")),
            (
                Content::AccountErased {
                    receipt: "r-1".into(),
                },
                json!({"kind": "account_erased", "receipt": "r-1"}),
            ),
        ]
    }

    #[test]
    fn the_stored_form_of_every_content_stays_as_it_is() {
        for (content, form) in each() {
            assert_eq!(serde_json::to_value(&content).unwrap(), form);
            assert_eq!(
                serde_json::from_value::<Content>(form.clone()).unwrap(),
                content
            );
            assert_eq!(form["kind"], content.kind());
        }
    }

    #[test]
    fn every_mail_says_what_it_was_given_in_short_plain_lines() {
        for (content, form) in each() {
            let letter = content.letter("ada@example.org", "Stage");
            let whole = format!("{}\n{}", letter.subject, letter.text);
            assert!(letter.subject.contains("Stage"), "{whole}");
            // Servers log subjects, and locked telephones show them.
            assert!(!letter.subject.contains("482913"), "{whole}");
            assert!(letter.text.contains("Stage"), "{whole}");
            for given in ["code", "link", "minutes", "receipt"] {
                let given = match &form[given] {
                    serde_json::Value::Null => continue,
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                assert!(letter.text.contains(&given), "{given} in {whole}");
            }
            assert!(letter.text.lines().all(|line| line.len() <= 76), "{whole}");
            assert!(
                letter.text.is_ascii() && letter.text.ends_with('\n'),
                "{whole}"
            );
            assert!(letter.text.lines().count() <= 20, "{whole}");

            let sender = Sender::parse("no-reply@example.org").unwrap();
            let mail = letter
                .compose(&sender, Uuid::nil(), DateTime::UNIX_EPOCH)
                .unwrap();
            let mail = String::from_utf8(mail.bytes).unwrap();
            let lines = letter.text.replace('\n', "\r\n");
            assert!(mail.contains(&lines), "not as it was written: {mail}");
        }
    }

    #[test]
    fn the_second_factor_mail_says_whether_it_is_on() {
        let text = |on| {
            Content::SecondFactorChanged { on }
                .letter("ada@example.org", "Stage")
                .text
        };
        assert!(text(true).contains("turned on") && text(false).contains("turned off"));
    }

    #[test]
    fn debug_shows_neither_code_nor_link() {
        for (content, _) in each() {
            assert_eq!(format!("{content:?}"), content.kind());
        }
    }

    #[test]
    fn links_are_built_from_the_base_and_their_tokens_are_escaped() {
        for base in ["https://app.example/x", "https://app.example/x/"] {
            assert_eq!(
                verify_email_link(base, "a-b_c"),
                "https://app.example/x/verify-email?token=a-b_c"
            );
            assert_eq!(
                confirm_email_link(base, "a&b=c"),
                "https://app.example/x/confirm-email?token=a%26b%3Dc"
            );
            assert_eq!(
                reset_password_link(base, "a b"),
                "https://app.example/x/reset-password?token=a+b"
            );
        }
    }
}
