//! W3C trace context: taken from `traceparent` if it is valid, made otherwise. It refuses to pass on what it could not
//! read.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use instruments::trace::{self, Context, Kind, Span};
use uuid::Uuid;

const TRACEPARENT: &str = "traceparent";

/// Which trace a request belongs to. An extractor within [`harden`](crate::harden); a new trace elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// What to send on: this request as the parent.
    pub traceparent: String,
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// The trace id as a UUID, for the metadata of events.
    pub correlation_id: Uuid,
    /// Its place among spans.
    pub(crate) place: Context,
    /// The caller's span, if the caller has a trace.
    pub(crate) parent: Option<u64>,
}

impl TraceContext {
    /// Continues the caller's trace, or begins one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let given = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(Context::parse),
            _ => None,
        };
        let random = vault::random_uuid();
        // The low half of a random UUID holds 62 random bits, and is never zero: its variant bits are set.
        let place = match given {
            Some(given) => Context {
                span: random.as_u128() as u64,
                ..given
            },
            None => Context {
                trace: random.as_u128(),
                span: vault::random_uuid().as_u128() as u64,
                sampled: trace::is_chosen(random.as_u128()),
            },
        };
        Self {
            traceparent: place.to_string(),
            trace_id: format!("{:032x}", place.trace),
            correlation_id: Uuid::from_u128(place.trace),
            place,
            parent: given.map(|given| given.span),
        }
    }

    /// The span of the request, where its trace is sampled and somebody collects.
    pub(crate) fn span(&self, method: &Method, route: &str) -> Option<Span> {
        Context::collected(Some(&self.traceparent))?;
        let name = format!("{method} {route}");
        let span = Span::at(self.place, self.parent, name, Kind::Server)
            .with("http.request.method", method.as_str())
            .with("http.route", route);
        Some(span)
    }
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
            assert_eq!(Context::parse(&trace.traceparent), Some(trace.place));
        }
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_ne!(
            of(&[good, good]).trace_id,
            "0af7651916cd43dd8448eb211c80319c"
        );
    }
}
