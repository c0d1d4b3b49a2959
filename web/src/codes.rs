//! Every error code a client can meet, with its title. Codes are part of the API: they never change their meaning, and
//! `docs/errors.md` explains each one (a test holds this list against that page).

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $code;)*

        /// Every code with its title.
        pub const ALL: &[(&str, &str)] = &[$(($code, $title)),*];
    };
}

codes! {
    /// 400: the request cannot be read.
    MALFORMED = "malformed", "The request cannot be read";
    /// 400: the position token speaks of another log.
    TOKEN_OF_ANOTHER_LOG = "token_of_another_log", "The position token belongs to another log";
    /// 400: the database worked on the query for longer than it may.
    QUERY_TOO_SLOW = "query_too_slow", "The query takes too long";
    /// 401: no access token was sent.
    UNAUTHORIZED = "unauthorized", "An access token is needed";
    /// 401: the access token is not valid (any more).
    INVALID_TOKEN = "invalid_token", "The access token is not valid";
    /// 403: the caller is known and may not do this.
    FORBIDDEN = "forbidden", "Not allowed";
    /// 404: there is nothing here, or nothing that this caller may see.
    NOT_FOUND = "not_found", "Not found";
    /// 405: the path knows other methods.
    METHOD_NOT_ALLOWED = "method_not_allowed", "Method not allowed";
    /// 406: none of the forms the client accepts is offered.
    NOT_ACCEPTABLE = "not_acceptable", "None of the accepted forms is offered";
    /// 406: exactly one row was asked for, and there are none or several. PostgREST's own code, which its clients know.
    NOT_ONE_ROW = "PGRST116", "Not exactly one row";
    /// 408: the client sent its request too slowly.
    REQUEST_TIMEOUT = "request_timeout", "The request came in too slowly";
    /// 409: the state of the resource does not allow it.
    CONFLICT = "conflict", "The current state does not allow this";
    /// 409: a command with this Idempotency-Key is being carried out right now.
    IN_FLIGHT = "in_flight", "The same command is being carried out";
    /// 412: `If-Match` names another version.
    PRECONDITION_FAILED = "precondition_failed", "The resource has changed";
    /// 413: the body is larger than allowed.
    BODY_TOO_LARGE = "body_too_large", "The body is too large";
    /// 414: the query string is longer than allowed.
    URI_TOO_LONG = "uri_too_long", "The query string is too long";
    /// 415: the body is not JSON.
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", "The body must be JSON";
    /// 416: the rows asked for begin behind the last one.
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable", "There are no such rows";
    /// 422: the body can be read but is not valid.
    INVALID = "invalid", "The request is not valid";
    /// 422: the Idempotency-Key was used for another command.
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", "The Idempotency-Key was used for another command";
    /// 429: too many requests of this kind.
    RATE_LIMITED = "rate_limited", "Too many requests";
    /// 500: something broke; the cause is in the log under the trace id.
    INTERNAL = "internal", "Something broke";
    /// 503: a dependency cannot be reached.
    UNAVAILABLE = "unavailable", "Not available right now";
    /// 503: as many requests as allowed are being served.
    OVERLOADED = "overloaded", "Too many requests at once";
    /// 503: the request took too long; a command may still have been carried out.
    TIMED_OUT = "timed_out", "The request took too long";
    /// 503: the read model has not reached the position token yet.
    NOT_YET_PROJECTED = "not_yet_projected", "The read model is not there yet";
    /// 503: a stream the position token names waits behind an event that could not be projected.
    PARKED = "parked", "The stream waits for an operator";
}

/// The title of a code; `None` for one that is not of this list (a domain's own refusal).
pub fn title(code: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|(known, _)| *known == code)
        .map(|(_, title)| *title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_in_docs_errors() {
        let page = include_str!("../../docs/errors.md");
        let missing: Vec<_> = ALL
            .iter()
            .map(|(code, _)| *code)
            .filter(|code| !page.contains(&format!("\n### `{code}`")))
            .collect();
        assert!(
            missing.is_empty(),
            "docs/errors.md has no heading for {missing:?}"
        );
    }
}
