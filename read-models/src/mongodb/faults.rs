//! What an error of MongoDB means: try again, change the settings, or blame the rows. Texts of errors name no row's content.

use mongodb::bson::Document;
use mongodb::error::{ErrorKind, TRANSIENT_TRANSACTION_ERROR};

use super::codec::number;
use crate::{CommitError, Error, checks};

/// The same key again.
const DUPLICATE_KEY: i64 = 11_000;
/// A validator that an operator added; a document, or an index's key, that is too long.
const REFUSED: [i64; 3] = [121, 10_334, 17_280];
/// Not allowed, not logged in, no such user.
const INVALID: [i32; 3] = [11, 13, 18];

impl From<mongodb::error::Error> for Error {
    fn from(error: mongodb::error::Error) -> Self {
        let text = format!("the mirror answers: {}", error.kind);
        match *error.kind {
            ErrorKind::Authentication { .. } | ErrorKind::InvalidArgument { .. } => {
                Self::Invalid(text)
            }
            ErrorKind::Command(command) if INVALID.contains(&command.code) => Self::Invalid(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// Why a transaction ended.
#[derive(Debug)]
pub(super) enum Ended<E> {
    /// It got into another one's way: begin again.
    Conflict(E),
    /// It is as it is.
    For(E),
}

impl<E> From<E> for Ended<E> {
    fn from(error: E) -> Self {
        Self::For(error)
    }
}

impl<E> Ended<E> {
    pub(super) fn into_inner(self) -> E {
        match self {
            Self::Conflict(error) | Self::For(error) => error,
        }
    }
}

/// Sorts out an error of the driver.
pub(super) fn ended<E: From<Error>>(error: mongodb::error::Error) -> Ended<E> {
    let conflict = error.contains_label(TRANSIENT_TRANSACTION_ERROR)
        && matches!(*error.kind, ErrorKind::Command(_));
    let error = E::from(Error::from(error));
    if conflict {
        Ended::Conflict(error)
    } else {
        Ended::For(error)
    }
}

/// What a write command says of single documents: a duplicate key is a row that stands for another partition, since rows are
/// sought by both.
pub(super) fn check_writes(answer: &Document) -> Result<(), CommitError> {
    let Some(first) = answer
        .get_array("writeErrors")
        .ok()
        .and_then(|errors| errors.first()?.as_document())
    else {
        return Ok(());
    };
    let code = number(first, "code").unwrap_or_default();
    if code == DUPLICATE_KEY {
        return Err(checks::foreign_rows());
    }
    let text = format!("MongoDB's error {code}");
    if REFUSED.contains(&code) {
        Err(CommitError::Refused(text))
    } else {
        Err(Error::Unavailable(text).into())
    }
}
