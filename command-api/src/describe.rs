//! What the description of the API says of commands. Bodies come from the functions that parse them, and who may from the
//! policy. It refuses to know any field.

use serde_json::{Value, json};
use web::codes;
use web::openapi::{
    ANY_CODE, Answer, BAD_BODY, FAULTS, Method, NOT_KNOWN, Operation, Parameter, Place, Refusal,
    Security, after,
};

use crate::accounts;
use crate::host::{Host, Hosted};
use crate::policy::{Allowed, Rule};
use crate::request::IDEMPOTENCY_KEY_CHARS;
use crate::routes::{CommandState, JWKS_PATH};

/// The name of the schema of what every command answers.
const OUTCOME: &str = "Outcome";

/// Every command route, as it is described.
pub fn describe(state: &CommandState) -> Vec<Operation> {
    let built_in = accounts::describe::operations(state.people());
    let own = state.hosts().filter_map(Host::describe);
    built_in
        .into_iter()
        .chain(own.flat_map(|hosted| of_a_host(&hosted)))
        .chain([jwks()])
        .collect()
}

/// The schemas that the operations refer to.
pub fn schemas() -> [(String, Value); 1] {
    let outcome = json!({
        "type": "object",
        "description": "What every command answers.",
        "properties": {
            "stream": {
                "type": "string",
                "description": "The stream that the command was about.",
                "examples": ["account-01890a5d-ac96-774b-bcce-b302099a8057"],
            },
            "version": { "type": "integer", "minimum": 0, "description": "How many events it has.", "examples": [2] },
            "events": {
                "type": "array",
                "items": { "type": "string" },
                "description": "The types of the events that were appended; none where there was nothing to do.",
                "examples": [["ProfileUpdated"]],
            },
            "token": { "type": "string", "description": "The same as `Showcaller-Position`." },
        },
        "required": ["stream", "version", "events", "token"],
    });
    [(OUTCOME.to_owned(), outcome)]
}

/// What a command answers when it is carried out.
pub(crate) fn outcome(status: u16, shown: Option<Value>) -> Answer {
    let plain = json!({ "$ref": format!("#/components/schemas/{OUTCOME}") });
    let schema = match shown {
        None => plain,
        Some(properties) => {
            let fields = properties.as_object().into_iter().flatten();
            let required: Vec<&String> = fields.map(|(name, _)| name).collect();
            let shown = json!({ "type": "object", "properties": properties, "required": required });
            json!({ "allOf": [plain, shown] })
        }
    };
    let answer = Answer::json(status, "It is carried out, and durable.", schema);
    let answer = answer.with_headers(&["ETag", web::POSITION_HEADER]);
    if status == 201 {
        answer.with_headers(&["Location"])
    } else {
        answer
    }
}

/// One schema of several.
pub(crate) fn any_of(mut schemas: Vec<Value>) -> Value {
    if schemas.len() == 1 {
        return schemas.remove(0);
    }
    json!({ "anyOf": schemas })
}

/// Who may, in words.
pub(crate) fn who_may(rule: &Rule) -> String {
    let who = match rule.allowed {
        Allowed::Anyone => return "For everybody, without a token.".to_owned(),
        Allowed::Owner => "For the account itself.".to_owned(),
        Allowed::OwnerOr(scope) => format!("For the account itself, or with the scope `{scope}`."),
        Allowed::Holder(scope) => format!("With the scope `{scope}`."),
    };
    if rule.fresh {
        format!("{who} The log-in is at most ten minutes ago; an API key does not do.")
    } else {
        format!("{who} An API key needs the scope `self:write` to be the account itself.")
    }
}

/// What the rule lets a command answer, whatever it is about.
pub(crate) fn refusals(rule: &Rule) -> Vec<Refusal> {
    let mut problems = [&BAD_BODY[..], &FAULTS[..]].concat();
    problems.push((409, codes::CONFLICT));
    if rule.allowed != Allowed::Anyone {
        problems.extend(NOT_KNOWN);
        problems.push((403, codes::FORBIDDEN));
    }
    if rule.fresh {
        problems.push((403, crate::codes::FRESH_LOG_IN_REQUIRED));
    }
    if rule.path.contains("{id}") {
        problems.push((404, codes::NOT_FOUND));
    }
    problems
}

