//! What a form finds in a body, and what it says of itself.

use super::*;

fn form(body: Value) -> Form {
    let Value::Object(fields) = body else {
        panic!("a body is an object")
    };
    Form::new(fields, DateTime::UNIX_EPOCH, None)
}

const SHORT: Rule = Rule::new(|text| Ok(text.trim().to_owned()))
    .of_length(1, 9)
    .example("Ada");

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
    form.text("name", SHORT);
    form.text("missing", SHORT);
    form.object("profile", |profile| profile.optional_text("given", SHORT));
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
    assert_eq!(form.nullable_text("absent", SHORT), None);
    assert_eq!(form.nullable_text("cleared", SHORT), Some(None));
    assert_eq!(form.nullable_text("set", SHORT), Some(Some("x".into())));
    assert!(form.finish().is_empty());
}

#[test]
fn a_length_is_that_of_what_is_sent_and_a_huge_text_is_not_walked_through() {
    let check = |text: &str| SHORT.check(text).map_err(|(code, _)| code);
    assert_eq!(check(" üüüüüüü "), Ok("üüüüüüü".into()));
    assert_eq!(check(""), Err("too_short"));
    assert_eq!(check("          "), Err("too_long"));
}

#[test]
fn the_function_that_parses_a_body_describes_it() {
    let described = Form::describe(|form| {
        form.integer("seats", 1..=10);
        form.text("name", SHORT);
        form.optional_text("nick", SHORT);
        form.choice("role", "unknown_role", &["a", "b"]);
        form.optional_choice("theme", "unknown_theme", &["dark"]);
        form.texts("scopes", "self:read", |text| Ok(text.to_owned()));
        form.optional_map("custom", 5);
        form.value("any");
        form.object("profile", |profile| {
            profile.kept_text("given", SHORT);
            profile.at_least_one(false, "say something");
        })
    });
    let text =
        serde_json::json!({"type": "string", "minLength": 1, "maxLength": 9, "examples": ["Ada"]});
    let mut optional = text.clone();
    optional["type"] = serde_json::json!(["string", "null"]);
    let expected = serde_json::json!({
        "type": "object",
        "properties": {
            "seats": {"type": "integer", "minimum": 1, "maximum": 10},
            "name": text,
            "nick": optional,
            "role": {"type": "string", "enum": ["a", "b"]},
            "theme": {"type": ["string", "null"], "enum": ["dark", null]},
            "scopes": {"type": "array", "items": {"type": "string"}, "minItems": 1, "examples": [["self:read"]]},
            "custom": {"type": ["object", "null"], "maxProperties": 5},
            "any": {},
            "profile": {
                "type": "object",
                "properties": {"given": text},
                "additionalProperties": false,
                "minProperties": 1,
            },
        },
        "required": ["seats", "name", "role", "scopes", "profile"],
        "additionalProperties": false,
    });
    assert_eq!(described, expected);
}
