//! Problem details (RFC 9457): the only form an error takes on its way out. It refuses to carry a fault's cause.

use std::fmt;
use std::panic::Location;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::codes;

/// The media type of problem details.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";
/// What a client is told to wait when a dependency is away, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON Pointer (RFC 6901) to the field, or the name of a query parameter.
    pub pointer: String,
    /// Stable and documented, like `required` or `too_long`.
    pub code: &'static str,
    /// For people: what is wrong and what to write instead.
    pub detail: String,
}

/// An error as the client sees it.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The JSON Schema of problem details. `message`, `details` and `hint` are in answers to queries alone.
pub(crate) fn schema() -> Value {
    let text = |meaning: &str| json!({ "type": "string", "description": meaning });
    let error = json!({
        "type": "object",
        "properties": {
            "pointer": text("JSON Pointer (RFC 6901) to the field, or the name of a query parameter."),
            "code": text("Stable, like `required` or `too_long`."),
            "detail": text("What is wrong and what to write instead."),
        },
        "required": ["pointer", "code", "detail"],
    });
    json!({
        "type": "object",
        "description": "Problem details (RFC 9457).",
        "properties": {
            "type": text("The code as a relative reference: a name, not an address."),
            "title": text("For people; may change."),
            "status": { "type": "integer" },
            "detail": text("For people; may change."),
            "code": text("Stable: programs decide by it."),
            "instance": text("The path of the request."),
            "trace_id": text("Finds the request in the server's log."),
            "errors": { "type": "array", "items": error, "description": "All that is wrong at once." },
            "message": text("As `detail`, for PostgREST's clients; on queries."),
            "details": { "type": ["string", "null"], "description": "For PostgREST's clients; on queries." },
            "hint": { "type": ["string", "null"], "description": "For PostgREST's clients; on queries." },
        },
        "required": ["type", "title", "status", "detail", "code", "instance", "trace_id"],
    })
}

/// What is known of the request that a problem answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    /// The request's path, without its query.
    pub path: &'a str,
    /// For finding the request in the log.
    pub trace_id: &'a str,
    /// Queries answer with PostgREST's fields too.
    pub query: bool,
}

impl Problem {
    /// A problem. `code` is stable and documented; `detail` is for people and may be shown to anybody.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            code,
            detail: detail.into(),
            hint: None,
            errors: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// Says what is wrong with which field.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Says what to do about it (PostgREST's `hint`).
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says when trying again may help.
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Self {
        self.with_header(RETRY_AFTER.as_str(), seconds)
    }

    /// Adds a header to the answer. One that HTTP does not allow is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl fmt::Display) -> Self {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(&value.to_string()),
        ) {
            self.0.headers.push((name, value));
        }
        self
    }

    /// 401: no access token was sent.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            codes::UNAUTHORIZED,
            "Send an access token: Authorization: Bearer … (POST /v1/sessions gives one).",
        )
        .with_header(WWW_AUTHENTICATE.as_str(), "Bearer")
    }

    /// 401: the access token is not valid, or not any more (RFC 6750, section 3.1). Never says why.
    pub fn invalid_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            codes::INVALID_TOKEN,
            "The access token is expired, revoked or not ours: get a new one.",
        )
        .with_header(WWW_AUTHENTICATE.as_str(), r#"Bearer error="invalid_token""#)
    }

    /// 403: the caller is known and may not do this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, codes::FORBIDDEN, detail)
    }

    /// 404: there is nothing here, or nothing that this caller may know of.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, codes::NOT_FOUND, detail)
    }

    /// 400: the request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, codes::MALFORMED, detail)
    }

    /// 422: all that is wrong with a body that can be read.
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => one.detail.clone(),
            _ => format!("{} fields are not valid; see `errors`.", errors.len()),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, codes::INVALID, detail).with_errors(errors)
    }

    /// 503: a dependency cannot be reached; trying again may help.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, codes::UNAVAILABLE, detail)
            .with_retry_after(RETRY_AFTER_S)
    }

    /// 500: something broke. The cause goes to the log, once, here; the client gets the trace id alone.
    #[track_caller]
    pub fn fault(error: impl fmt::Display) -> Self {
        tracing::error!(cause = %error, at = %Location::caller(), "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            codes::INTERNAL,
            "Something broke on our side. The trace id finds the cause in the log.",
        )
    }

    /// The problem that a bare status stands for, when something below us answered with no more than that.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let (code, detail) = match status {
            StatusCode::NOT_FOUND => (codes::NOT_FOUND, "There is nothing at this path."),
            StatusCode::METHOD_NOT_ALLOWED => (
                codes::METHOD_NOT_ALLOWED,
                "This path knows other methods; see the header Allow.",
            ),
            StatusCode::REQUEST_TIMEOUT => {
                (codes::REQUEST_TIMEOUT, "The request came in too slowly.")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                (codes::BODY_TOO_LARGE, "The body is larger than allowed.")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (
                codes::UNSUPPORTED_MEDIA_TYPE,
                "Send the body as Content-Type: application/json.",
            ),
            status if status.is_client_error() => (codes::MALFORMED, "The request cannot be read."),
            StatusCode::SERVICE_UNAVAILABLE => {
                (codes::UNAVAILABLE, "Not available right now: try again.")
            }
            _ => (
                codes::INTERNAL,
                "Something broke on our side. The trace id finds the cause in the log.",
            ),
        };
        Self::new(status, code, detail)
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The text for people.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What is wrong with which field.
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// The JSON of the answer; `about` is missing where no request is known (outside of [`harden`](crate::harden)).
    pub(crate) fn body(&self, about: Option<About<'_>>) -> Value {
        let Parts {
            status,
            code,
            detail,
            hint,
            errors,
            ..
        } = &*self.0;
        let title = codes::title(code)
            .or(status.canonical_reason())
            .unwrap_or("Error");
        let mut body = Map::new();
        body.insert("type".into(), json!(format!("/problems/{code}")));
        body.insert("title".into(), json!(title));
        body.insert("status".into(), json!(status.as_u16()));
        body.insert("detail".into(), json!(detail));
        body.insert("code".into(), json!(code));
        if !errors.is_empty() {
            body.insert("errors".into(), json!(errors));
        }
        if let Some(about) = about {
            body.insert("instance".into(), json!(about.path));
            body.insert("trace_id".into(), json!(about.trace_id));
            if about.query {
                let details: Vec<_> = errors.iter().map(|e| e.detail.as_str()).collect();
                body.insert("message".into(), json!(detail));
                body.insert(
                    "details".into(),
                    if details.is_empty() {
                        Value::Null
                    } else {
                        json!(details.join(" "))
                    },
                );
                body.insert("hint".into(), json!(hint));
            }
        }
        Value::Object(body)
    }

    /// The answer. The problem itself rides along as an extension, so that [`harden`](crate::harden) can add what only
    /// it knows of the request.
    pub(crate) fn respond(self, about: Option<About<'_>>) -> Response {
        let mut response = Response::new(Body::from(self.body(about).to_string()));
        *response.status_mut() = self.0.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.respond(None)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: {}",
            self.0.status.as_u16(),
            self.0.code,
            self.0.detail
        )
    }
}

impl std::error::Error for Problem {}
