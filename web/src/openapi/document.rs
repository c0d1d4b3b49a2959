//! Operations become the document. What many of them share becomes a component, under a name that says what it is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{ANY_CODE, HEADERS, Method, Operation, Parameter, Place, Security, example};
use crate::{codes, problem};

const SESSION: &str = "accessToken";
const API_KEY: &str = "apiKey";

/// What an API is, operation by operation.
#[derive(Debug, Clone, Default)]
pub struct Description {
    title: String,
    version: String,
    operations: Vec<Operation>,
    schemas: BTreeMap<String, Value>,
    pub(super) messages: Value,
}

impl Description {
    /// Of an application that goes by this title, in this version.
    pub fn new(title: &str, version: &str) -> Self {
        Self {
            title: title.to_owned(),
            version: version.to_owned(),
            ..Self::default()
        }
    }

    /// Adds operations.
    #[must_use]
    pub fn with(mut self, operations: Vec<Operation>) -> Self {
        self.operations.extend(operations);
        self
    }

    /// Adds schemas that operations refer to as `#/components/schemas/{name}`.
    #[must_use]
    pub fn with_schemas(mut self, schemas: impl IntoIterator<Item = (String, Value)>) -> Self {
        self.schemas.extend(schemas);
        self
    }

    /// Adds the AsyncAPI document of what the same application sends over its broker, served beside this one.
    #[must_use]
    pub fn with_messages(mut self, document: Value) -> Self {
        self.messages = document;
        self
    }

    /// Every method and path that was added.
    pub fn routes_described(&self) -> BTreeSet<(Method, String)> {
        let operations = self.operations.iter();
        operations.map(|o| (o.method, o.path.clone())).collect()
    }

    /// The document.
    pub fn document(&self) -> Value {
        let mut parts = Components::default();
        let (mut paths, mut tags) = (BTreeMap::<String, Map<String, Value>>::new(), Vec::new());
        let own = super::serve::operations();
        for operation in self.operations.iter().chain(&own) {
            if !tags.contains(&operation.tag) {
                tags.push(operation.tag.clone());
            }
            let method = match operation.method {
                Method::Get => "get",
                Method::Post => "post",
            };
            let told = parts.operation(operation);
            let methods = paths.entry(operation.path.clone()).or_default();
            methods.insert(method.to_owned(), told);
        }
        let mut schemas = self.schemas.clone();
        schemas.insert("Problem".into(), problem::schema());
        let tags: Vec<_> = tags.iter().map(|tag| json!({ "name": tag })).collect();
        json!({
            "openapi": "3.1.1",
            "info": {
                "title": self.title,
                "version": self.version,
                "description": "Commands say what somebody wants and are answered once it is durable. Queries read what \
                    projections made of it. Errors are problem details (RFC 9457): programs decide by their `code`.",
            },
            "servers": [{ "url": "/" }],
            "tags": tags,
            "paths": paths,
            "components": {
                "schemas": schemas,
                "parameters": parts.parameters,
                "headers": headers(),
                "responses": parts.responses,
                "securitySchemes": {
                    SESSION: {
                        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                        "description": "The `access_token` of `POST /v1/sessions`, good for five minutes.",
                    },
                    API_KEY: {
                        "type": "http", "scheme": "bearer", "bearerFormat": "sck_…",
                        "description": "The `api_key` of `POST /v1/api-keys`. It does what its scopes say.",
                    },
                },
            },
        })
    }
}

/// Where JSON refers to a component.
fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

fn headers() -> Value {
    let told = HEADERS.iter().map(|(name, schema, meaning)| {
        let header = json!({ "description": meaning, "schema": schema() });
        ((*name).to_owned(), header)
    });
    told.collect()
}

/// A header that an answer always carries stands in it as required; a component cannot say so.
fn required_header(name: &str) -> Value {
    let known = HEADERS.iter().find(|(known, ..)| *known == name);
    let (_, schema, meaning) = known.expect("an operation names headers of the table alone");
    json!({ "description": meaning, "required": true, "schema": schema() })
}

/// What operations share.
#[derive(Default)]
struct Components {
    parameters: BTreeMap<String, Value>,
    responses: BTreeMap<String, Value>,
}

