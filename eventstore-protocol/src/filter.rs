//! Filters of the log: by prefix or by regular expression, of streams or of types.

use events::RecordedEvent;
use fancy_regex::{Regex, RegexBuilder};
use tonic::Status;

use crate::messages::read::{Expression, FilterBy, FilterOptions, Window};

/// The longest expression and the most prefixes taken.
const LONGEST_EXPRESSION: usize = 4_096;
const MOST_PREFIXES: usize = 256;
/// How many steps back matching one name may take, and how large an expression may become when it is compiled.
const BACKTRACKING: usize = 10_000;
const COMPILED_BYTES: usize = 1 << 20;
/// How many events are looked at for a checkpoint where the client leaves it to the server.
const USUAL_WINDOW: u64 = 32;

enum Test {
    Prefixes(Vec<String>),
    Expression(Box<Regex>),
}

/// Which events of the log a reader wants.
pub(crate) struct Filter {
    of_streams: bool,
    test: Test,
    /// After how many events looked at a checkpoint is due.
    pub checkpoint_interval: u64,
}

impl Filter {
    /// The filter that a client asks for.
    pub fn new(options: FilterOptions) -> Result<Self, Status> {
        let (of_streams, expression) = match options.by {
            Some(FilterBy::Stream(expression)) => (true, expression),
            Some(FilterBy::Type(expression)) => (false, expression),
            None => return Err(Status::invalid_argument("the filter has no expression")),
        };
        let window = match options.window {
            Some(Window::Most(most)) => u64::from(most),
            Some(Window::Usual(())) | None => USUAL_WINDOW,
        };
        let interval = window.saturating_mul(u64::from(options.checkpoint_interval.max(1)));
        Ok(Self {
            of_streams,
            test: test(expression)?,
            checkpoint_interval: interval.max(1),
        })
    }

    /// Whether an event passes.
    pub fn passes(&self, event: &RecordedEvent) -> Result<bool, Status> {
        let name = if self.of_streams {
            event.stream.as_str()
        } else {
            &event.type_name
        };
        match &self.test {
            Test::Prefixes(prefixes) => Ok(prefixes.iter().any(|p| name.starts_with(p.as_str()))),
            Test::Expression(regex) => regex.is_match(name).map_err(|_| {
                Status::invalid_argument(
                    "the filter's expression takes too long; write it with less repetition",
                )
            }),
        }
    }
}

fn test(expression: Expression) -> Result<Test, Status> {
    if !expression.prefixes.is_empty() {
        if expression.prefixes.len() > MOST_PREFIXES {
            return Err(Status::invalid_argument(format!(
                "the filter has more than {MOST_PREFIXES} prefixes"
            )));
        }
        return Ok(Test::Prefixes(expression.prefixes));
    }
    if expression.regex.len() > LONGEST_EXPRESSION {
        return Err(Status::invalid_argument(format!(
            "the filter's expression has more than {LONGEST_EXPRESSION} bytes"
        )));
    }
    RegexBuilder::new(&expression.regex)
        .backtrack_limit(BACKTRACKING)
        .delegate_size_limit(COMPILED_BYTES)
        .build()
        .map(|regex| Test::Expression(Box::new(regex)))
        .map_err(|error| {
            Status::invalid_argument(format!("the filter's expression cannot be read: {error}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_types(regex: &str) -> Result<Filter, Status> {
        Filter::new(FilterOptions {
            by: Some(FilterBy::Type(Expression {
                regex: regex.into(),
                prefixes: vec![],
            })),
            window: Some(Window::Most(10)),
            checkpoint_interval: 3,
        })
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_refused() {
        assert!(of_types("(").is_err());
        assert!(of_types(&"a".repeat(5_000)).is_err());
        assert_eq!(of_types("^a").unwrap().checkpoint_interval, 30);
    }
}
