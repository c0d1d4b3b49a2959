//! Faults of the vault. What a rule refuses (a reused token, a common password) has types of its own.

use uuid::Uuid;

/// A fault of the vault. Its text never holds a secret or a personal value.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The vault can't be reached or timed out: trying again may help.
    #[error("the vault is unavailable: {0}")]
    Unavailable(String),
    /// More passwords wait to be hashed than the waiting line holds: try again later.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    /// The settings, the keys file or what is stored is wrong: trying again will not help. Says what to do.
    #[error("{0}")]
    Invalid(String),
}

/// Why there is no data key for a person.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// The person was erased: their data is gone for ever, and that is as it should be.
    #[error("the person's data was erased")]
    Erased,
    /// There is no key and no erasure: a fault, for example a vault restored from too old a backup.
    #[error("the person's data key is missing from the vault, though nobody erased it")]
    Missing,
    /// The vault broke.
    #[error(transparent)]
    Fault(#[from] Error),
}

impl KeyError {
    /// As a fault, where an erasure was dealt with already.
    pub(crate) fn into_fault(self, person: Uuid) -> Error {
        match self {
            Self::Fault(fault) => fault,
            Self::Erased | Self::Missing => Error::Invalid(format!("{person}: {self}")),
        }
    }
}

/// SQLSTATE classes and codes after which trying again may help: connection, resources, rollback, operator.
const PASSING_SQLSTATES: [&str; 5] = ["08", "53", "40", "57", "55P03"];
/// SQLite's primary result codes of the same kind: busy, locked, I/O, full, cannot open.
const PASSING_SQLITE: [i32; 5] = [5, 6, 10, 13, 14];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let passing = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                if code.len() == 5
                    && database
                        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                        .is_some()
                {
                    PASSING_SQLSTATES
                        .iter()
                        .any(|class| code.starts_with(class))
                } else {
                    code.parse::<i32>()
                        .is_ok_and(|code| PASSING_SQLITE.contains(&(code & 0xff)))
                }
            }),
            _ => false,
        };
        if passing {
            Self::Unavailable(error.to_string())
        } else {
            Self::Invalid(format!("the vault: {error}"))
        }
    }
}
