//! Conditional answers (RFC 9110, section 13): a strong validator over the very bytes, and 304 where the client has them.
//! It refuses to let shared caches keep what one caller may see.

use aws_lc_rs::digest;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use web::Problem;

/// Bytes of the hash that make the validator.
const ETAG_BYTES: usize = 16;

/// An answer on its way out.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) media_type: &'static str,
    pub(crate) body: Vec<u8>,
    /// Stands in front of a row's validator, so that the client can send it as `If-Match` with a command.
    pub(crate) version: Option<i64>,
    /// What else is said of the answer; part of its validator.
    pub(crate) headers: Vec<(HeaderName, String)>,
}

impl Answer {
    /// JSON, with nothing else said of it.
    pub(crate) fn json(body: &impl Serialize) -> Result<Self, Problem> {
        Ok(Self {
            status: StatusCode::OK,
            media_type: "application/json",
            body: serde_json::to_vec(body).map_err(Problem::fault)?,
            version: None,
            headers: Vec::new(),
        })
    }

    /// The answer, or 304 if the client named its validator.
    pub(crate) fn respond(self, request: &HeaderMap) -> Response {
        let etag = self.etag();
        let known = known(request, &etag);
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            (self.status, [(CONTENT_TYPE, self.media_type)], self.body).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        for name in ["Authorization", "Accept, Prefer, Range"] {
            headers.append(VARY, HeaderValue::from_static(name));
        }
        let said = [(ETAG, etag)].into_iter().chain(self.headers);
        for (name, value) in said {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }

    /// Of what is sent alone: a row that was rebuilt the same is the same, and what another caller sees is another.
    fn etag(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.body);
        for (name, value) in &self.headers {
            context.update(format!("\0{name}: {value}").as_bytes());
        }
        let hash = URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..ETAG_BYTES]);
        match self.version {
            Some(version) => format!("\"{version}.{hash}\""),
            None => format!("\"{hash}\""),
        }
    }
}

/// Whether `If-None-Match` names the validator; weak comparison, as section 13.1.2 asks.
fn known(request: &HeaderMap, etag: &str) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validator_is_found_in_any_list() {
        let mut answer = Answer::json(&()).unwrap();
        let plain = answer.etag();
        answer.version = Some(3);
        let etag = answer.etag();
        answer.headers.push((VARY, "x".into()));
        assert!(plain != etag && etag != answer.etag());
        let asks = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_NONE_MATCH, value.parse().unwrap());
            }
            known(&headers, &etag)
        };
        assert!(
            asks(&[&etag])
                && asks(&["*"])
                && asks(&[&format!("\"x\", W/{etag}")])
                && asks(&["\"x\"", &etag])
        );
        assert!(etag.starts_with("\"3."), "{etag}");
        assert!(!asks(&[]) && !asks(&["\"x\""]) && !asks(&[etag.trim_matches('"')]));
    }
}
