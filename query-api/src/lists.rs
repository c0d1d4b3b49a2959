//! Lists: from what was asked to a query, and from its page to an answer with its links. It refuses to judge who may ask:
//! it gets what the caller may reach.

use std::sync::Arc;

use axum::http::header::{CONTENT_RANGE, LINK};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::Response;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use read_models::{Filter, Page, Query};
use web::{Caller, FieldError, PositionToken, Problem, codes};

use crate::access::{self, Reach};
use crate::answer::Answer;
use crate::cache::Question;
use crate::cursor;
use crate::grammar::{self, CURSOR, DEFAULT_LIMIT, MAX_OFFSET, Output};
use crate::negotiation::{self, Form, unsatisfiable};
use crate::parameters::Pairs;
use crate::rows;
use crate::state::{Hosted, QueryState};

/// RFC 7240's answer to a preference.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// What a link leaves as it is in names and values.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'*')
    .remove(b',')
    .remove(b':')
    .remove(b'(')
    .remove(b')');

/// A list's question, read and found right.
pub(crate) struct Listing<'m> {
    hosted: &'m Hosted,
    form: Form,
    outputs: Vec<Output>,
    query: Arc<Query>,
    /// The query string, for the link to the next page.
    pairs: Pairs,
}

impl<'m> Listing<'m> {
    /// Reads a list's question, with what the caller may reach as part of it.
    pub(crate) fn parse(
        state: &QueryState,
        hosted: &'m Hosted,
        form: Form,
        reach: &Reach<'_>,
        caller: &Caller,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let model = &hosted.model;
        let (asked, pairs) = grammar::list(uri, &access::fields(model, caller))?;
        let (limit, offset) = match negotiation::range(headers)? {
            None => (asked.limit, asked.offset),
            Some((offset, limit)) if (asked.limit, asked.offset) == (None, None) => {
                (limit, Some(offset))
            }
            Some(_) => return Err(two_windows()),
        };
        let filter = match asked.filter {
            filter if filter == Filter::ALL => reach.condition(model),
            filter => reach.condition(model).and(filter),
        };
        let mut query = Query::new(model, filter, limit.unwrap_or(DEFAULT_LIMIT));
        query = query.in_order(model, asked.order);
        query.select = asked
            .select
            .iter()
            .map(|output| output.field.clone())
            .collect();
        query.offset = offset.unwrap_or(0);
        query.count = negotiation::wants_count(headers);
        if let Some(sealed) = &asked.cursor {
            query.after = Some(cursor::open(model, &query, sealed, state.keys())?);
        }
        Ok(Self {
            hosted,
            form,
            outputs: asked.select,
            query: Arc::new(query),
            pairs,
        })
    }

    /// Asks the store, and answers.
    pub(crate) async fn answer(
        self,
        state: &QueryState,
        caller: &Caller,
        after: Option<&PositionToken>,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let question = Question::List(Arc::clone(&self.query));
        let page = state.ask(self.hosted, question, after).await?;
        let (status, said) = self.said(&page, page.rows.len(), state)?;
        if self.form == Form::Object && page.rows.len() != 1 {
            return Err(not_one(page.rows.len()));
        }
        let stored = page.rows.iter().map(|row| row.iter().collect()).collect();
        let rows = rows::open(&self.outputs, stored, caller, state.vault()).await?;
        let mut answer = match self.form {
            Form::Json | Form::Events => Answer::json(&rows)?,
            Form::Object => Answer::json(&rows.first())?,
            Form::Csv => Answer {
                body: rows::csv(&self.outputs, &rows).into_bytes(),
                ..Answer::json(&())?
            },
        };
        answer.media_type = match self.form {
            Form::Json | Form::Events => Form::Json.media_type(),
            Form::Object => "application/vnd.pgrst.object+json; charset=utf-8",
            Form::Csv => "text/csv; charset=utf-8; header=present",
        };
        (answer.status, answer.headers) = (status, said);
        Ok(answer.respond(headers))
    }

    /// The status and the headers that follow from how many rows there are, as PostgREST has them.
    fn said(
        &self,
        page: &Page,
        rows: usize,
        state: &QueryState,
    ) -> Result<(StatusCode, Vec<(HeaderName, String)>), Problem> {
        let first = u64::from(self.query.offset);
        let total = page.total.map_or("*".to_owned(), |total| total.to_string());
        // A cursor does not know how many rows it has passed.
        let range = if rows == 0 || self.query.after.is_some() {
            format!("*/{total}")
        } else {
            format!("{first}-{}/{total}", first + rows as u64 - 1)
        };
        let mut said = vec![(CONTENT_RANGE, range)];
        let mut status = StatusCode::OK;
        if let Some(total) = page.total {
            said.push((PREFERENCE_APPLIED, "count=exact".into()));
            if first > total {
                let detail = format!("There are {total} rows, and {first} were to be left out.");
                return Err(
                    unsatisfiable(&detail).with_header("content-range", format!("*/{total}"))
                );
            }
            if (rows as u64) < total {
                status = StatusCode::PARTIAL_CONTENT;
            }
        }
        if let Some(link) = self.next(page, state) {
            said.push((LINK, format!("<{link}>; rel=\"next\"")));
        }
        Ok((status, said))
    }

    /// Where the next page is, with all other parameters as they are.
    fn next(&self, page: &Page, state: &QueryState) -> Option<String> {
        let model = &self.hosted.model;
        let place = page.next.as_ref()?;
        let mut pairs: Vec<(&str, String)> = Vec::with_capacity(self.pairs.len() + 1);
        let kept = self.pairs.iter().filter(|(name, _)| name != "offset");
        if let Some(sealed) = cursor::seal(model, &self.query, place, state.keys()) {
            let kept = kept.filter(|(name, _)| name != CURSOR);
            pairs.extend(kept.map(|(name, value)| (name.as_str(), value.clone())));
            pairs.push((CURSOR, sealed));
        } else {
            // Values too long for a URL: the page is counted off instead, from where this one began.
            let offset = self.query.offset.checked_add(self.query.limit)?;
            pairs.extend(kept.map(|(name, value)| (name.as_str(), value.clone())));
            pairs.push((
                "offset",
                (offset <= MAX_OFFSET).then(|| offset.to_string())?,
            ));
        }
        // A window of the header `Range` goes on as a limit.
        if !pairs.iter().any(|(name, _)| *name == "limit") && self.query.limit != DEFAULT_LIMIT {
            pairs.push(("limit", self.query.limit.to_string()));
        }
        let encoded = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        Some(format!("/v1/{}?{}", model.name, pairs.join("&")))
    }
}

fn two_windows() -> Problem {
    let detail = "Say the window once: by limit and offset, or by the header Range.";
    Problem::malformed(detail).with_errors(vec![FieldError {
        pointer: "Range".into(),
        code: "repeated",
        detail: detail.into(),
    }])
}

/// 406 as PostgREST says it, since its clients look at code and details.
fn not_one(rows: usize) -> Problem {
    Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        codes::NOT_ONE_ROW,
        "One row was asked for as an object, and there is not exactly one.",
    )
    .with_errors(vec![FieldError {
        pointer: "Accept".into(),
        code: "not_one_row",
        detail: format!("The result contains {rows} rows"),
    }])
}
