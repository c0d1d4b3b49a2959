//! The bodies of the commands around accounts: what each command parses, and by that what the description of the API says
//! of it. Each function is used by the one command it belongs to, and by its row in `describe.rs`.

#![allow(
    clippy::unnecessary_wraps,
    clippy::option_option,
    reason = "a form takes whatever a body comes to, which is nothing where a part is missing"
)]

use events::account::Profile;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use vault::{LONGEST_PASSWORD, PasswordProblem, SHORTEST_PASSWORD, password_policy};

use super::parse;
use crate::form::{Form, Problem};
use crate::policy::SELF_READ;
use crate::{Rule, rules};

/// How many days a key may last.
const API_KEY_DAYS: std::ops::RangeInclusive<i64> = 1..=366;
/// A code of a device, of a mail, or for when the device is lost.
const CODE: Rule = rules::ANY.example("123456");

/// No fields.
pub fn nothing(_: &mut Form) -> Option<()> {
    Some(())
}

/// A code that stands for the person, alone.
pub fn code(form: &mut Form) -> Option<SecretString> {
    form.secret("code", || CODE.schema())
}

/// The token of a mailed link, alone.
pub fn link(form: &mut Form) -> Option<SecretString> {
    form.password("token")
}

/// The account's password, alone.
pub fn password(form: &mut Form) -> Option<SecretString> {
    form.password("password")
}

/// An address, alone.
pub fn email(form: &mut Form) -> Option<String> {
    Some(form.text("email", rules::EMAIL))
}

/// Who registers.
pub struct Registration {
    pub email: String,
    pub password: SecretString,
    pub profile: Profile,
}

/// The body of a registration.
pub fn registration(form: &mut Form) -> Option<Registration> {
    let email = form.text("email", rules::EMAIL);
    let password = new_password(form, "password");
    let profile = form.object("profile", parse::profile);
    Some(Registration {
        email,
        password: password?,
        profile: profile?,
    })
}

/// Who logs in.
pub struct LogIn {
    pub email: String,
    pub password: SecretString,
    pub code: Option<SecretString>,
}

/// The body of a log-in.
pub fn log_in(form: &mut Form) -> Option<LogIn> {
    let email = form.text("email", rules::EMAIL);
    let password = form.password("password");
    let code = form.optional_text("code", CODE).map(SecretString::from);
    Some(LogIn {
        email,
        password: password?,
        code,
    })
}

/// The token that a log-in or the last refresh gave.
pub fn refresh_token(form: &mut Form) -> Option<SecretString> {
    form.password("refresh_token")
}

/// Another address, and the password.
pub fn change_email(form: &mut Form) -> Option<(String, SecretString)> {
    let email = form.text("email", rules::EMAIL);
    form.password("password").map(|password| (email, password))
}

/// The password before, and the new one.
pub fn change_password(form: &mut Form) -> Option<(SecretString, SecretString)> {
    let password = form.password("password");
    password.zip(new_password(form, "new_password"))
}

/// The token of a mailed link, and the new password.
pub fn reset_password(form: &mut Form) -> Option<(SecretString, SecretString)> {
    let token = form.password("token");
    token.zip(new_password(form, "new_password"))
}

/// A role, of these.
pub fn role(form: &mut Form, known: &[&str]) -> Option<String> {
    Some(form.choice("role", "unknown_role", known))
}

/// The password where it is the owner's account; an operator does not have it.
pub fn erase(form: &mut Form, by_owner: bool) -> Option<Option<SecretString>> {
    if by_owner {
        form.password("password").map(Some)
    } else {
        Some(None)
    }
}

/// What a new API key is to be.
pub struct NewApiKey {
    pub name: String,
    pub days: i64,
    pub scopes: Vec<String>,
}

/// The body for a new API key; `accept` judges each of its scopes.
pub fn api_key(
    form: &mut Form,
    accept: impl Fn(&str) -> Result<String, Problem>,
) -> Option<NewApiKey> {
    let name = form.text("name", rules::NAME);
    let days = form.integer("expires_in_days", API_KEY_DAYS);
    let mut scopes = form.texts("scopes", SELF_READ, accept);
    scopes.sort_unstable();
    scopes.dedup();
    Some(NewApiKey { name, days, scopes })
}

/// A new password that the policy allows.
fn new_password(form: &mut Form, name: &'static str) -> Option<SecretString> {
    let password = form.secret(name, new_password_schema)?;
    if let Err(problem) = password_policy(password.expose_secret()) {
        let code = match problem {
            PasswordProblem::TooShort => "too_short",
            PasswordProblem::TooLong => "too_long",
            PasswordProblem::Common => "common_password",
        };
        form.refuse(name, code, problem.to_string());
    }
    Some(password)
}

fn new_password_schema() -> Value {
    json!({
        "type": "string",
        "format": "password",
        "minLength": SHORTEST_PASSWORD,
        "description": format!(
            "{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, any Unicode (counted in NFC), and none of the most common ones."
        ),
        "examples": ["a quiet lighthouse"],
    })
}
