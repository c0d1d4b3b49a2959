//! The description of the API (OpenAPI 3.1): a few plain types that become one JSON document. What both APIs share stands
//! here once: security schemes, headers, problem details. It refuses to know any route: whoever serves one describes it.

mod document;
mod serve;

use serde_json::{Value, json};

pub use self::document::Description;
use crate::codes;

/// The media type of JSON answers.
pub const JSON: &str = "application/json";

/// An HTTP method that routes here use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Gives a command.
    Post,
}

/// What a request must bring to be listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Nothing.
    Open,
    /// The access token of a log-in.
    Session,
    /// The access token of a log-in, or an API key.
    SessionOrKey,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the path, as `{name}`.
    Path,
    /// In the query string.
    Query,
    /// In a header, which means the same wherever it may be sent.
    Header,
}

/// A parameter of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Where it stands. What stands in the path is required, all else is not.
    pub place: Place,
    /// What it is for, in Markdown.
    pub meaning: String,
    /// The JSON Schema of its value.
    pub schema: Value,
}

impl Parameter {
    /// A parameter.
    pub fn new(place: Place, name: &str, schema: Value, meaning: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            place,
            meaning: meaning.into(),
            schema,
        }
    }
}

/// What an operation answers when nothing is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What it means.
    pub meaning: String,
    /// The headers that it always carries, each in [`HEADERS`].
    pub headers: Vec<&'static str>,
    /// Its body in each media type, with the JSON Schema; none where it has no body.
    pub content: Vec<(&'static str, Value)>,
}

impl Answer {
    /// An answer in JSON.
    pub fn json(status: u16, meaning: impl Into<String>, schema: Value) -> Self {
        Self {
            status,
            meaning: meaning.into(),
            headers: Vec::new(),
            content: vec![(JSON, schema)],
        }
    }

    /// Adds headers of [`HEADERS`].
    #[must_use]
    pub fn with_headers(mut self, names: &[&'static str]) -> Self {
        self.headers.extend_from_slice(names);
        self
    }
}

/// One method of one path.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// The method.
    pub method: Method,
    /// The whole path, `{name}` where a parameter stands.
    pub path: String,
    /// What it belongs to; pages show these together.
    pub tag: String,
    /// A name of its own, for code that is made from the document.
    pub id: String,
    /// A few words.
    pub summary: String,
    /// More, in Markdown.
    pub description: String,
    /// What a request must bring.
    pub security: Security,
    /// Parameters.
    pub parameters: Vec<Parameter>,
    /// The JSON Schema of the body that it takes.
    pub body: Option<Value>,
    /// What it answers when nothing is wrong.
    pub answers: Vec<Answer>,
    /// What else it may answer: statuses with codes of problem details.
    pub problems: Vec<Refusal>,
}

/// A status with a code of problem details.
pub type Refusal = (u16, &'static str);

/// Stands for the codes of a domain that does not list them.
pub const ANY_CODE: &str = "*";

/// What any route may answer, however it came to the request.
pub const FAULTS: [Refusal; 4] = [
    (500, codes::INTERNAL),
    (503, codes::UNAVAILABLE),
    (503, codes::OVERLOADED),
    (503, codes::TIMED_OUT),
];
/// What a route may answer that wants to know who asks.
pub const NOT_KNOWN: [Refusal; 2] = [(401, codes::UNAUTHORIZED), (401, codes::INVALID_TOKEN)];
/// What a route may answer that takes a body.
pub const BAD_BODY: [Refusal; 4] = [
    (400, codes::MALFORMED),
    (413, codes::BODY_TOO_LARGE),
    (415, codes::UNSUPPORTED_MEDIA_TYPE),
    (422, codes::INVALID),
];

/// A header of answers: its name, the JSON Schema of its value, its meaning.
pub type Header = (&'static str, fn() -> Value, &'static str);

/// The headers that answers may be said to carry.
pub const HEADERS: [Header; 9] = [
    (
        "ETag",
        || json!({"type": "string", "pattern": "^\"[^\"]+\"$", "examples": ["\"3\""]}),
        "The version of what is answered. Of a command: the stream's, for `If-Match`. Of a query: for `If-None-Match`; the \
         ETag of one row that has a version begins with it, so that it does for `If-Match` too.",
    ),
    (
        crate::POSITION_HEADER,
        || json!({"type": "string"}),
        "Where the log stands after this command, and after all that `Showcaller-After` named. Opaque.",
    ),
    (
        "Location",
        || json!({"type": "string", "format": "uri-reference"}),
        "Where what began is found.",
    ),
    (
        "Content-Range",
        || json!({"type": "string", "examples": ["0-49/1234"]}),
        "Which rows these are, and of how many where that was asked for.",
    ),
    (
        "WWW-Authenticate",
        || json!({"type": "string"}),
        "How to say who asks (RFC 6750).",
    ),
    (
        "Retry-After",
        || json!({"type": "integer", "minimum": 0}),
        "In how many seconds another try makes sense.",
    ),
    (
        "RateLimit-Limit",
        || json!({"type": "integer"}),
        "How many there may be in a minute.",
    ),
    (
        "RateLimit-Remaining",
        || json!({"type": "integer"}),
        "How many are left.",
    ),
    (
        "RateLimit-Reset",
        || json!({"type": "integer"}),
        "In how many seconds counting begins anew.",
    ),
];

/// `Showcaller-After`.
pub fn after() -> Parameter {
    Parameter::new(
        Place::Header,
        crate::AFTER_HEADER,
        json!({"type": "string"}),
        "A `Showcaller-Position` of an earlier answer. A query waits until it can answer from there on, 2 seconds at most; a \
         command adds it to the position that it answers.",
    )
}

/// A value that fits a JSON Schema of this document, made from its examples: what a reader may send as it is.
pub fn example(schema: &Value) -> Value {
    if let Some(first) = schema["examples"].get(0).or_else(|| schema["enum"].get(0)) {
        return first.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return example(first);
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str());
    match kind {
        Some("object") => object_example(schema),
        Some("integer") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("string") => json!("…"),
        _ => Value::Null,
    }
}

/// The required fields; one where at least one is wanted.
fn object_example(schema: &Value) -> Value {
    let Some(properties) = schema["properties"].as_object() else {
        return json!({});
    };
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.iter().any(|wanted| wanted == name))
    };
    let least = usize::from(schema["minProperties"].is_number());
    let wanted = properties.iter().filter(|(name, _)| required(name));
    let extra = properties.iter().filter(|(name, _)| !required(name));
    let missing = least.saturating_sub(wanted.clone().count());
    wanted
        .chain(extra.take(missing))
        .map(|(name, schema)| (name.clone(), example(schema)))
        .collect()
}
