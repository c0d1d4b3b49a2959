//! Conditional answers (RFC 9110, section 13): a strong validator over the very bytes, and 304 where the client has them.
//! It refuses to let shared caches keep what one caller may see.

use aws_lc_rs::digest;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use web::Problem;

/// Bytes of the hash that make the validator.
const ETAG_BYTES: usize = 16;

/// Answers with JSON, or with 304 if the client named its validator. A row's `version` stands in front of its validator,
/// so that the client can send it as `If-Match` with a command.
pub(crate) fn json(
    body: &impl Serialize,
    version: Option<i64>,
    request: &HeaderMap,
) -> Result<Response, Problem> {
    let body = serde_json::to_vec(body).map_err(Problem::fault)?;
    let etag = etag(&body, version);
    let headers = [
        (CACHE_CONTROL, "private, no-cache"),
        (VARY, "Authorization"),
        (ETAG, etag.as_str()),
    ];
    Ok(if known(request, &etag) {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, [(CONTENT_TYPE, "application/json")], body).into_response()
    })
}

/// Of the bytes alone: a row that was rebuilt the same is the same, and what another caller sees is another.
fn etag(body: &[u8], version: Option<i64>) -> String {
    let hash = digest::digest(&digest::SHA256, body);
    let hash = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..ETAG_BYTES]);
    version.map_or_else(
        || format!("\"{hash}\""),
        |version| format!("\"{version}.{hash}\""),
    )
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
        let etag = etag(b"{}", Some(3));
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
