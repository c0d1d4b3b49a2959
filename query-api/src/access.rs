//! Who sees what: the one place where access to rows and to personal values is judged. Denied until allowed.

use events::Ciphertext;
use read_models::{Access, Comparison, Field, Filter, ReadModel, Value};
use uuid::Uuid;
use web::{Caller, Credential, Problem};

/// Lets an API key see what its owner sees by being who they are. Whoever logged in needs no scope for that.
const SELF_READ: &str = "self:read";
/// Lists the sessions of every account.
pub(crate) const READ_SESSIONS: &str = "read:sessions";
/// Opens everybody's personal values. A wildcard does not hold it: reading all rows is not reading all people.
const READ_PERSONAL: &str = "read:personal";

/// What operators look at.
pub(crate) const OPERATOR: &str = "operator";

/// Who may use a route; everybody else gets 401, 403, or the answer to what does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Whom the read model's definition lets in, each to their rows, and holders of `read:{read-model}`, to all.
    AsDefined,
    /// The account itself.
    Owner,
    /// The account itself, and whoever holds the scope.
    OwnerOr(&'static str),
    /// Whoever holds the scope.
    Holder(&'static str),
}

/// The rows of a read model that a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach<'m> {
    /// All.
    Every,
    /// Those whose column has this account's id.
    Own {
        /// The column's name.
        column: &'m str,
        /// The account.
        account: Uuid,
    },
}

/// What the caller may see of a read model; 403 for one who may see nothing.
pub(crate) fn reach<'m>(model: &'m ReadModel, caller: &Caller) -> Result<Reach<'m>, Problem> {
    let scope = format!("read:{}", model.name);
    // A read model could be named `personal`: the scope of that name opens values, not rows.
    let all = if scope == READ_PERSONAL {
        caller.has_exact_scope("read:*")
    } else {
        caller.has_scope(&scope)
    };
    match &model.access {
        _ if all => Ok(Reach::Every),
        Access::Authenticated => own_account(caller).map(|_| Reach::Every),
        Access::Owner { column } => {
            own_account(caller).map(|account| Reach::Own { column, account })
        }
        Access::Scope => Err(Problem::forbidden(format!(
            "Reading {} needs the scope {scope}.",
            model.name
        ))),
    }
}

/// The columns of a read model that exist for the caller.
pub(crate) fn fields(model: &ReadModel, caller: &Caller) -> Vec<Field> {
    let held = |scope: &String| holds(caller, scope);
    model
        .fields()
        .filter(|field| field.column().scope.as_ref().is_none_or(held))
        .collect()
}

/// Whether a scope that the definition names is held. One opens values of everybody, and no wildcard holds that.
fn holds(caller: &Caller, scope: &str) -> bool {
    if scope == READ_PERSONAL {
        caller.has_exact_scope(scope)
    } else {
        caller.has_scope(scope)
    }
}

impl Reach<'_> {
    /// The condition that every query carries into the database.
    pub(crate) fn condition(&self, model: &ReadModel) -> Filter {
        match self {
            Self::Every => Filter::ALL,
            Self::Own { column, account } => model.field(column).map_or(Filter::NONE, |field| {
                Filter::Compare(field, Comparison::Eq, Value::Uuid(*account))
            }),
        }
    }
}

/// The account that the caller is, for what it may see by being that account; 403 for an API key that does not hold the
/// scope for it.
pub(crate) fn own_account(caller: &Caller) -> Result<Uuid, Problem> {
    if acts_as_owner(caller) {
        Ok(caller.account)
    } else {
        Err(Problem::forbidden(format!(
            "An API key needs the scope {SELF_READ} to read what is its owner's."
        )))
    }
}

/// Whether the caller may list an account's sessions. Another's account and none are the same answer, as with rows.
pub(crate) fn sessions_of(account: Uuid, caller: &Caller) -> Result<(), Problem> {
    if caller.has_scope(READ_SESSIONS) {
        Ok(())
    } else if account == caller.account {
        own_account(caller).map(drop)
    } else {
        Err(Problem::not_found(
            "There is no account with this id whose sessions you may see.",
        ))
    }
}

/// Lets an operator pass.
pub(crate) fn operator(caller: &Caller) -> Result<(), Problem> {
    if caller.has_scope(OPERATOR) {
        Ok(())
    } else {
        Err(Problem::forbidden(format!(
            "This needs the scope {OPERATOR}."
        )))
    }
}

/// Whether the caller may see what a person gave of themselves: the person, or anybody with the scope.
pub(crate) fn may_see(person: Uuid, caller: &Caller) -> bool {
    (person == caller.account && acts_as_owner(caller)) || caller.has_exact_scope(READ_PERSONAL)
}

/// The same of what a ciphertext hides (a data key's id is its person's). Forging the key id gains nothing: the
/// ciphertext would not open.
pub(crate) fn may_open(ciphertext: &Ciphertext, caller: &Caller) -> bool {
    match ciphertext.key_id() {
        Some(person) => may_see(person, caller),
        None => caller.has_exact_scope(READ_PERSONAL),
    }
}

