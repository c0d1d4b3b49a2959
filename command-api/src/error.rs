//! Why a command has no success to report, and the one place where that becomes an HTTP answer.

use std::fmt::Display;

use axum::http::StatusCode;
use events::Version;
use vault::KeyError;
use web::{FieldError, Problem};

/// The codes of this crate's problems; documented in docs/errors.md.
pub mod codes {
    /// 401: e-mail address or password is wrong.
    pub const INVALID_CREDENTIALS: &str = "invalid_credentials";
    /// 401: the refresh token is unknown, expired, ended or was used before.
    pub const INVALID_REFRESH_TOKEN: &str = "invalid_refresh_token";
    /// 410: the person behind it was erased.
    pub const ERASED: &str = "erased";
    /// 401: the password is right, and the account wants a code of its second factor with it.
    pub const SECOND_FACTOR_REQUIRED: &str = "second_factor_required";
    /// 403: log in again, then give the command within ten minutes.
    pub const FRESH_LOG_IN_REQUIRED: &str = "fresh_log_in_required";
    /// 409: the code or link is wrong, has expired or was used.
    pub const CHALLENGE_REFUSED: &str = "challenge_refused";
    /// 409: another account has proven the address.
    pub const EMAIL_TAKEN: &str = "email_taken";
    /// 409: there are as many of these as there may be.
    pub const TOO_MANY: &str = "too_many";
    /// 429: more log-ins from one network address than are let through in a minute.
    pub const TOO_MANY_LOG_INS: &str = "too_many_log_ins";
    /// Every code above.
    pub const ALL: &[&str] = &[
        INVALID_CREDENTIALS,
        INVALID_REFRESH_TOKEN,
        ERASED,
        SECOND_FACTOR_REQUIRED,
        FRESH_LOG_IN_REQUIRED,
        CHALLENGE_REFUSED,
        EMAIL_TAKEN,
        TOO_MANY,
        TOO_MANY_LOG_INS,
    ];
}

/// Why a command has no success to report.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The body is wrong.
    #[error("the command is invalid")]
    Invalid(Vec<FieldError>),
    /// The domain says no.
    #[error("{detail}")]
    Refused {
        /// The stable code.
        code: &'static str,
        /// The sentence.
        detail: String,
    },
    /// The caller may not.
    #[error("not allowed")]
    Forbidden,
    /// There is no such command or collection.
    #[error("{0}")]
    NotFound(String),
    /// The stream is not at the version of If-Match.
    #[error("the stream is at version {actual}, not {seen}")]
    Stale {
        /// The version the client has seen.
        seen: Version,
        /// The version it has.
        actual: Version,
    },
    /// The same command is on its way already.
    #[error("this command is being carried out")]
    InFlight,
    /// Too many other writers.
    #[error("the stream is written by others all the time")]
    Conflict,
    /// The Idempotency-Key belongs to another command.
    #[error("the Idempotency-Key was used for another command")]
    KeyReused,
    /// Wrong address or password.
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// A refresh token that is no good.
    #[error("the refresh token is unknown, expired, ended or was used before: log in again")]
    InvalidRefreshToken,
    /// The password is right, and the account wants a code too.
    #[error("send a code of the second factor in the field code")]
    SecondFactorRequired,
    /// The log-in is too long ago.
    #[error("this command wants a log-in of the last ten minutes: log in again")]
    NotFresh,
    /// A code or link is no good.
    #[error("the code or link is wrong, has expired or was used: ask for a new one")]
    ChallengeRefused,
    /// Another account has proven the address.
    #[error("another account has this e-mail address")]
    EmailTaken,
    /// As many as there may be.
    #[error("{0}")]
    TooMany(String),
    /// One network address tries to log in all the time.
    #[error("too many log-ins from this network address: wait")]
    TooManyLogIns {
        /// How many are let through in a minute.
        limit: u32,
        /// Seconds until counting begins anew.
        reset_s: u32,
    },
    /// The person was erased.
    #[error("the person was erased")]
    Erased,
    /// A store can't be reached or is overloaded.
    #[error("{0}")]
    Unavailable(String),
    /// Something broke.
    #[error("{0}")]
    Fault(String),
}

impl CommandError {
    /// The domain says no.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "it goes where errors are mapped"
    )]
    pub(crate) fn refused<A: crate::Aggregate>(refusal: A::Refusal) -> Self {
        let code = A::code(&refusal);
        debug_assert!(
            A::CODES.is_empty() || A::CODES.contains(&code),
            "{code:?} is missing in the CODES of {}",
            A::COLLECTION
        );
        match code {
            // One code has one status, whoever says it.
            codes::ERASED => Self::Erased,
            code => Self::Refused {
                code,
                detail: refusal.to_string(),
            },
        }
    }

    /// Something broke: logged once, at the boundary, and not shown.
    pub fn fault(cause: impl Display) -> Self {
        Self::Fault(cause.to_string())
    }
}

