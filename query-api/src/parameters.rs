//! The query string, taken apart. It refuses one that is too long to be meant.

use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use web::{Problem, codes};

use crate::grammar::Mistakes;

/// The longest query string, in bytes: room for a list of a few hundred UUIDs.
pub(crate) const QUERY_BYTES: usize = 16 * 1024;

/// Names and values as they were sent, decoded.
pub(crate) type Pairs = Vec<(String, String)>;

/// Takes the query string apart; 414 for one that is too long.
pub(crate) fn pairs(uri: &Uri) -> Result<Pairs, Problem> {
    if uri.query().is_some_and(|query| query.len() > QUERY_BYTES) {
        return Err(Problem::new(
            StatusCode::URI_TOO_LONG,
            codes::URI_TOO_LONG,
            format!(
                "The query string has more than {QUERY_BYTES} bytes: ask for fewer values at a time."
            ),
        ));
    }
    Query::<Pairs>::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|_| Problem::malformed("The query string cannot be read."))
}

/// For routes that take no parameters.
pub(crate) fn none(uri: &Uri) -> Result<(), Problem> {
    let mut mistakes = Mistakes::default();
    for (name, _) in pairs(uri)? {
        mistakes.about(&name);
        mistakes.unknown_parameter("none");
    }
    mistakes.refuse()
}
