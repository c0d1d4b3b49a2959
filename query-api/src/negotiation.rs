//! What a client says of its answer in headers: the form (`Accept`), a count (`Prefer`, RFC 7240), a window (`Range`, as
//! PostgREST reads it). It refuses a form that is not offered.

use axum::http::header::{ACCEPT, RANGE};
use axum::http::{HeaderMap, StatusCode};
use web::{FieldError, Problem, codes};

use crate::grammar::{MAX_LIMIT, MAX_OFFSET};

/// The unit of windows.
const UNIT: &str = "items";

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An array of a list's rows; an object for a single row.
    Json,
    /// A list's only row, as an object.
    Object,
    /// RFC 4180.
    Csv,
    /// Server-sent events, for as long as the client listens.
    Events,
}

impl Form {
    /// The media type that it is asked for by.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Object => "application/vnd.pgrst.object+json",
            Self::Csv => "text/csv",
            Self::Events => "text/event-stream",
        }
    }

    fn is_of(self, range: &str) -> bool {
        let kind = self.media_type().split('/').next().unwrap_or_default();
        range == self.media_type()
            || range.strip_suffix("/*").is_some_and(|asked| asked == kind)
            || (self == Self::Json && matches!(range, "*/*" | "application/vnd.pgrst.array+json"))
    }
}

/// The form that the client likes best of those offered, of which the first is for who says nothing; 406 if it likes none.
pub(crate) fn form(headers: &HeaderMap, offered: &[Form]) -> Result<Form, Problem> {
    let asked: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| !range.is_empty())
        .collect();
    if asked.is_empty() {
        return Ok(offered[0]);
    }
    let mut best: Option<(Form, f32)> = None;
    for range in asked {
        let (range, quality) = quality(range);
        let found = offered.iter().find(|form| form.is_of(&range));
        if let Some(form) = found
            && quality > best.map_or(0.0, |(_, quality)| quality)
        {
            best = Some((*form, quality));
        }
    }
    best.map(|(form, _)| form).ok_or_else(|| {
        let offered: Vec<_> = offered.iter().map(|form| form.media_type()).collect();
        Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            codes::NOT_ACCEPTABLE,
            format!("Accept one of {}.", offered.join(", ")),
        )
    })
}

/// A media range in lower case with what it is worth; parameters other than `q` and `charset` make it another one, which
/// nothing here is.
fn quality(range: &str) -> (String, f32) {
    let mut parts = range.split(';').map(str::trim);
    let mut name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let mut quality = 1.0;
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("q" | "Q", value)) => quality = value.parse().unwrap_or(0.0),
            Some(("charset", _)) => {}
            _ => name = String::new(),
        }
    }
    (name, quality)
}

/// Whether an exact count is preferred.
pub(crate) fn wants_count(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim() == "count=exact")
}

/// The window of `Range: 0-24`: rows to leave out and, unless it is open, rows to give. Ranges of other units (bytes) are
/// none of ours, and left alone, as RFC 9110, section 14.2, says.
pub(crate) fn range(headers: &HeaderMap) -> Result<Option<(u32, Option<u32>)>, Problem> {
    let text = |name| {
        let value: Option<&axum::http::HeaderValue> = headers.get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let (Some(range), unit) = (text(RANGE.as_str()), text("range-unit").unwrap_or(UNIT)) else {
        return Ok(None);
    };
    let Some((first, last)) = range.split_once('-') else {
        return Ok(None);
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if unit != UNIT || first.is_empty() || !digits(first) || !digits(last) {
        return Ok(None);
    }
    let number = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    let offset = number(first);
    let limit = match last {
        "" => None,
        last if number(last) < offset => {
            return Err(unsatisfiable(&format!(
                "The range {range} ends before it begins."
            )));
        }
        last => Some((number(last) - offset).saturating_add(1)),
    };
    if offset > MAX_OFFSET || limit.is_some_and(|limit| limit > MAX_LIMIT) {
        let detail = format!(
            "A range begins at row {MAX_OFFSET} at most, and has {MAX_LIMIT} rows at most."
        );
        return Err(Problem::malformed(&*detail).with_errors(vec![FieldError {
            pointer: "Range".into(),
            code: "out_of_range",
            detail,
        }]));
    }
    Ok(Some((offset, limit)))
}

/// 416: there are no such rows.
pub(crate) fn unsatisfiable(detail: &str) -> Problem {
    Problem::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        codes::RANGE_NOT_SATISFIABLE,
        detail,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_form_liked_best_is_given() {
        let all = [Form::Json, Form::Object, Form::Csv];
        let asks = |accept: &str| form(&headers(&[("accept", accept)]), &all).ok();
        assert_eq!(form(&HeaderMap::new(), &all).unwrap(), Form::Json);
        for accept in [
            "*/*",
            "application/*",
            "",
            "application/json; charset=utf-8",
            "text/html, */*;q=0.1",
        ] {
            assert_eq!(asks(accept), Some(Form::Json), "{accept}");
        }
        assert_eq!(asks("text/csv"), Some(Form::Csv));
        assert_eq!(asks("application/json;q=0.5, Text/CSV"), Some(Form::Csv));
        assert_eq!(
            asks("application/vnd.pgrst.object+json"),
            Some(Form::Object)
        );
        for accept in [
            "text/html",
            "text/csv;q=0",
            "application/vnd.pgrst.object+json;nulls=stripped",
            "nonsense",
        ] {
            assert_eq!(asks(accept), None, "{accept}");
        }
    }

    #[test]
    fn windows_and_counts_are_read() {
        let reads = |pairs: &[(&'static str, &str)]| {
            range(&headers(pairs)).map_err(|p| p.status().as_u16())
        };
        assert_eq!(reads(&[]), Ok(None));
        assert_eq!(reads(&[("range", "0-24")]), Ok(Some((0, Some(25)))));
        assert_eq!(
            reads(&[("range", "10-"), ("range-unit", "items")]),
            Ok(Some((10, None)))
        );
        for other in ["bytes=0-24", "-5", "a-b", "7"] {
            assert_eq!(reads(&[("range", other)]), Ok(None), "{other}");
        }
        assert_eq!(
            reads(&[("range", "0-1"), ("range-unit", "bytes")]),
            Ok(None)
        );
        assert_eq!(reads(&[("range", "5-4")]), Err(416));
        for far in ["0-1000", "99999999999-", "1000001-1000002", "0-99999999999"] {
            assert_eq!(reads(&[("range", far)]), Err(400), "{far}");
        }
        assert!(wants_count(&headers(&[(
            "prefer",
            "return=minimal, count=exact"
        )])));
        assert!(!wants_count(&headers(&[("prefer", "count=planned")])));
    }
}
