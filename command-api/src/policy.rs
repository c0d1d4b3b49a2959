//! Who may do what: the one table of commands and scopes, and the roles that give scopes. What is not in it is refused.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use web::{Caller, Credential};

use crate::CommandError;

/// What a program with an API key needs in order to do what its owner may do.
pub const SELF_WRITE: &str = "self:write";
/// What a program with an API key needs in order to see what its owner may see.
pub const SELF_READ: &str = "self:read";

/// Who may give a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Everybody, without a token.
    Anyone,
    /// The account itself.
    Owner,
    /// The account itself, and whoever holds the scope.
    OwnerOr(&'static str),
    /// Whoever holds the scope.
    Holder(&'static str),
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The path after `/v1`, `{id}` where an id stands.
    pub path: &'static str,
    /// Who may.
    pub allowed: Allowed,
    /// The caller must have logged in within the last ten minutes.
    pub fresh: bool,
}

const fn rule(path: &'static str, allowed: Allowed, fresh: bool) -> Rule {
    Rule {
        path,
        allowed,
        fresh,
    }
}

/// Every command of the built-in domain (POST), and who may give it.
pub const RULES: &[Rule] = {
    use Allowed::{Anyone, Holder, Owner, OwnerOr};
    &[
        rule("/accounts", Anyone, false),
        rule("/accounts/verify-email", Anyone, false),
        rule("/accounts/confirm-email", Anyone, false),
        rule("/accounts/forgot-password", Anyone, false),
        rule("/accounts/reset-password", Anyone, false),
        rule("/sessions", Anyone, false),
        rule("/sessions/refresh", Anyone, false),
        rule(
            "/accounts/{id}/update-profile",
            OwnerOr("accounts:write"),
            false,
        ),
        rule(
            "/accounts/{id}/change-settings",
            OwnerOr("accounts:write"),
            false,
        ),
        rule("/accounts/{id}/close", OwnerOr("accounts:write"), false),
        rule("/accounts/{id}/verify-email", Owner, false),
        rule("/accounts/{id}/resend-verification", Owner, false),
        rule("/accounts/{id}/change-email", Owner, true),
        rule("/accounts/{id}/confirm-email", Owner, false),
        rule("/accounts/{id}/change-password", Owner, true),
        rule("/accounts/{id}/enroll-totp", Owner, true),
        rule("/accounts/{id}/confirm-totp", Owner, true),
        rule("/accounts/{id}/remove-totp", Owner, true),
        rule("/accounts/{id}/replace-recovery-codes", Owner, true),
        rule(
            "/accounts/{id}/end-sessions",
            OwnerOr("sessions:end"),
            false,
        ),
        rule("/accounts/{id}/grant-role", Holder("roles:write"), true),
        rule("/accounts/{id}/revoke-role", Holder("roles:write"), true),
        rule("/accounts/{id}/export", OwnerOr("accounts:export"), true),
        rule("/accounts/{id}/erase", OwnerOr("accounts:erase"), true),
        rule("/sessions/{id}/end", OwnerOr("sessions:end"), false),
        rule("/api-keys", Owner, true),
        rule("/api-keys/{id}/revoke", OwnerOr("api-keys:revoke"), false),
    ]
};

/// A role: a name for scopes, granted to accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// The scopes it gives, to sessions that took a second factor.
    pub scopes: Vec<String>,
}

impl Role {
    /// A role of an application.
    pub fn new(name: &str, scopes: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        }
    }
}

/// The role of the first account that may do everything.
pub const OPERATOR: &str = "operator";

/// The roles that are built in.
pub fn roles() -> Vec<Role> {
    vec![
        Role::new(
            OPERATOR,
            &[
                "accounts:write",
                "accounts:export",
                "accounts:erase",
                "sessions:end",
                "roles:write",
                "api-keys:revoke",
                "log:read",
                "log:write",
                "log:append",
                "operator",
                "read:*",
                "read:personal",
            ],
        ),
        Role::new(
            "support",
            &[
                "sessions:end",
                "read:accounts",
                "read:account-history",
                "read:sessions",
            ],
        ),
    ]
}

/// The rule for a path of the table.
fn find(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

/// Lets a caller pass, or says why not. `owner` is the account that the command acts on, where it is known.
pub(crate) fn check(
    path: &str,
    caller: &Caller,
    owner: Option<Uuid>,
    now: DateTime<Utc>,
) -> Result<(), CommandError> {
    let rule = find(path)
        .ok_or_else(|| CommandError::fault(format!("{path} has no rule in the policy")))?;
    let owns = owner == Some(caller.account) && acts_as_owner(caller);
    let allowed = match rule.allowed {
        Allowed::Anyone => true,
        Allowed::Owner => owns,
        Allowed::OwnerOr(scope) => owns || caller.has_scope(scope),
        Allowed::Holder(scope) => caller.has_scope(scope),
    };
    if !allowed {
        Err(CommandError::Forbidden)
    } else if rule.fresh && !caller.fresh(now) {
        Err(CommandError::NotFresh)
    } else {
        Ok(())
    }
}

/// A person who logged in acts as themselves; a program only where its key says so.
pub(crate) fn acts_as_owner(caller: &Caller) -> bool {
    match caller.credential {
        Credential::Session { .. } => true,
        Credential::ApiKey { .. } => caller.has_scope(SELF_WRITE),
    }
}
