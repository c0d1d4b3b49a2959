//! Parses a command's JSON body into typed fields and collects every problem, each with its JSON pointer (RFC 6901).
//! Getters return a harmless value after a problem, so that the rest is still checked; the driver looks at the problems
//! before it uses the command.
//!
//! The same parsing function describes the body: run over a form that only listens, it names every field it would take.
//! So it must not make the taking of one field depend on what another holds.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use web::FieldError;

use crate::shape::{self, Shape};
use crate::{CommandError, Rule};

/// A problem of one field: its stable code and a sentence that says what to write.
pub type Problem = (&'static str, String);

/// A body being parsed.
#[derive(Debug)]
pub struct Form {
    pointer: String,
    fields: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
    now: DateTime<Utc>,
    account: Option<Uuid>,
    /// What is said of the body; `None` while one is parsed.
    shape: Option<Shape>,
}

impl Form {
    /// A whole body, sent at `now` by the holder of `account`'s token.
    pub fn new(fields: Map<String, Value>, now: DateTime<Utc>, account: Option<Uuid>) -> Self {
        Self {
            pointer: String::new(),
            fields,
            known: Vec::new(),
            errors: Vec::new(),
            now,
            account,
            shape: None,
        }
    }

    /// The JSON Schema of the bodies that a function parses.
    pub(crate) fn describe<T>(parse: impl FnOnce(&mut Self) -> T) -> Value {
        let mut form = Self::new(Map::new(), DateTime::UNIX_EPOCH, None);
        form.shape = Some(Shape::default());
        parse(&mut form);
        form.shape.unwrap_or_default().schema()
    }

    /// What a function parses, if nothing at all is wrong with the body.
    pub(crate) fn parse<T>(
        mut self,
        parse: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, CommandError> {
        let parsed = parse(&mut self);
        self.whole(parsed)
    }

    /// When the command was accepted: the only time a decider may know, so commands that need it carry it.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Who sends the command; nil when nobody is logged in, which only registering allows.
    pub fn account(&self) -> Uuid {
        self.account.unwrap_or_default()
    }

    /// A required text.
    pub fn text(&mut self, name: &'static str, rule: Rule) -> String {
        let value = self.take(name, true, || rule.schema());
        let text = value.and_then(|value| self.checked(name, rule, value));
        text.flatten().unwrap_or_else(|| {
            self.require(name);
            String::new()
        })
    }

    /// A text that may be left out; `null` counts as left out.
    pub fn optional_text(&mut self, name: &'static str, rule: Rule) -> Option<String> {
        self.nullable_text(name, rule).flatten()
    }

    /// A text that may be left out (`None`) or cleared with `null` (`Some(None)`).
    pub fn nullable_text(&mut self, name: &'static str, rule: Rule) -> Option<Option<String>> {
        let value = self.take(name, false, || shape::or_null(rule.schema()))?;
        self.checked(name, rule, value)
    }

    /// A text that may be left out but never cleared.
    pub fn kept_text(&mut self, name: &'static str, rule: Rule) -> Option<String> {
        let value = self.take(name, false, || rule.schema())?;
        let text = self.checked(name, rule, value)?;
        if text.is_none() {
            self.refuse(name, "required", "this can be changed but not cleared");
        }
        text
    }

    #[expect(clippy::option_option, reason = "wrong, null and set are three things")]
    fn checked(&mut self, name: &'static str, rule: Rule, value: Value) -> Option<Option<String>> {
        match value {
            Value::Null => Some(None),
            Value::String(text) => match rule.check(&text) {
                Ok(text) => Some(Some(text)),
                Err((code, detail)) => {
                    self.refuse(name, code, detail);
                    None
                }
            },
            other => {
                self.mistyped(name, "a text", &other);
                None
            }
        }
    }

    /// One of a few texts, which must be there.
    pub fn choice(&mut self, name: &'static str, code: &'static str, of: &[&str]) -> String {
        let value = self.take(name, true, || json!({"type": "string", "enum": of}));
        let text = value.and_then(|value| self.chosen(name, code, of, value));
        text.unwrap_or_else(|| {
            self.require(name);
            String::new()
        })
    }

    /// One of a few texts, that may be left out; `null` counts as left out.
    pub fn optional_choice(
        &mut self,
        name: &'static str,
        code: &'static str,
        of: &[&str],
    ) -> Option<String> {
        let value = self.take(name, false, || shape::one_of_or_null(of))?;
        self.chosen(name, code, of, value)
    }

    fn chosen(
        &mut self,
        name: &'static str,
        code: &'static str,
        of: &[&str],
        value: Value,
    ) -> Option<String> {
        match value {
            Value::Null => None,
            Value::String(text) if of.contains(&text.as_str()) => Some(text),
            Value::String(_) => {
                self.refuse(name, code, format!("write one of: {}", of.join(", ")));
                None
            }
            other => {
                self.mistyped(name, "a text", &other);
                None
            }
        }
    }

    /// Yes or no; what is left out, or `null`, is no.
    pub fn optional_flag(&mut self, name: &'static str) -> bool {
        match self.take(name, false, || json!({"type": ["boolean", "null"]})) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => {
                self.mistyped(name, "true or false", &other);
                false
            }
        }
    }

    /// A required text that must never be shown.
    pub fn password(&mut self, name: &'static str) -> Option<SecretString> {
        self.secret(name, shape::secret)
    }

    /// A required text that must never be shown, described by a schema.
    pub(crate) fn secret(
        &mut self,
        name: &'static str,
        schema: impl FnOnce() -> Value,
    ) -> Option<SecretString> {
        match self.take(name, true, schema) {
            None | Some(Value::Null) => {
                self.require(name);
                None
            }
            Some(Value::String(text)) => Some(text.into()),
            Some(other) => {
                self.mistyped(name, "a text", &other);
                None
            }
        }
    }

    /// A required list of at least one text, each brought into its form by `accept`, which says why not.
    pub fn texts(
        &mut self,
        name: &'static str,
        example: &str,
        accept: impl Fn(&str) -> Result<String, Problem>,
    ) -> Vec<String> {
        let list = match self.take(name, true, || shape::texts(example)) {
            Some(Value::Array(list)) if !list.is_empty() => list,
            _ => {
                let detail = format!("write a list, for example [{example:?}]");
                self.refuse(name, "required", detail);
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(list.len());
        for value in &list {
            match value.as_str().map(&accept) {
                Some(Ok(text)) => texts.push(text),
                Some(Err((code, detail))) => self.refuse(name, code, detail),
                None => self.mistyped(name, "a list of texts", value),
            }
        }
        texts
    }

    /// A required integer within a range.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<i64>) -> i64 {
        let (least, most) = (*range.start(), *range.end());
        let schema = || json!({"type": "integer", "minimum": least, "maximum": most});
        let Some(value) = self.take(name, true, schema).filter(|v| !v.is_null()) else {
            self.require(name);
            return least;
        };
        match value.as_i64() {
            Some(number) if range.contains(&number) => return number,
            Some(_) => self.refuse(
                name,
                "out_of_range",
                format!("write a number from {least} to {most}"),
            ),
            None => self.mistyped(name, "an integer", &value),
        }
        least
    }

    /// A JSON value of any type that may be left out.
    pub fn value(&mut self, name: &'static str) -> Option<Value> {
        self.take(name, false, || json!({}))
    }

    /// An object of at most so many fields, whatever these are, that may be left out; `null` counts as left out.
    pub fn optional_map(
        &mut self,
        name: &'static str,
        most_fields: usize,
    ) -> Option<Map<String, Value>> {
        match self.take(name, false, || shape::map_or_null(most_fields))? {
            Value::Null => None,
            Value::Object(fields) => {
                let found = fields.len();
                if found > most_fields {
                    let detail = format!("write at most {most_fields} fields; these are {found}");
                    self.refuse(name, "too_many", detail);
                }
                Some(fields)
            }
            other => {
                self.mistyped(name, "an object", &other);
                None
            }
        }
    }

    /// A required object with fields of its own.
    pub fn object<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        if let Some(shape) = &mut self.shape {
            shape.add(name, true, Self::describe(parse));
            return None;
        }
        let fields = match self.take(name, true, Value::default) {
            Some(Value::Object(fields)) => fields,
            None | Some(Value::Null) => {
                self.require(name);
                return None;
            }
            Some(other) => {
                self.mistyped(name, "an object", &other);
                return None;
            }
        };
        let mut inner = Self {
            pointer: format!("{}/{name}", self.pointer),
            ..Self::new(fields, self.now, self.account)
        };
        let parsed = parse(&mut inner);
        self.errors.append(&mut inner.finish());
        Some(parsed)
    }

    /// Says that a field is wrong.
    pub fn refuse(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError {
            pointer: self.pointer_to(name),
            code,
            detail: detail.into(),
        });
    }

    /// Says that the object as a whole is wrong.
    pub fn refuse_whole(&mut self, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError {
            pointer: self.pointer.clone(),
            code,
            detail: detail.into(),
        });
    }

    /// Refuses a body that says nothing, if nothing else is wrong with it: `said` is whether it said anything.
    pub fn at_least_one(&mut self, said: bool, detail: &str) {
        if let Some(shape) = &mut self.shape {
            shape.at_least_one();
        } else if !said && self.fields.is_empty() && self.errors.is_empty() {
            self.refuse_whole("empty", detail);
        }
    }

    /// Every problem, unknown fields included; empty when the command may be used.
    pub fn finish(mut self) -> Vec<FieldError> {
        let unknown: Vec<String> = self.fields.keys().cloned().collect();
        for name in unknown {
            let detail = format!(
                "this field is not known here; known are: {}",
                self.known.join(", ")
            );
            self.refuse(&name, "unknown_field", detail);
        }
        self.errors
    }

    /// What was parsed, if nothing at all is wrong with the body. A required part that is missing was refused before.
    pub fn whole<T>(self, parsed: Option<T>) -> Result<T, CommandError> {
        let errors = self.finish();
        match parsed {
            Some(parsed) if errors.is_empty() => Ok(parsed),
            _ => Err(CommandError::Invalid(errors)),
        }
    }

    fn require(&mut self, name: &'static str) {
        let pointer = self.pointer_to(name);
        if self.errors.iter().all(|error| error.pointer != pointer) {
            self.errors.push(FieldError {
                pointer,
                code: "required",
                detail: "this field is required".into(),
            });
        }
    }

    fn mistyped(&mut self, name: &'static str, wanted: &str, found: &Value) {
        let detail = format!("write {wanted}, not {}", kind(found));
        self.refuse(name, "wrong_type", detail);
    }

    fn take(
        &mut self,
        name: &'static str,
        required: bool,
        schema: impl FnOnce() -> Value,
    ) -> Option<Value> {
        if let Some(shape) = &mut self.shape {
            shape.add(name, required, schema());
        }
        self.known.push(name);
        self.fields.remove(name)
    }

    fn pointer_to(&self, name: &str) -> String {
        format!(
            "{}/{}",
            self.pointer,
            name.replace('~', "~0").replace('/', "~1")
        )
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