impl From<event_store::Error> for CommandError {
    fn from(error: event_store::Error) -> Self {
        match error {
            event_store::Error::Unavailable(_) => Self::Unavailable(error.to_string()),
            event_store::Error::Invalid(_) => Self::Fault(error.to_string()),
        }
    }
}

impl From<vault::Error> for CommandError {
    fn from(error: vault::Error) -> Self {
        match error {
            vault::Error::Invalid(_) => Self::Fault(error.to_string()),
            vault::Error::Unavailable(_) | vault::Error::Busy => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

impl From<KeyError> for CommandError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Erased => Self::Erased,
            KeyError::Missing => Self::Fault(error.to_string()),
            KeyError::Fault(fault) => fault.into(),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::Invalid(errors) => Self::validation(errors),
            CommandError::Refused { code, .. } => Self::new(StatusCode::CONFLICT, code, detail),
            CommandError::Forbidden => Self::forbidden(
                "this token does not allow the command; commands act on one's own account unless a scope allows more",
            ),
            CommandError::NotFound(detail) => Self::not_found(detail),
            CommandError::Stale { .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                web::codes::PRECONDITION_FAILED,
                format!("{detail}; read it again, and send its version in If-Match"),
            ),
            CommandError::InFlight => {
                Self::new(StatusCode::CONFLICT, web::codes::IN_FLIGHT, detail).with_retry_after(1)
            }
            CommandError::Conflict => {
                Self::new(StatusCode::CONFLICT, web::codes::CONFLICT, detail).with_retry_after(1)
            }
            CommandError::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                web::codes::IDEMPOTENCY_KEY_REUSED,
                format!("{detail}; a new command needs a new key"),
            ),
            CommandError::InvalidCredentials => {
                Self::new(StatusCode::UNAUTHORIZED, codes::INVALID_CREDENTIALS, detail)
            }
            CommandError::InvalidRefreshToken => Self::new(
                StatusCode::UNAUTHORIZED,
                codes::INVALID_REFRESH_TOKEN,
                detail,
            ),
            CommandError::SecondFactorRequired => Self::new(
                StatusCode::UNAUTHORIZED,
                codes::SECOND_FACTOR_REQUIRED,
                detail,
            ),
            CommandError::NotFresh => {
                Self::new(StatusCode::FORBIDDEN, codes::FRESH_LOG_IN_REQUIRED, detail)
            }
            CommandError::ChallengeRefused => {
                Self::new(StatusCode::CONFLICT, codes::CHALLENGE_REFUSED, detail)
            }
            CommandError::EmailTaken => Self::new(StatusCode::CONFLICT, codes::EMAIL_TAKEN, detail),
            CommandError::TooMany(detail) => {
                Self::new(StatusCode::CONFLICT, codes::TOO_MANY, detail)
            }
            CommandError::TooManyLogIns { limit, reset_s } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                codes::TOO_MANY_LOG_INS,
                detail,
            )
            .with_retry_after(reset_s)
            .with_header("RateLimit-Limit", limit)
            .with_header("RateLimit-Remaining", 0)
            .with_header("RateLimit-Reset", reset_s),
            CommandError::Erased => Self::new(StatusCode::GONE, codes::ERASED, detail),
            CommandError::Unavailable(cause) => {
                tracing::warn!(%cause, "a command could not be carried out now");
                Self::unavailable(
                    "a store behind this server can't be reached or is busy; send the command again with the same Idempotency-Key",
                )
            }
            CommandError::Fault(cause) => Self::fault(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_in_docs_errors() {
        use crate::accounts::{Account, Refusal};
        use crate::{Aggregate, api_key, session};

        let page = include_str!("../../docs/errors.md");
        let accounts = [
            Refusal::Unknown,
            Refusal::AlreadyRegistered,
            Refusal::NotVerified,
            Refusal::NoEmailChange,
            Refusal::SecondFactorEnabled,
            Refusal::NoSecondFactor,
            Refusal::Closed,
            Refusal::Erased,
        ];
        let keys = [api_key::Refusal::Unknown, api_key::Refusal::AlreadyCreated];
        let refusals = accounts
            .iter()
            .map(Account::code)
            .chain(keys.iter().map(api_key::ApiKey::code))
            .chain([session::Session::code(&session::Refusal::AlreadyStarted)]);
        let missing: Vec<_> = codes::ALL
            .iter()
            .copied()
            .chain(refusals)
            .filter(|code| !page.contains(&format!("`{code}`")))
            .collect();
        assert!(
            missing.is_empty(),
            "docs/errors.md does not explain {missing:?}"
        );
    }
}
