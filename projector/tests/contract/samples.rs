//! Events to append.

use event_store::{Append, EventStore, Expected};
use events::{Ciphertext, CommandId, EventId, NewEvent, StreamId};
use read_models::RowKey;
use serde_json::{Value as Json, json};
use uuid::Uuid;

pub async fn append(log: &dyn EventStore, stream: &str, type_name: &str, data: Json) {
    append_at(log, stream, type_name, data, "2026-11-22T23:59:59.999999Z").await;
}

pub async fn append_at(
    log: &dyn EventStore,
    stream: &str,
    type_name: &str,
    data: Json,
    recorded_at: &str,
) {
    let command_id = CommandId(Uuid::new_v4());
    let metadata = json!({
        "command_id": command_id, "correlation_id": Uuid::nil(), "causation_id": Uuid::nil(), "actor": "anonymous",
        "address": sealed("address"), "recorded_at": recorded_at,
    });
    let event = NewEvent {
        id: command_id.event_id(0),
        type_name: type_name.into(),
        schema_version: 1,
        data: data.to_string(),
        metadata: metadata.to_string(),
    };
    let stream = StreamId::parse(stream).expect("a stream name");
    let append = Append {
        stream,
        expected: Expected::Any,
        command_id,
        events: vec![event],
    };
    log.append(append).await.expect("the event is appended");
}

pub fn account(id: u128) -> String {
    format!("account-{}", Uuid::from_u128(id))
}

pub fn key(id: u128) -> RowKey {
    vec![Uuid::from_u128(id).into()]
}

pub fn sealed(field: &str) -> String {
    let context = Ciphertext::context(Uuid::nil(), "c3RyZWFt", EventId(Uuid::nil()), field);
    Ciphertext::from_parts(&context, "AAAA").as_str().to_owned()
}

pub fn registered() -> Json {
    json!({"email": sealed("email"), "credential_id": Uuid::nil(), "profile": {"display_name": sealed("name")}})
}

pub fn settings(locale: &str) -> Json {
    json!({"change": {"locale": locale}})
}

pub fn session_ended(account: u128) -> Json {
    json!({"account_id": Uuid::from_u128(account), "reason": "account_closed"})
}

pub fn api_key_created(account: u128) -> Json {
    json!({"account_id": Uuid::from_u128(account), "name": sealed("name"), "scopes": ["self:read"],
           "expires_at": "2027-11-22T00:00:00Z"})
}