impl Components {
    fn operation(&mut self, operation: &Operation) -> Value {
        let parameters: Vec<Value> = operation
            .parameters
            .iter()
            .map(|parameter| self.parameter(parameter))
            .collect();
        let mut told = json!({
            "tags": [operation.tag],
            "operationId": operation.id,
            "summary": operation.summary,
            "security": security(operation.security),
            "parameters": parameters,
            "responses": self.answers(operation),
        });
        if !operation.description.is_empty() {
            told["description"] = json!(operation.description);
        }
        if let Some(schema) = &operation.body {
            let content = json!({ "schema": schema, "example": example(schema) });
            told["requestBody"] = json!({ "required": true, "content": { super::JSON: content } });
        }
        told
    }

    /// A header means the same everywhere, so it is a component.
    fn parameter(&mut self, parameter: &Parameter) -> Value {
        let place = match parameter.place {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
        };
        let told = json!({
            "name": parameter.name,
            "in": place,
            "required": parameter.place == Place::Path,
            "description": parameter.meaning,
            "schema": parameter.schema,
        });
        if parameter.place != Place::Header {
            return told;
        }
        self.parameters.insert(parameter.name.clone(), told);
        reference("parameters", &parameter.name)
    }

    fn answers(&mut self, operation: &Operation) -> Value {
        let mut answers = BTreeMap::new();
        for answer in &operation.answers {
            let mut told = json!({ "description": answer.meaning });
            let names = answer.headers.iter();
            let headers: Map<String, Value> = names
                .map(|name| ((*name).to_owned(), required_header(name)))
                .collect();
            if !headers.is_empty() {
                told["headers"] = Value::Object(headers);
            }
            if !answer.content.is_empty() {
                let content = answer.content.iter().map(|(media, schema)| {
                    let told = json!({ "schema": schema });
                    ((*media).to_owned(), told)
                });
                told["content"] = content.collect();
            }
            answers.insert(answer.status.to_string(), told);
        }
        let mut refusals = BTreeMap::<u16, BTreeSet<&'static str>>::new();
        for (status, code) in &operation.problems {
            refusals.entry(*status).or_default().insert(*code);
        }
        for (status, codes) in refusals {
            answers.insert(status.to_string(), self.refusal(status, &codes));
        }
        json!(answers)
    }

    /// Operations that refuse for the same reasons share the component.
    fn refusal(&mut self, status: u16, codes: &BTreeSet<&'static str>) -> Value {
        let names: Vec<&str> = codes.iter().map(|code| code.trim_matches('*')).collect();
        let name = format!("{status}.{}", names.join("."));
        let name = name.trim_end_matches('.').replace("..", ".");
        self.responses
            .entry(name.clone())
            .or_insert_with(|| refusal(status, codes));
        reference("responses", &name)
    }
}

fn refusal(status: u16, codes: &BTreeSet<&'static str>) -> Value {
    let listed: Vec<&str> = codes.iter().copied().collect();
    let meaning: Vec<String> = listed
        .iter()
        .map(|code| match codes::title(code) {
            Some(title) => format!("`{code}`: {title}."),
            None if *code == ANY_CODE => "Codes of this domain.".to_owned(),
            None => format!("`{code}`."),
        })
        .collect();
    let code = if codes.contains(ANY_CODE) {
        json!({ "type": "string" })
    } else {
        json!({ "enum": listed })
    };
    let own = json!({ "properties": { "status": { "const": status }, "code": code } });
    let mut told = json!({
        "description": meaning.join(" "),
        "content": {
            problem::MEDIA_TYPE: { "schema": { "allOf": [reference("schemas", "Problem"), own] } },
        },
    });
    let names: &[&str] = match status {
        401 => &["WWW-Authenticate"],
        409 | 503 => &["Retry-After"],
        429 => &[
            "Retry-After",
            "RateLimit-Limit",
            "RateLimit-Remaining",
            "RateLimit-Reset",
        ],
        _ => &[],
    };
    if !names.is_empty() {
        let headers = names.iter();
        told["headers"] = headers
            .map(|name| ((*name).to_owned(), reference("headers", name)))
            .collect();
    }
    told
}

fn security(security: Security) -> Value {
    match security {
        Security::Open => json!([]),
        Security::Session => json!([{ SESSION: [] }]),
        Security::SessionOrKey => json!([{ SESSION: [] }, { API_KEY: [] }]),
    }
}
