//! What the description of the API says of queries: made from the read models' definitions. It refuses to know any read
//! model by name, but that of accounts, which has routes of its own.

use read_models::{Access, Column, ColumnType, ReadModel};
use serde_json::{Map, Value, json};
use web::codes;
use web::openapi::{
    Answer, FAULTS, Method, NOT_KNOWN, Operation, Parameter, Place, Refusal, Security, after,
};

use crate::access::READ_SESSIONS;
use crate::parameters::{DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET};
use crate::routes::ACCOUNTS;
use crate::rows::HIDDEN;
use crate::state::QueryState;

/// Every query route, as it is described: two a read model, and those of accounts.
pub fn describe(state: &QueryState) -> Vec<Operation> {
    let mut operations = Vec::new();
    for model in state.models() {
        operations.extend([list(model), one(model)]);
        if model.name == ACCOUNTS {
            operations.push(me(model));
        }
    }
    operations.push(sessions());
    operations
}

/// The schemas that the operations refer to: a row of each read model.
pub fn schemas(state: &QueryState) -> Vec<(String, Value)> {
    let models = state.models();
    models.map(|model| (row_name(model), row(model))).collect()
}

fn row_name(model: &ReadModel) -> String {
    format!("row.{}", model.name)
}

fn row_reference(model: &ReadModel) -> Value {
    json!({ "$ref": format!("#/components/schemas/{}", row_name(model)) })
}

