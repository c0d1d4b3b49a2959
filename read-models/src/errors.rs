//! What a database error means: try again, change the settings, or blame the rows. Texts of errors name no parameter, so
//! no row's content gets into them.

use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

use crate::{CommitError, Error};

enum Meaning {
    Unavailable,
    Invalid,
    Refused,
}

fn meaning(error: &sqlx::Error) -> Meaning {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            if database.try_downcast_ref::<PgDatabaseError>().is_some() {
                postgres_meaning(&code)
            } else if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
                mysql_meaning(mysql.number(), &code)
            } else {
                sqlite_meaning(code.parse().unwrap_or_default())
            }
        }
        sqlx::Error::Configuration(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. } => Meaning::Invalid,
        _ => Meaning::Unavailable,
    }
}

/// SQLSTATE, PostgreSQL's appendix A.
fn postgres_meaning(code: &str) -> Meaning {
    match code {
        // Data exceptions, broken constraints, and an index entry that is too long are in the rows.
        "54000" => Meaning::Refused,
        _ if code.starts_with("22") || code.starts_with("23") => Meaning::Refused,
        // Not logged in, no such database, not allowed, no such table, a read-only transaction.
        "3D000" | "25006" | "2BP01" => Meaning::Invalid,
        _ if code.starts_with("28") || code.starts_with("42") => Meaning::Invalid,
        _ => Meaning::Unavailable,
    }
}

/// The error's number, of MySQL and MariaDB alike, then its SQLSTATE.
fn mysql_meaning(number: u16, code: &str) -> Meaning {
    match number {
        // Text that the character set has not, a row too big for its table.
        1366 | 1118 => Meaning::Refused,
        // Too many connections of one user.
        1203 | 1226 => Meaning::Unavailable,
        _ if code.starts_with("22") || code.starts_with("23") => Meaning::Refused,
        // Not logged in; then: not allowed, no such database or table, wrong SQL; 1792: a read-only transaction.
        1792 => Meaning::Invalid,
        _ if code.starts_with("28") || code.starts_with("42") => Meaning::Invalid,
        _ => Meaning::Unavailable,
    }
}

/// SQLite's result codes; the low byte is the primary one.
fn sqlite_meaning(code: i32) -> Meaning {
    match code & 0xff {
        // TOOBIG, CONSTRAINT, MISMATCH
        18..=20 => Meaning::Refused,
        // ERROR, PERM, READONLY, CORRUPT, NOTADB
        1 | 3 | 8 | 11 | 26 => Meaning::Invalid,
        // BUSY, LOCKED, IOERR, FULL, CANTOPEN and the rest
        _ => Meaning::Unavailable,
    }
}

/// The table does not exist, or the whole database file does not: nothing is built yet.
pub(crate) fn is_absent(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else {
        return false;
    };
    if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() {
        return matches!(postgres.code(), "42P01" | "3F000");
    }
    if let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() {
        return mysql.number() == 1146;
    }
    let code: i32 = database
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    database.try_downcast_ref::<SqliteError>().is_some()
        && (code & 0xff == 14 || (code == 1 && database.message().starts_with("no such table")))
}

/// A table lacks a column: the format is older than this version, and no writer has migrated it yet.
pub(crate) fn is_older(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else {
        return false;
    };
    match database.try_downcast_ref::<PgDatabaseError>() {
        Some(postgres) => postgres.code() == "42703",
        None => database.message().starts_with("no such column"),
    }
}

/// The database gave up on a statement that took too long: PostgreSQL's `query_canceled`, SQLite's INTERRUPT.
pub(crate) fn is_too_slow(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else {
        return false;
    };
    let code = database.code().unwrap_or_default();
    if database.try_downcast_ref::<PgDatabaseError>().is_some() {
        code == "57014"
    } else {
        code == "9"
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match meaning(&error) {
            Meaning::Unavailable => Self::Unavailable(text),
            Meaning::Invalid | Meaning::Refused => {
                Self::Invalid(format!("the read model database answers: {text}"))
            }
        }
    }
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        match meaning(&error) {
            Meaning::Refused => Self::Refused(error.to_string()),
            Meaning::Unavailable | Meaning::Invalid => Self::Fault(error.into()),
        }
    }
}
