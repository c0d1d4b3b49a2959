//! The query string of a list. It refuses parameters it does not know: a filter that is not applied would show too much.

use std::str::FromStr;

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use web::{FieldError, Problem, codes};

/// Rows of a list unless asked otherwise.
pub(crate) const DEFAULT_LIMIT: u32 = 50;
/// Rows of a list at most.
pub(crate) const MAX_LIMIT: u32 = 1_000;
/// Rows left out at most: the database walks over each of them.
pub(crate) const MAX_OFFSET: u32 = 1_000_000;
/// How much of a client's own text is shown to it in an error, in characters.
const SHOWN_CHARS: usize = 64;

/// Which rows of a list are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) limit: u32,
    pub(crate) offset: u32,
}

/// Reads a list's parameters; 400 names all that is wrong with them.
pub(crate) fn window(uri: &Uri) -> Result<Window, Problem> {
    let (mut limit, mut offset) = (None, None);
    let mut errors = Vec::new();
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "limit" => take(&mut limit, "limit", &value, MAX_LIMIT, &mut errors),
            "offset" => take(&mut offset, "offset", &value, MAX_OFFSET, &mut errors),
            _ => errors.push(unknown(&name, "limit, offset")),
        }
    }
    refuse(errors)?;
    Ok(Window {
        limit: limit.unwrap_or(DEFAULT_LIMIT),
        offset: offset.unwrap_or(0),
    })
}

/// A single row takes no parameters.
pub(crate) fn none(uri: &Uri) -> Result<(), Problem> {
    refuse(
        pairs(uri)?
            .iter()
            .map(|(name, _)| unknown(name, "none"))
            .collect(),
    )
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    query
        .map(|Query(pairs)| pairs)
        .map_err(|_| Problem::malformed("The query string cannot be read."))
}

fn take(place: &mut Option<u32>, name: &str, value: &str, max: u32, errors: &mut Vec<FieldError>) {
    // `from_str` would take a sign.
    let number = value
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| u32::from_str(value).ok())
        .flatten();
    let (code, detail) = match number.filter(|number| *number <= max) {
        Some(number) if place.is_none() => {
            *place = Some(number);
            return;
        }
        Some(_) => ("repeated", format!("{name} comes more than once.")),
        None => (
            "out_of_range",
            format!("{name} is a whole number from 0 to {max}."),
        ),
    };
    errors.push(FieldError {
        pointer: name.to_owned(),
        code,
        detail,
    });
}

fn unknown(name: &str, allowed: &str) -> FieldError {
    let name: String = name.chars().take(SHOWN_CHARS).collect();
    let detail = format!("The parameter {name:?} is not known here. Known: {allowed}.");
    FieldError {
        pointer: name,
        code: "unknown_parameter",
        detail,
    }
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Problem> {
    if errors.is_empty() {
        return Ok(());
    }
    let detail: Vec<_> = errors.iter().map(|error| error.detail.as_str()).collect();
    Err(
        Problem::new(StatusCode::BAD_REQUEST, codes::MALFORMED, detail.join(" "))
            .with_errors(errors),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Window, Vec<(String, &'static str)>> {
        window(&format!("/v1/x{query}").parse().unwrap()).map_err(|problem| {
            problem
                .errors()
                .iter()
                .map(|e| (e.pointer.clone(), e.code))
                .collect()
        })
    }

    #[test]
    fn the_window_has_defaults_and_bounds() {
        assert_eq!(
            read(""),
            Ok(Window {
                limit: 50,
                offset: 0
            })
        );
        assert_eq!(
            read("?limit=1000&offset=1000000"),
            Ok(Window {
                limit: 1_000,
                offset: 1_000_000
            })
        );
        assert_eq!(
            read("?limit=0"),
            Ok(Window {
                limit: 0,
                offset: 0
            })
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let found = read("?limit=1001&limit=2&limit=3&offset=-1&status=eq.open").unwrap_err();
        let expected = [
            ("limit", "out_of_range"),
            ("limit", "repeated"),
            ("offset", "out_of_range"),
            ("status", "unknown_parameter"),
        ];
        assert_eq!(
            found,
            expected.map(|(pointer, code)| (pointer.to_owned(), code))
        );
        assert!(read("?limit=%2B5").is_err() && read("?limit=").is_err());
        assert!(none(&"/v1/x/1?a=1".parse().unwrap()).is_err());
    }
}