/// A row as it is answered.
fn row(model: &ReadModel) -> Value {
    let key = model.key.iter().map(|column| (column, false));
    let others = model.columns.iter().map(|column| (column, true));
    let mut properties: Map<String, Value> = key
        .chain(others)
        .map(|(column, nullable)| (column.name.clone(), value(column, nullable)))
        .collect();
    let [position, updated_at] = HIDDEN;
    let hidden = [
        (
            position,
            json!({ "type": "integer", "description": "The log position of the last event that changed it." }),
        ),
        (
            updated_at,
            json!({ "type": "string", "format": "date-time", "description": "That event's time." }),
        ),
    ];
    properties.extend(hidden.map(|(name, schema)| (name.to_owned(), schema)));
    let required: Vec<&String> = properties.keys().collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// The JSON of a column's values.
fn value(column: &Column, nullable: bool) -> Value {
    let mut schema = text_or_number(column.column_type);
    if nullable && let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    schema
}

fn text_or_number(column_type: ColumnType) -> Value {
    match column_type {
        ColumnType::Text => json!({ "type": "string" }),
        ColumnType::Integer => json!({ "type": "integer", "format": "int64" }),
        ColumnType::Boolean => json!({ "type": "boolean" }),
        ColumnType::Timestamp => json!({ "type": "string", "format": "date-time" }),
        ColumnType::Date => json!({ "type": "string", "format": "date" }),
        ColumnType::Uuid => json!({ "type": "string", "format": "uuid" }),
        ColumnType::Personal => json!({
            "description": "What the person gave; `null` for whoever may not see it, and once the person is erased.",
        }),
    }
}

/// What every query from a read model may answer besides rows.
fn refusals() -> Vec<Refusal> {
    let mut problems = [&FAULTS[..], &NOT_KNOWN[..]].concat();
    problems.extend([
        (400, codes::MALFORMED),
        (400, codes::TOKEN_OF_ANOTHER_LOG),
        (403, codes::FORBIDDEN),
        (503, codes::NOT_YET_PROJECTED),
        (503, codes::PARKED),
    ]);
    problems
}

fn who_sees(model: &ReadModel) -> String {
    let scope = format!("`read:{}`", model.name);
    let personal = "An API key needs the scope `self:read` to be its owner.";
    match &model.access {
        Access::Scope => format!("Rows are for holders of the scope {scope}."),
        Access::Owner { column } => format!(
            "The account in `{column}` sees its own rows, and holders of the scope {scope} all. {personal}"
        ),
        Access::Authenticated => format!("Rows are for everybody with a token. {personal}"),
    }
}

fn get(path: String, tag: &str, name: &str, summary: String, answer: Answer) -> Operation {
    Operation {
        method: Method::Get,
        path,
        tag: tag.to_owned(),
        id: format!("{tag}.{name}"),
        summary,
        description: String::new(),
        security: Security::SessionOrKey,
        parameters: vec![after(), if_none_match()],
        body: None,
        answers: vec![answer.with_headers(&["ETag"]), not_modified()],
        problems: refusals(),
    }
}

fn if_none_match() -> Parameter {
    let meaning = "The ETag of an earlier answer: 304 while nothing changed.";
    let schema = json!({ "type": "string" });
    Parameter::new(Place::Header, "If-None-Match", schema, meaning)
}

fn not_modified() -> Answer {
    Answer {
        status: 304,
        meaning: "It is what `If-None-Match` names.".to_owned(),
        headers: vec!["ETag"],
        content: Vec::new(),
    }
}

fn list(model: &ReadModel) -> Operation {
    let schema = json!({ "type": "array", "items": row_reference(model), "maxItems": MAX_LIMIT });
    let answer = Answer::json(200, "The rows that the caller may see.", schema);
    let path = format!("/v1/{}", model.name);
    let mut operation = get(
        path,
        &model.name,
        "list",
        format!("List {}", model.name),
        answer,
    );
    operation.description = who_sees(model);
    let number = |most: u32, usual: u32| json!({ "type": "integer", "minimum": 0, "maximum": most, "default": usual });
    let query = |name, schema, meaning| Parameter::new(Place::Query, name, schema, meaning);
    operation.parameters.extend([
        query("limit", number(MAX_LIMIT, DEFAULT_LIMIT), "Most rows."),
        query(
            "offset",
            number(MAX_OFFSET, 0),
            "Rows left out before the first.",
        ),
    ]);
    operation
}

fn one(model: &ReadModel) -> Operation {
    let answer = Answer::json(200, "The row.", row_reference(model));
    let path = format!("/v1/{}/{{key}}", model.name);
    let mut operation = get(
        path,
        &model.name,
        "get",
        format!("Get one of {}", model.name),
        answer,
    );
    operation.description = who_sees(model);
    operation.parameters.insert(0, key(model));
    operation.problems.push((404, codes::NOT_FOUND));
    operation
}

fn key(model: &ReadModel) -> Parameter {
    if let [column] = model.key.as_slice() {
        let schema = value(column, false);
        return Parameter::new(Place::Path, "key", schema, format!("`{}`.", column.name));
    }
    let names: Vec<_> = model
        .key
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let meaning = format!(
        "`{}`, percent-encoded one by one, with commas between.",
        names.join("`, `")
    );
    let schema = json!({ "type": "string", "minLength": 1 });
    Parameter::new(Place::Path, "key", schema, meaning)
}

fn me(model: &ReadModel) -> Operation {
    let answer = Answer::json(
        200,
        "The row of the caller's account.",
        row_reference(model),
    );
    let path = format!("/v1/{ACCOUNTS}/me");
    let mut operation = get(
        path,
        ACCOUNTS,
        "me",
        "Get one's own account".to_owned(),
        answer,
    );
    operation.description = "An API key needs the scope `self:read`.".to_owned();
    operation.problems.push((404, codes::NOT_FOUND));
    operation
}

fn sessions() -> Operation {
    let id = json!({ "anyOf": [{ "const": "me" }, { "type": "string", "format": "uuid" }], "examples": ["me"] });
    let answer = Answer::json(
        200,
        "The open sessions, the newest first.",
        crate::sessions::schema(),
    );
    let mut problems = [&FAULTS[..], &NOT_KNOWN[..]].concat();
    problems.extend([
        (400, codes::MALFORMED),
        (403, codes::FORBIDDEN),
        (404, codes::NOT_FOUND),
    ]);
    Operation {
        method: Method::Get,
        path: format!("/v1/{ACCOUNTS}/{{id}}/sessions"),
        tag: ACCOUNTS.to_owned(),
        id: format!("{ACCOUNTS}.sessions"),
        summary: "List an account's open sessions".to_owned(),
        description: format!("For the account itself, and holders of the scope `{READ_SESSIONS}`."),
        security: Security::SessionOrKey,
        parameters: vec![
            Parameter::new(Place::Path, "id", id, "The account; `me` is one's own."),
            after(),
        ],
        body: None,
        answers: vec![answer],
        problems,
    }
}
