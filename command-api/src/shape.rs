//! What a form says of itself: the JSON Schema (2020-12) of the bodies that it takes. It refuses to check any body.

use serde_json::{Map, Value, json};

/// The fields of an object, as a parsing function named them.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
    at_least_one: bool,
}

impl Shape {
    pub fn add(&mut self, name: &'static str, required: bool, schema: Value) {
        self.properties.insert(name.to_owned(), schema);
        if required {
            self.required.push(name);
        }
    }

    pub fn at_least_one(&mut self) {
        self.at_least_one = true;
    }

    pub fn schema(self) -> Value {
        let mut schema = json!({
            "type": "object",
            "properties": self.properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        if self.at_least_one {
            schema["minProperties"] = json!(1);
        }
        schema
    }
}

/// The same, or `null`.
pub(crate) fn or_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

pub(crate) fn one_of_or_null(of: &[&str]) -> Value {
    let mut all: Vec<Value> = of.iter().map(|text| json!(text)).collect();
    all.push(Value::Null);
    json!({"type": ["string", "null"], "enum": all})
}

pub(crate) fn secret() -> Value {
    json!({"type": "string", "format": "password"})
}

pub(crate) fn texts(example: &str) -> Value {
    json!({"type": "array", "items": {"type": "string"}, "minItems": 1, "examples": [[example]]})
}

pub(crate) fn map_or_null(most_fields: usize) -> Value {
    json!({"type": ["object", "null"], "maxProperties": most_fields})
}
