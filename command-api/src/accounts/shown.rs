//! The JSON Schemas of what commands around accounts answer besides what all commands do.

use serde_json::{Value, json};
use web::openapi::Answer;

pub fn accepted() -> Answer {
    let schema = json!({ "type": "object", "properties": { "detail": { "type": "string" } }, "required": ["detail"] });
    Answer::json(
        202,
        "The same, whether the address is known or not.",
        schema,
    )
}

fn tokens() -> Value {
    let text = json!({ "type": "string" });
    let uuid = json!({ "type": "string", "format": "uuid" });
    json!({
        "type": "object",
        "properties": {
            "access_token": text,
            "token_type": { "const": "Bearer" },
            "expires_in": { "type": "integer", "description": "Seconds until the access token is refused." },
            "refresh_token": { "type": "string", "description": "For one refresh." },
            "scope": { "type": "string", "description": "What the access token allows, separated by spaces." },
            "account_id": uuid,
            "session_id": uuid,
        },
        "required": ["access_token", "token_type", "expires_in", "refresh_token", "scope", "account_id", "session_id"],
    })
}

pub fn logged_in() -> Answer {
    Answer::json(201, "A session begins.", tokens()).with_headers(&[web::POSITION_HEADER])
}

pub fn refreshed() -> Answer {
    Answer::json(200, "The session goes on.", tokens())
}

pub fn enrolled() -> Value {
    json!({
        "secret": { "type": "string", "description": "For the device, in base32." },
        "otpauth_uri": { "type": "string", "description": "The same, mostly shown as a QR code." },
    })
}

pub fn recovery_codes() -> Value {
    let meaning = "Each stands in for a code of the device, once. They are not shown again.";
    json!({ "recovery_codes": { "type": "array", "items": { "type": "string" }, "description": meaning } })
}

pub fn api_key() -> Value {
    json!({ "api_key": { "type": "string", "pattern": "^sck_", "description": "It is not shown again." } })
}

pub fn exported() -> Value {
    let list = json!({ "type": "array", "items": { "type": "object" } });
    json!({ "export": {
        "type": "object",
        "properties": {
            "account_id": { "type": "string", "format": "uuid" },
            "exported_at": { "type": "string", "format": "date-time" },
            "events": list, "open_sessions": list, "api_keys": list,
            "second_factor": { "type": "boolean" },
        },
        "required": ["account_id", "exported_at", "events", "open_sessions", "api_keys", "second_factor"],
    } })
}

pub fn receipt() -> Value {
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    json!({ "receipt": {
        "type": "object",
        "properties": {
            "number": { "type": "string" },
            "account_id": { "type": "string", "format": "uuid" },
            "erased_at": { "type": "string", "format": "date-time" },
            "destroyed": texts,
            "outlives": texts,
        },
        "required": ["number", "account_id", "erased_at", "destroyed", "outlives"],
    } })
}
