//! Who sees what: the one place where access to rows and to personal values is judged. Denied until allowed.

use events::Ciphertext;
use read_models::{Access, ReadModel, Value};
use uuid::Uuid;
use web::{Caller, Problem};

/// Opens everybody's personal values. A wildcard does not hold it: reading all rows is not reading all people.
const READ_PERSONAL: &str = "read:personal";

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
        Access::Authenticated => Ok(Reach::Every),
        Access::Owner { column } => Ok(Reach::Own {
            column,
            account: caller.account,
        }),
        Access::Scope => Err(Problem::forbidden(format!(
            "Reading {} needs the scope {scope}.",
            model.name
        ))),
    }
}

impl Reach<'_> {
    /// The condition that a list carries into the database.
    pub(crate) fn condition(&self) -> Vec<(String, Value)> {
        match self {
            Self::Every => Vec::new(),
            Self::Own { column, account } => vec![((*column).to_owned(), Value::Uuid(*account))],
        }
    }

    /// Whether a row, whose columns are named in order, is within reach.
    pub(crate) fn includes<'a>(
        &self,
        columns: impl Iterator<Item = &'a str>,
        row: &[Value],
    ) -> bool {
        match self {
            Self::Every => true,
            Self::Own { column, account } => columns
                .zip(row)
                .any(|(name, value)| name == *column && *value == Value::Uuid(*account)),
        }
    }
}

/// Whether the caller may see what a ciphertext hides: its own person (a data key's id is the account's), or anybody with
/// the scope. Forging the key id gains nothing: the ciphertext would not open.
pub(crate) fn may_open(ciphertext: &Ciphertext, caller: &Caller) -> bool {
    ciphertext.key_id() == Some(caller.account) || caller.has_exact_scope(READ_PERSONAL)
}

#[cfg(test)]
mod tests {
    use web::Credential;

    use super::*;

    fn caller(scopes: &[&str]) -> Caller {
        Caller {
            account: Uuid::from_u128(1),
            credential: Credential::ApiKey {
                id: Uuid::from_u128(2),
            },
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        }
    }

    fn model(name: &str, access: Access) -> ReadModel {
        ReadModel::new(name).readable_by(access)
    }

    #[test]
    fn rows_are_denied_until_the_definition_or_a_scope_allows_them() {
        let own = Reach::Own {
            column: "account_id",
            account: Uuid::from_u128(1),
        };
        let owned = model(
            "notes",
            Access::Owner {
                column: "account_id".into(),
            },
        );
        assert_eq!(reach(&owned, &caller(&[])).unwrap(), own);
        assert_eq!(
            reach(&owned, &caller(&["read:other", "read:personal"])).unwrap(),
            own
        );
        assert_eq!(
            reach(&owned, &caller(&["read:notes"])).unwrap(),
            Reach::Every
        );
        assert_eq!(
            reach(&model("notes", Access::Authenticated), &caller(&[])).unwrap(),
            Reach::Every
        );
        let scoped = model("notes", Access::Scope);
        assert_eq!(
            reach(&scoped, &caller(&["read:note"]))
                .unwrap_err()
                .status()
                .as_u16(),
            403
        );
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
        let sealed = |person: u128| {
            Ciphertext::from_parts(
                &Ciphertext::context(
                    Uuid::from_u128(person),
                    "eA",
                    events::EventId(Uuid::nil()),
                    "f",
                ),
                "eA",
            )
        };
        assert!(may_open(&sealed(1), &caller(&[])));
        assert!(!may_open(&sealed(3), &caller(&[])));
        assert!(!may_open(&sealed(3), &caller(&["read:*", "*"])));
        assert!(may_open(&sealed(3), &caller(&["read:personal"])));
    }
}
