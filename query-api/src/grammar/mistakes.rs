//! Everything that is wrong with a question, parameter by parameter, to be said at once.

use axum::http::StatusCode;
use web::{FieldError, Problem, codes};

/// How much of a client's own text is shown to it in an error, in characters.
const SHOWN_CHARS: usize = 64;
/// Mistakes that are told at most.
const TOLD: usize = 20;

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    parameter: String,
    found: Vec<FieldError>,
}

impl Mistakes {
    /// What follows is about this parameter.
    pub(crate) fn about(&mut self, parameter: &str) {
        self.parameter = parameter.chars().take(SHOWN_CHARS).collect();
    }

    pub(crate) fn add(&mut self, code: &'static str, detail: String) {
        if self.found.len() < TOLD {
            self.found.push(FieldError {
                pointer: self.parameter.clone(),
                code,
                detail,
            });
        }
    }

    pub(crate) fn repeated(&mut self) {
        let detail = format!("{} comes more than once.", self.parameter);
        self.add("repeated", detail);
    }

    pub(crate) fn unknown_parameter(&mut self, known: &str) {
        let detail = format!(
            "The parameter {} is not known here. Known: {known}.",
            shown(&self.parameter)
        );
        self.add("unknown_parameter", detail);
    }

    /// Reads a whole number from 0 to `most`, once.
    pub(crate) fn number(&mut self, place: &mut Option<u32>, text: &str, most: u32) {
        // `parse` alone would take a sign.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number: Option<u32> = digits.then(|| text.parse().ok()).flatten();
        match number.filter(|number| *number <= most) {
            Some(_) if place.is_some() => self.repeated(),
            Some(number) => *place = Some(number),
            None => {
                let detail = format!("{} is a whole number from 0 to {most}.", self.parameter);
                self.add("out_of_range", detail);
            }
        }
    }

    /// 400 with everything, if there is anything.
    pub(crate) fn refuse(self) -> Result<(), Problem> {
        if self.found.is_empty() {
            return Ok(());
        }
        let details: Vec<_> = self.found.iter().map(|e| e.detail.as_str()).collect();
        let detail = details.join(" ");
        let problem = Problem::new(StatusCode::BAD_REQUEST, codes::MALFORMED, detail);
        Err(problem.with_errors(self.found))
    }
}

/// A client's text, quoted and cut.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
