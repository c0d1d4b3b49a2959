//! W3C trace context: taken from `traceparent` if it is valid, made otherwise. It refuses to pass on what it could not
//! read.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use uuid::Uuid;

const TRACEPARENT: &str = "traceparent";
/// `00-{32}-{16}-{2}`.
const TRACEPARENT_CHARS: usize = 55;

/// Which trace a request belongs to. An extractor within [`harden`](crate::harden); a new trace elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// What to send on: this request as the parent.
    pub traceparent: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// The trace id as a UUID, for the metadata of events.
    pub correlation_id: Uuid,
}

impl TraceContext {
    /// Continues the caller's trace, or begins one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let given = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(read),
            _ => None,
        };
        let random = vault::random_uuid();
        let (trace, flags) = given.unwrap_or((random.as_u128(), "00"));
        // The low half of a random UUID holds 62 random bits, and is never zero: its variant bits are set.
        let span = if given.is_some() {
            random
        } else {
            vault::random_uuid()
        }
        .as_u128() as u64;
        let trace_id = format!("{trace:032x}");
        Self {
            traceparent: format!("00-{trace_id}-{span:016x}-{flags}"),
            trace_id,
            correlation_id: Uuid::from_u128(trace),
        }
    }
}

/// The trace id and flags of a `traceparent` (W3C Trace Context, section 3.2.2).
fn read(text: &str) -> Option<(u128, &str)> {
    let hex = |part: &str, chars: usize| {
        part.len() == chars
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole =
        hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && version != "ff";
    // A later version may append fields; version 00 may not.
    if !whole || (version == "00" && text.len() != TRACEPARENT_CHARS) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|&id| id != 0)?;
    u64::from_str_radix(parent, 16).ok().filter(|&id| id != 0)?;
    Some((
        trace,
        if u8::from_str_radix(flags, 16).ok()? & 1 == 1 {
            "01"
        } else {
            "00"
        },
    ))
}

impl<S: Send + Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get()
            .cloned()
            .unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> TraceContext {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        TraceContext::of(&headers)
    }

    #[test]
    fn a_valid_traceparent_is_continued_under_a_new_span() {
        let trace = of(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]);
        assert_eq!(trace.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.correlation_id.simple().to_string(), trace.trace_id);
        assert!(
            trace
                .traceparent
                .starts_with("00-0af7651916cd43dd8448eb211c80319c-")
        );
        assert!(
            trace.traceparent.ends_with("-01") && !trace.traceparent.contains("b7ad6b7169203331")
        );
    }

    #[test]
    fn anything_else_begins_a_new_trace() {
        let bad = [
            "",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ];
        for value in bad {
            let trace = of(&[value]);
            assert_ne!(
                trace.trace_id, "0af7651916cd43dd8448eb211c80319c",
                "{value:?}"
            );
            assert!(read(&trace.traceparent).is_some(), "{}", trace.traceparent);
        }
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_ne!(
            of(&[good, good]).trace_id,
            "0af7651916cd43dd8448eb211c80319c"
        );
    }
}
