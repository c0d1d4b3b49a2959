//! What the description of the API says of queries: made from the read models' definitions. It refuses to know any read
//! model by name, but that of accounts, which has routes of its own.

use read_models::{Access, Column, ColumnType, ReadModel};
use serde_json::{Map, Value, json};
use web::codes;
use web::openapi::{
    Answer, FAULTS, JSON, Method, NOT_KNOWN, Operation, Parameter, Place, Refusal, Security, after,
};

use crate::access::{OPERATOR, READ_SESSIONS};
use crate::grammar::{CURSOR, DEFAULT_LIMIT, MAX_LIMIT, MAX_OFFSET};
use crate::negotiation::Form;
use crate::routes::ACCOUNTS;
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
    operations.extend(of_operators());
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

/// A row as it is answered. No column is always there: `select` leaves out, and so do scopes.
fn row(model: &ReadModel) -> Value {
    let key = model.key.iter().map(|column| (column, false));
    let others = model.columns.iter().map(|column| (column, true));
    let mut properties: Map<String, Value> = key
        .chain(others)
        .map(|(column, nullable)| (column.name.clone(), value(column, nullable)))
        .collect();
    let position = json!({ "type": "integer", "description": "The log position of the last event that changed it." });
    let updated_at =
        json!({ "type": "string", "format": "date-time", "description": "That event's time." });
    properties.insert("_position".to_owned(), position);
    properties.insert("_updated_at".to_owned(), updated_at);
    json!({ "type": "object", "properties": properties })
}

/// The JSON of a column's values.
fn value(column: &Column, nullable: bool) -> Value {
    let mut schema = stored(column.column_type);
    if nullable && let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(scope) = &column.scope {
        schema["description"] = json!(format!("With the scope `{scope}` alone."));
    }
    schema
}

fn stored(column_type: ColumnType) -> Value {
    match column_type {
        ColumnType::Text => json!({ "type": "string" }),
        ColumnType::Integer => json!({ "type": "integer", "format": "int64" }),
        ColumnType::Boolean => json!({ "type": "boolean" }),
        ColumnType::Timestamp => json!({ "type": "string", "format": "date-time" }),
        ColumnType::Date => json!({ "type": "string", "format": "date" }),
        ColumnType::Uuid => json!({ "type": "string", "format": "uuid" }),
        ColumnType::Decimal { scale } => json!({
            "type": "number", "description": format!("Exact, with {scale} digits after the point."),
        }),
        ColumnType::List => json!({ "type": "array", "items": { "type": "string" } }),
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
        (400, codes::QUERY_TOO_SLOW),
        (403, codes::FORBIDDEN),
        (406, codes::NOT_ACCEPTABLE),
        (414, codes::URI_TOO_LONG),
        (429, codes::RATE_LIMITED),
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
        parameters: vec![select(), after(), if_none_match(), last_event_id()],
        body: None,
        answers: vec![answer.with_headers(&["ETag"]), not_modified()],
        problems: refusals(),
    }
}

fn query(name: &str, schema: Value, meaning: impl Into<String>) -> Parameter {
    Parameter::new(Place::Query, name, schema, meaning)
}

fn select() -> Parameter {
    let schema = json!({ "type": "string", "examples": ["*"] });
    query(
        "select",
        schema,
        "These columns, with commas between; `other:a` gives `a` another name. Else all.",
    )
}

fn if_none_match() -> Parameter {
    let meaning = "The ETag of an earlier answer: 304 while nothing changed.";
    let schema = json!({ "type": "string" });
    Parameter::new(Place::Header, "If-None-Match", schema, meaning)
}

fn last_event_id() -> Parameter {
    let meaning = "With `Accept: text/event-stream`: the last id that the client has seen.";
    let schema = json!({ "type": "string" });
    Parameter::new(Place::Header, "Last-Event-ID", schema, meaning)
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
    let path = format!("/v1/{}", model.name);
    let answer = page(model, 200, "The rows that the caller may see.");
    let mut operation = get(
        path,
        &model.name,
        "list",
        format!("List {}", model.name),
        answer,
    );
    operation.description = format!(
        "{} Filters, orders and pages are PostgREST's, on every column: `column=operator.value`.",
        who_sees(model)
    );
    let counted = page(
        model,
        206,
        "The same, where it is not all of those that `Prefer: count=exact` counts.",
    );
    operation.answers.push(counted.with_headers(&["ETag"]));
    operation.problems.extend([
        (406, codes::NOT_ONE_ROW),
        (416, codes::RANGE_NOT_SATISFIABLE),
    ]);
    operation.parameters.extend(filters(model));
    operation.parameters.extend(windows());
    operation
}

