//! Parses a command's JSON body into typed fields and collects every problem, each with its JSON pointer (RFC 6901).
//! Getters return a harmless value after a problem, so that the rest is still checked; the driver looks at the problems
//! before it uses the command.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;
use web::FieldError;

use crate::CommandError;

/// A problem of one field: its stable code and a sentence that says what to write.
pub type Problem = (&'static str, String);

/// Checks a text and brings it into its canonical form.
pub type Rule = fn(&str) -> Result<String, Problem>;

/// A body being parsed.
#[derive(Debug)]
pub struct Form {
    pointer: String,
    fields: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
    now: DateTime<Utc>,
    account: Option<Uuid>,
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
        }
    }

    /// A body of one text alone, which must never be shown.
    pub(crate) fn only_secret(mut self, name: &'static str) -> Result<SecretString, CommandError> {
        let secret = self.password(name);
        self.whole(secret)
    }

    /// A body without fields.
    pub(crate) fn nothing(self) -> Result<(), CommandError> {
        self.whole(Some(()))
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
        self.optional_text(name, rule).unwrap_or_else(|| {
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
        match self.take(name)? {
            Value::Null => Some(None),
            Value::String(text) => match rule(&text) {
                Ok(text) => Some(Some(text)),
                Err((code, detail)) => {
                    self.refuse(name, code, detail);
                    None
                }
            },
            other => {
                self.refuse(
                    name,
                    "wrong_type",
                    format!("write a text, not {}", kind(&other)),
                );
                None
            }
        }
    }

    /// A required text that must never be shown.
    pub fn password(&mut self, name: &'static str) -> Option<SecretString> {
        match self.take(name) {
            None | Some(Value::Null) => {
                self.require(name);
                None
            }
            Some(Value::String(text)) => Some(text.into()),
            Some(other) => {
                self.refuse(
                    name,
                    "wrong_type",
                    format!("write a text, not {}", kind(&other)),
                );
                None
            }
        }
    }

    /// A required integer within a range.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<i64>) -> i64 {
        let Some(value) = self.take(name).filter(|v| !v.is_null()) else {
            self.require(name);
            return *range.start();
        };
        match value.as_i64() {
            Some(number) if range.contains(&number) => return number,
            Some(_) => self.refuse(
                name,
                "out_of_range",
                format!("write a number from {} to {}", range.start(), range.end()),
            ),
            None => self.refuse(
                name,
                "wrong_type",
                format!("write an integer, not {}", kind(&value)),
            ),
        }
        *range.start()
    }

    /// A JSON value of any type that may be left out.
    pub fn value(&mut self, name: &'static str) -> Option<Value> {
        self.take(name)
    }

    /// A required object with fields of its own.
    pub fn object<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        let value = self.take(name);
        let fields = match value {
            Some(Value::Object(fields)) => fields,
            None | Some(Value::Null) => {
                self.require(name);
                return None;
            }
            Some(other) => {
                self.refuse(
                    name,
                    "wrong_type",
                    format!("write an object, not {}", kind(&other)),
                );
                return None;
            }
        };
        let mut inner = Self {
            pointer: format!("{}/{name}", self.pointer),
            fields,
            known: Vec::new(),
            errors: Vec::new(),
            now: self.now,
            account: self.account,
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

    /// Nothing is wrong so far and no unknown field is left.
    pub fn is_clean(&self) -> bool {
        self.fields.is_empty() && self.errors.is_empty()
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

    fn take(&mut self, name: &'static str) -> Option<Value> {
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
mod tests {
    use super::*;

    fn form(body: Value) -> Form {
        let Value::Object(fields) = body else {
            panic!("a body is an object")
        };
        Form::new(fields, DateTime::UNIX_EPOCH, None)
    }

    fn any(text: &str) -> Result<String, Problem> {
        if text.is_empty() {
            Err(("too_short", "write something".into()))
        } else {
            Ok(text.to_owned())
        }
    }

    fn found(errors: &[FieldError]) -> Vec<(&str, &str)> {
        errors
            .iter()
            .map(|error| (error.pointer.as_str(), error.code))
            .collect()
    }

    #[test]
    fn every_problem_is_reported_at_once_with_its_pointer() {
        let mut form = form(serde_json::json!({
            "seats": 0, "name": "", "profile": {"given": 3, "odd/~": 1}, "more": true
        }));
        form.integer("seats", 1..=10);
        form.text("name", any);
        form.text("missing", any);
        form.object("profile", |profile| profile.optional_text("given", any));
        assert_eq!(
            found(&form.finish()),
            [
                ("/seats", "out_of_range"),
                ("/name", "too_short"),
                ("/missing", "required"),
                ("/profile/given", "wrong_type"),
                ("/profile/odd~1~0", "unknown_field"),
                ("/more", "unknown_field"),
            ]
        );
    }

    #[test]
    fn absent_null_and_set_are_three_things() {
        let mut form = form(serde_json::json!({"cleared": null, "set": "x"}));
        assert_eq!(form.nullable_text("absent", any), None);
        assert_eq!(form.nullable_text("cleared", any), Some(None));
        assert_eq!(form.nullable_text("set", any), Some(Some("x".into())));
        assert!(form.finish().is_empty());
    }
}
