//! What the description of the API says of the commands around accounts: one row each, beside its rule in `policy.rs`.

use serde_json::{Value, json};
use web::openapi::{Answer, Method, Operation, Refusal, Security, after};

use super::people::People;
use super::{Account, bodies, shown};
use crate::describe::{
    KEYED, MATCHED, any_of, id, idempotency_key, if_match, outcome, refusals, who_may,
};
use crate::form::Form;
use crate::policy::{Allowed, RULES, Rule};
use crate::{Aggregate, codes};

type Body = fn(&mut Form, &People);

/// What a command answers.
enum Shows {
    /// What every command does.
    Outcome,
    /// That, and these fields besides, once.
    With(fn() -> Value),
    /// That of a stream that begins.
    Begun,
    /// That of a stream that begins, and these fields besides, once.
    BegunWith(fn() -> Value),
    /// Something of its own.
    Own(fn() -> Answer),
}

/// What a row of the policy does not say.
struct Row {
    path: &'static str,
    /// Its name where the path's last part is not.
    name: Option<&'static str>,
    summary: &'static str,
    /// What parses the body; two, where it depends on who sends it.
    bodies: &'static [Body],
    shows: Shows,
    /// What it may answer besides what all commands may.
    problems: &'static [Refusal],
}

const NOTHING: &[Body] = &[|form, _| _ = bodies::nothing(form)];
const CODE: &[Body] = &[|form, _| _ = bodies::code(form)];
const LINK: &[Body] = &[|form, _| _ = bodies::link(form)];
const ROLE: &[Body] = &[|form, people| _ = bodies::role(form, &people.role_names())];

const CLOSED: Refusal = (409, "account_closed");
const NOT_VERIFIED: Refusal = (409, "email_not_verified");
const NO_EMAIL_CHANGE: Refusal = (409, "no_email_change");
const HAS_SECOND_FACTOR: Refusal = (409, "second_factor_enabled");
const NO_SECOND_FACTOR: Refusal = (409, "no_second_factor");
const CHALLENGE: Refusal = (409, codes::CHALLENGE_REFUSED);
const TAKEN: Refusal = (409, codes::EMAIL_TAKEN);
const TOO_MANY: Refusal = (409, codes::TOO_MANY);
const ERASED: Refusal = (410, codes::ERASED);
const WRONG: Refusal = (401, codes::INVALID_CREDENTIALS);