/// What a key to a retry adds.
pub(crate) const KEYED: [Refusal; 2] = [
    (409, codes::IN_FLIGHT),
    (422, codes::IDEMPOTENCY_KEY_REUSED),
];
/// What If-Match adds.
pub(crate) const MATCHED: Refusal = (412, codes::PRECONDITION_FAILED);

/// `Idempotency-Key`.
pub(crate) fn idempotency_key() -> Parameter {
    let schema = json!({
        "type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_CHARS, "pattern": "^[!-~]([ -~]*[!-~])?$",
    });
    let meaning = "For a command that must not happen twice: the same key with the same command gets the first answer, \
                   however much later. A UUID serves well.";
    Parameter::new(Place::Header, "Idempotency-Key", schema, meaning)
}

/// `If-Match`.
pub(crate) fn if_match() -> Parameter {
    let schema = json!({ "type": "string", "pattern": "^\"[0-9]{1,19}(\\.[A-Za-z0-9_-]*)?\"$", "examples": ["\"3\""] });
    let meaning = "The ETag of an earlier answer: where the stream is at another version by now, the command is refused.";
    Parameter::new(Place::Header, "If-Match", schema, meaning)
}

/// The id in a command's path.
pub(crate) fn id(schema: Value, meaning: &str) -> Parameter {
    Parameter::new(Place::Path, "id", schema, meaning)
}

/// The commands of a team's own aggregate.
fn of_a_host(host: &Hosted) -> Vec<Operation> {
    let told = |name: &str, path: String, body: &Value, begins: bool| {
        let scope = format!("{}:write", host.collection);
        let mut problems = [&BAD_BODY[..], &FAULTS[..], &NOT_KNOWN[..], &KEYED[..]].concat();
        problems.extend([
            (403, codes::FORBIDDEN),
            (409, codes::CONFLICT),
            (409, codes::IN_FLIGHT),
            MATCHED,
        ]);
        problems.extend(host.codes.iter().map(|code| (409, *code)));
        if host.codes.is_empty() {
            problems.push((409, ANY_CODE));
        }
        if host.personal {
            problems.push((410, crate::codes::ERASED));
        }
        let mut parameters = vec![idempotency_key(), if_match(), after()];
        if !begins {
            problems.push((404, codes::NOT_FOUND));
            parameters.insert(
                0,
                id(json!({ "type": "string", "minLength": 1 }), "Which one."),
            );
        }
        Operation {
            method: Method::Post,
            path,
            tag: host.collection.to_owned(),
            id: format!("{}.{name}", host.collection),
            summary: in_words(name),
            description: format!(
                "Who may is the domain's to say. An API key needs the scope `self:write` or `{scope}` besides."
            ),
            security: Security::SessionOrKey,
            parameters,
            body: Some(body.clone()),
            answers: vec![outcome(if begins { 201 } else { 200 }, None)],
            problems,
        }
    };
    let begins = host.begins.iter().map(|(name, body)| {
        let path = format!("/v1/{}", host.collection);
        told(name, path, body, true)
    });
    let acts = host.commands.iter().map(|(name, body)| {
        let path = format!("/v1/{}/{{id}}/{name}", host.collection);
        told(name, path, body, false)
    });
    begins.chain(acts).collect()
}

/// `book-seat` is "Book seat".
fn in_words(name: &str) -> String {
    let words = name.replace('-', " ");
    let mut letters = words.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

fn jwks() -> Operation {
    let key = json!({
        "type": "object",
        "properties": { "kty": { "type": "string" }, "kid": { "type": "string" } },
        "required": ["kty", "kid"],
    });
    let keys = json!({
        "type": "object",
        "properties": { "keys": { "type": "array", "items": key } },
        "required": ["keys"],
    });
    Operation {
        method: Method::Get,
        path: JWKS_PATH.to_owned(),
        tag: "sessions".to_owned(),
        id: "sessions.keys".to_owned(),
        summary: "The public keys of access tokens".to_owned(),
        description: "A JWK Set (RFC 7517): whoever takes access tokens checks them with these."
            .to_owned(),
        security: Security::Open,
        parameters: Vec::new(),
        body: None,
        answers: vec![Answer::json(200, "The keys.", keys)],
        problems: FAULTS.to_vec(),
    }
}