fn acts_as_owner(caller: &Caller) -> bool {
    match caller.credential {
        Credential::Session { .. } => true,
        Credential::ApiKey { .. } => caller.has_scope(SELF_READ),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    const OWNER: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(3);

    fn calling(credential: Credential, scopes: &[&str]) -> Caller {
        Caller {
            account: OWNER,
            credential,
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        }
    }

    /// Somebody who logged in.
    fn caller(scopes: &[&str]) -> Caller {
        let credential = Credential::Session {
            id: Uuid::from_u128(2),
            authenticated_at: DateTime::UNIX_EPOCH,
            second_factor: false,
        };
        calling(credential, scopes)
    }

    /// A program of theirs.
    fn program(scopes: &[&str]) -> Caller {
        let id = Uuid::from_u128(2);
        calling(Credential::ApiKey { id }, scopes)
    }

    fn owned() -> ReadModel {
        let column = "account_id".into();
        model("notes", Access::Owner { column })
    }

    fn own() -> Reach<'static> {
        Reach::Own {
            column: "account_id",
            account: OWNER,
        }
    }

    fn sealed(person: Uuid) -> Ciphertext {
        let nobodys = events::EventId(Uuid::nil());
        Ciphertext::from_parts(&Ciphertext::context(person, "eA", nobodys, "f"), "eA")
    }

    /// The status of a refusal.
    fn refused<T: std::fmt::Debug>(outcome: Result<T, Problem>) -> u16 {
        outcome.unwrap_err().status().as_u16()
    }

    fn model(name: &str, access: Access) -> ReadModel {
        ReadModel::new(name).readable_by(access)
    }

    #[test]
    fn rows_are_denied_until_the_definition_or_a_scope_allows_them() {
        assert_eq!(reach(&owned(), &caller(&[])).unwrap(), own());
        assert_eq!(
            reach(&owned(), &caller(&["read:other", "read:personal"])).unwrap(),
            own()
        );
        assert_eq!(
            reach(&owned(), &caller(&["read:notes"])).unwrap(),
            Reach::Every
        );
        assert_eq!(
            reach(&model("notes", Access::Authenticated), &caller(&[])).unwrap(),
            Reach::Every
        );
        let scoped = model("notes", Access::Scope);
        assert_eq!(refused(reach(&scoped, &caller(&["read:note"]))), 403);
        assert_eq!(reach(&scoped, &caller(&["read:*"])).unwrap(), Reach::Every);
    }

    #[test]
    fn the_scope_for_personal_values_opens_no_rows() {
        let scoped = model("personal", Access::Scope);
        assert!(reach(&scoped, &caller(&["read:personal"])).is_err());
        assert!(reach(&scoped, &caller(&["read:*"])).is_ok());
    }

    #[test]
    fn personal_values_are_for_their_person_and_for_one_exact_scope() {
        assert!(may_open(&sealed(OWNER), &caller(&[])));
        assert!(!may_open(&sealed(OTHER), &caller(&[])));
        assert!(!may_open(&sealed(OTHER), &caller(&["read:*", "*"])));
        assert!(may_open(&sealed(OTHER), &caller(&["read:personal"])));
    }

    #[test]
    fn an_api_key_owns_nothing_without_the_scope_that_says_so() {
        let open = model("prices", Access::Authenticated);
        for scopes in [&[][..], &["self:write", "read:other", "read:personal"]] {
            let key = program(scopes);
            assert_eq!(refused(reach(&owned(), &key)), 403);
            assert_eq!(refused(reach(&open, &key)), 403);
            assert_eq!(refused(own_account(&key)), 403);
        }
        let key = program(&["self:read"]);
        assert_eq!(reach(&owned(), &key).unwrap(), own());
        assert_eq!(reach(&open, &key).unwrap(), Reach::Every);
        assert_eq!(own_account(&key).unwrap(), OWNER);
        assert!(reach(&model("takings", Access::Scope), &key).is_err());
    }

    #[test]
    fn the_other_scopes_of_an_api_key_are_worth_what_a_log_ins_are() {
        let key = program(&["read:notes", "read:prices"]);
        assert_eq!(reach(&owned(), &key).unwrap(), Reach::Every);
        let open = model("prices", Access::Authenticated);
        assert_eq!(reach(&open, &key).unwrap(), Reach::Every);
        assert!(own_account(&key).is_err(), "it reads all, and is nobody");
        assert!(!may_open(&sealed(OWNER), &key));
        assert!(may_open(&sealed(OWNER), &program(&["self:read"])));
        assert!(!may_open(&sealed(OTHER), &program(&["self:read"])));
        assert!(may_open(&sealed(OTHER), &program(&["read:personal"])));
    }

    #[test]
    fn sessions_are_for_their_account_and_for_one_scope() {
        assert!(sessions_of(OWNER, &caller(&[])).is_ok());
        assert_eq!(
            refused(sessions_of(OTHER, &caller(&["read:personal"]))),
            404
        );
        assert!(sessions_of(OTHER, &caller(&["read:sessions"])).is_ok());
        assert_eq!(refused(sessions_of(OWNER, &program(&[]))), 403);
        assert_eq!(refused(sessions_of(OTHER, &program(&["self:read"]))), 404);
        assert!(sessions_of(OWNER, &program(&["self:read"])).is_ok());
        assert!(sessions_of(OTHER, &program(&["read:sessions"])).is_ok());
    }
}