const ROWS: &[Row] = &[
    Row {
        path: "/accounts",
        name: Some("register"),
        summary: "Register",
        bodies: &[|form, _| _ = bodies::registration(form)],
        shows: Shows::Begun,
        problems: &[WRONG, ERASED],
    },
    row(
        "/accounts/verify-email",
        "Prove the address of a new account, by a mailed link",
        LINK,
        &[CLOSED, ERASED, CHALLENGE, TAKEN],
    )
    .named("verify-email-by-link"),
    row(
        "/accounts/confirm-email",
        "Prove another address, by a mailed link",
        LINK,
        &[CLOSED, ERASED, CHALLENGE, TAKEN, NO_EMAIL_CHANGE],
    )
    .named("confirm-email-by-link"),
    Row {
        path: "/accounts/forgot-password",
        name: None,
        summary: "Ask for a link to a new password",
        bodies: &[|form, _| _ = bodies::email(form)],
        shows: Shows::Own(shown::accepted),
        problems: &[],
    },
    row(
        "/accounts/reset-password",
        "Set a new password, by a mailed link",
        &[|form, _| _ = bodies::reset_password(form)],
        &[WRONG, CLOSED, ERASED, CHALLENGE, TAKEN],
    ),
    Row {
        path: "/sessions",
        name: Some("log-in"),
        summary: "Log in",
        bodies: &[|form, _| _ = bodies::log_in(form)],
        shows: Shows::Own(shown::logged_in),
        problems: &[
            WRONG,
            (401, codes::SECOND_FACTOR_REQUIRED),
            CLOSED,
            ERASED,
            (429, codes::TOO_MANY_LOG_INS),
        ],
    },
    Row {
        path: "/sessions/refresh",
        name: None,
        summary: "Get a new access token, and the next refresh token",
        bodies: &[|form, _| _ = bodies::refresh_token(form)],
        shows: Shows::Own(shown::refreshed),
        problems: &[(401, codes::INVALID_REFRESH_TOKEN), ERASED],
    },
    row(
        "/accounts/{id}/update-profile",
        "Change the profile",
        &[|form, _| _ = Account::parse("update-profile", form)],
        &[CLOSED, ERASED],
    ),
    row(
        "/accounts/{id}/change-settings",
        "Change settings",
        &[|form, _| _ = Account::parse("change-settings", form)],
        &[CLOSED, ERASED],
    ),
    row(
        "/accounts/{id}/close",
        "Close the account for good",
        NOTHING,
        &[ERASED],
    ),
    row(
        "/accounts/{id}/verify-email",
        "Prove the address of a new account, by a mailed code",
        CODE,
        &[CLOSED, ERASED, CHALLENGE, TAKEN],
    ),
    row(
        "/accounts/{id}/resend-verification",
        "Get a new code and link mailed",
        NOTHING,
        &[CLOSED, ERASED, TOO_MANY],
    ),
    row(
        "/accounts/{id}/change-email",
        "Ask for another address",
        &[|form, _| _ = bodies::change_email(form)],
        &[WRONG, CLOSED, ERASED, NOT_VERIFIED],
    ),
    row(
        "/accounts/{id}/confirm-email",
        "Prove another address, by a mailed code",
        CODE,
        &[CLOSED, ERASED, CHALLENGE, TAKEN, NO_EMAIL_CHANGE],
    ),
    row(
        "/accounts/{id}/change-password",
        "Change the password",
        &[|form, _| _ = bodies::change_password(form)],
        &[WRONG, CLOSED, ERASED],
    ),
    Row {
        path: "/accounts/{id}/enroll-totp",
        name: None,
        summary: "Set up a device that shows codes",
        bodies: &[|form, _| _ = bodies::password(form)],
        shows: Shows::With(shown::enrolled),
        problems: &[WRONG, CLOSED, ERASED, HAS_SECOND_FACTOR],
    },
    Row {
        path: "/accounts/{id}/confirm-totp",
        name: None,
        summary: "Switch the second factor on, by a first code",
        bodies: CODE,
        shows: Shows::With(shown::recovery_codes),
        problems: &[CLOSED, ERASED, HAS_SECOND_FACTOR, CHALLENGE],
    },
    row(
        "/accounts/{id}/remove-totp",
        "Switch the second factor off",
        CODE,
        &[WRONG, CLOSED, ERASED, NO_SECOND_FACTOR, CHALLENGE],
    ),
    Row {
        path: "/accounts/{id}/replace-recovery-codes",
        name: None,
        summary: "Get new recovery codes",
        bodies: CODE,
        shows: Shows::With(shown::recovery_codes),
        problems: &[WRONG, CLOSED, ERASED, NO_SECOND_FACTOR, CHALLENGE],
    },
    row(
        "/accounts/{id}/end-sessions",
        "End all other sessions",
        NOTHING,
        &[CLOSED, ERASED],
    ),
    row(
        "/accounts/{id}/grant-role",
        "Let the account do more",
        ROLE,
        &[CLOSED, ERASED, NOT_VERIFIED],
    ),
    row(
        "/accounts/{id}/revoke-role",
        "Let the account do less",
        ROLE,
        &[CLOSED, ERASED],
    ),
    Row {
        path: "/accounts/{id}/export",
        name: None,
        summary: "Get everything that is known of the person",
        bodies: NOTHING,
        shows: Shows::With(shown::exported),
        problems: &[CLOSED, ERASED],
    },
    Row {
        path: "/accounts/{id}/erase",
        name: None,
        summary: "Forget the person. Of one's own account with the password, of another's without",
        bodies: &[
            |form, _| _ = bodies::erase(form, true),
            |form, _| _ = bodies::erase(form, false),
        ],
        shows: Shows::With(shown::receipt),
        problems: &[WRONG, ERASED],
    },
    row("/sessions/{id}/end", "End a session", NOTHING, &[ERASED]),
    Row {
        path: "/api-keys",
        name: Some("create"),
        summary: "Create an API key",
        bodies: &[|form, _| _ = bodies::api_key(form, |scope| Ok(scope.to_owned()))],
        shows: Shows::BegunWith(shown::api_key),
        problems: &[CLOSED, ERASED, TOO_MANY],
    },
    row(
        "/api-keys/{id}/revoke",
        "Revoke an API key",
        NOTHING,
        &[ERASED],
    ),
];