/// A list in each of its forms.
fn page(model: &ReadModel, status: u16, meaning: &str) -> Answer {
    let rows = json!({ "type": "array", "items": row_reference(model), "maxItems": MAX_LIMIT });
    let answer = Answer {
        status,
        meaning: meaning.to_owned(),
        headers: Vec::new(),
        content: vec![
            (JSON, rows),
            (Form::Object.media_type(), row_reference(model)),
            (Form::Csv.media_type(), json!({ "type": "string" })),
            live(),
        ],
    };
    answer.with_headers(&["Content-Range"])
}

/// The same as it changes, in the form that asks for it.
fn live() -> (&'static str, Value) {
    let events = "Server-sent events `reset`, `row`, `gone`, `ready` and `end`: docs/live.md.";
    let schema = json!({ "type": "string", "description": events });
    (Form::Events.media_type(), schema)
}

/// A condition on each column, and several at once.
fn filters(model: &ReadModel) -> Vec<Parameter> {
    let columns = model.key.iter().chain(&model.columns);
    let text = |example: &str| json!({ "type": "string", "examples": [example] });
    let mut filters: Vec<Parameter> = columns
        .map(|column| {
            query(
                &column.name,
                text("not.is.null"),
                condition(column.column_type),
            )
        })
        .collect();
    let several = "Conditions like `(a.eq.1,b.is.null)`, of which";
    filters.push(query(
        "and",
        text("(_position.gt.0)"),
        format!("{several} all hold."),
    ));
    filters.push(query(
        "or",
        text("(_position.gt.0)"),
        format!("{several} one holds."),
    ));
    filters.push(query(
        "order",
        text("_position.desc"),
        "Columns with commas between, each with `.asc` or `.desc`.",
    ));
    filters
}

/// What may be asked of a column.
fn condition(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Personal => "`is.null` or `not.is.null`.",
        ColumnType::List => "`cs.{…}`, `is.null`; `not.` before it negates.",
        ColumnType::Text => {
            "`eq`, `neq`, `gt`, `gte`, `lt`, `lte`, `like`, `ilike`, `in.(…)`, `is.null`; `not.` before it negates."
        }
        ColumnType::Boolean => {
            "`eq`, `neq`, `is.true`, `is.false`, `is.unknown`, `is.null`; `not.` before it negates."
        }
        _ => {
            "`eq`, `neq`, `gt`, `gte`, `lt`, `lte`, `in.(…)`, `is.null`; `not.` before it negates."
        }
    }
}

/// Which of the rows that pass.
fn windows() -> [Parameter; 4] {
    let number = |most: u32, usual: u32| json!({ "type": "integer", "minimum": 0, "maximum": most, "default": usual });
    let counts = json!({ "type": "string", "examples": ["count=exact"] });
    [
        query("limit", number(MAX_LIMIT, DEFAULT_LIMIT), "Most rows."),
        query(
            "offset",
            number(MAX_OFFSET, 0),
            "Rows left out before the first.",
        ),
        query(
            CURSOR,
            json!({ "type": "string" }),
            "Out of the `Link` to the next page.",
        ),
        Parameter::new(
            Place::Header,
            "Prefer",
            counts,
            "`count=exact` counts the rows that pass.",
        ),
    ]
}

fn one(model: &ReadModel) -> Operation {
    let mut answer = Answer::json(200, "The row.", row_reference(model));
    answer.content.push(live());
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
    let mut answer = Answer::json(
        200,
        "The row of the caller's account.",
        row_reference(model),
    );
    answer.content.push(live());
    let path = format!("/v1/{ACCOUNTS}/me");
    let mut operation = get(
        path,
        ACCOUNTS,
        "me",
        "Get one's own account".to_owned(),
        answer,
    );
    operation.description = String::from("An API key needs the scope `self:read`.");
    operation.problems.push((404, codes::NOT_FOUND));
    operation
}

fn of_operators() -> [Operation; 3] {
    [
        (
            "rebuilds",
            "List builds of read models",
            "Those that were asked for, or that a changed definition needed; the latest first, at most 200.",
            crate::operations::rebuilds_schema(),
        ),
        (
            "parked",
            "List parked streams",
            "Those of the tables that are read, by read model and position; at most 1,000.",
            crate::operations::parked_schema(),
        ),
        (
            "status",
            "Tell how everything stands",
            "Dependencies, roles, read models and queues, as this process sees them; seen anew every 2 s at most.",
            crate::overview::schema(),
        ),
    ]
    .map(|(name, summary, meaning, schema)| {
        let mut problems = [&FAULTS[..], &NOT_KNOWN[..]].concat();
        problems.extend([(400, codes::MALFORMED), (403, codes::FORBIDDEN)]);
        Operation {
            method: Method::Get,
            path: format!("/v1/operator/{name}"),
            tag: "operator".to_owned(),
            id: format!("operator.{name}"),
            summary: summary.to_owned(),
            description: format!("With the scope `{OPERATOR}`."),
            security: Security::SessionOrKey,
            parameters: vec![after()],
            body: None,
            answers: vec![Answer::json(200, meaning, schema)],
            problems,
        }
    })
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
