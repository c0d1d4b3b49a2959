//! A rule for a text: how it is checked and brought into its canonical form, and what the description of the API says of
//! it. One definition serves both. It refuses to judge what needs more than the text alone.

use serde_json::{Map, Value, json};

use crate::form::Problem;

/// Checks a text and brings it into its canonical form.
pub type Check = fn(&str) -> Result<String, Problem>;

/// What one text of a body must be.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    check: Check,
    shortest: usize,
    longest: usize,
    format: &'static str,
    pattern: &'static str,
    example: &'static str,
    meaning: &'static str,
}

impl Rule {
    /// A rule that is described as any text; the functions below say more.
    pub const fn new(check: Check) -> Self {
        Self {
            check,
            shortest: 0,
            longest: usize::MAX,
            format: "",
            pattern: "",
            example: "",
            meaning: "",
        }
    }

    /// Bounds of the text as it is sent, in Unicode code points. What is outside is `too_short` or `too_long` and not
    /// checked any further.
    #[must_use]
    pub const fn of_length(mut self, shortest: usize, longest: usize) -> Self {
        (self.shortest, self.longest) = (shortest, longest);
        self
    }

    /// Says a `format` of JSON Schema, like `date`: a promise that the check keeps.
    #[must_use]
    pub const fn format(mut self, format: &'static str) -> Self {
        self.format = format;
        self
    }

    /// Says a regular expression (ECMA-262) that every text has which the check lets through.
    #[must_use]
    pub const fn pattern(mut self, pattern: &'static str) -> Self {
        self.pattern = pattern;
        self
    }

    /// Says a text that the check lets through.
    #[must_use]
    pub const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    /// Says in a sentence what is meant.
    #[must_use]
    pub const fn meaning(mut self, meaning: &'static str) -> Self {
        self.meaning = meaning;
        self
    }

    /// The canonical form, or a code and a sentence that says what to write.
    pub fn check(&self, text: &str) -> Result<String, Problem> {
        // Counted lazily, so that a huge text costs no more than a long one.
        let length = text.chars().take(self.longest.saturating_add(1)).count();
        if length < self.shortest {
            let least = self.shortest;
            return Err(("too_short", format!("write at least {least} characters")));
        }
        if length > self.longest {
            let most = self.longest;
            return Err(("too_long", format!("write at most {most} characters")));
        }
        (self.check)(text)
    }

    /// The JSON Schema of what is sent.
    pub(crate) fn schema(&self) -> Value {
        let mut schema = Map::from_iter([("type".to_owned(), json!("string"))]);
        let mut say = |name: &str, value: Value| _ = schema.insert(name.to_owned(), value);
        if self.shortest > 0 {
            say("minLength", json!(self.shortest));
        }
        if self.longest < usize::MAX {
            say("maxLength", json!(self.longest));
        }
        for (name, text) in [
            ("format", self.format),
            ("pattern", self.pattern),
            ("description", self.meaning),
        ] {
            if !text.is_empty() {
                say(name, json!(text));
            }
        }
        if !self.example.is_empty() {
            say("examples", json!([self.example]));
        }
        Value::Object(schema)
    }
}