const fn row(
    path: &'static str,
    summary: &'static str,
    bodies: &'static [Body],
    problems: &'static [Refusal],
) -> Row {
    Row {
        path,
        name: None,
        summary,
        bodies,
        shows: Shows::Outcome,
        problems,
    }
}

impl Row {
    const fn named(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }
}

/// Every command around accounts, in the order of the policy.
pub(crate) fn operations(people: &People) -> Vec<Operation> {
    let told = |rule: &Rule| {
        let row = ROWS.iter().find(|row| row.path == rule.path)?;
        Some(operation(rule, row, people))
    };
    RULES.iter().filter_map(told).collect()
}

fn operation(rule: &Rule, row: &Row, people: &People) -> Operation {
    let mut parts = rule.path.split('/').skip(1);
    let collection = parts.next().unwrap_or_default();
    let name = row.name.or(parts.last()).unwrap_or_default();
    let mut problems = refusals(rule);
    problems.extend(row.problems);
    if matches!(rule.allowed, Allowed::OwnerOr(_) | Allowed::Holder(_))
        && collection == Account::COLLECTION
    {
        problems.push((409, "account_unknown"));
    }
    let mut parameters = Vec::new();
    if rule.path.contains("{id}") {
        parameters.push(match collection {
            "accounts" => id(account_ids(), "The account; `me` is one's own."),
            _ => id(json!({ "type": "string", "format": "uuid" }), "Which one."),
        });
    }
    // A log-in and a refresh begin nothing that must not happen twice.
    if !matches!(row.path, "/sessions" | "/sessions/refresh") {
        parameters.push(idempotency_key());
        problems.extend(KEYED);
    }
    if rule.path.starts_with("/accounts/{id}") {
        parameters.push(if_match());
        problems.push(MATCHED);
    }
    parameters.push(after());
    let bodies = row.bodies.iter();
    let schemas = bodies.map(|body| Form::describe(|form| body(form, people)));
    Operation {
        method: Method::Post,
        path: format!("/v1{}", rule.path),
        tag: collection.to_owned(),
        id: format!("{collection}.{name}"),
        summary: row.summary.to_owned(),
        description: who_may(rule),
        security: match rule.allowed {
            Allowed::Anyone => Security::Open,
            _ if rule.fresh => Security::Session,
            _ => Security::SessionOrKey,
        },
        parameters,
        body: Some(any_of(schemas.collect())),
        answers: vec![match row.shows {
            Shows::Outcome => outcome(200, None),
            Shows::With(shown) => outcome(200, Some(shown())),
            Shows::Begun => outcome(201, None),
            Shows::BegunWith(shown) => outcome(201, Some(shown())),
            Shows::Own(answer) => answer(),
        }],
        problems,
    }
}

fn account_ids() -> Value {
    json!({ "anyOf": [{ "const": "me" }, { "type": "string", "format": "uuid" }], "examples": ["me"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_policy_has_its_row_and_every_row_its_rule() {
        let rows: Vec<&str> = ROWS.iter().map(|row| row.path).collect();
        let rules: Vec<&str> = RULES.iter().map(|rule| rule.path).collect();
        assert_eq!(rows, rules);
    }
}
