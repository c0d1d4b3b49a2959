//! `api-keys`: what programs may act with in place of a person, readable by the account they act for.
//!
//! Refuses: to hold a key, or anything that a key could be guessed from. Whether one counts is the vault's to say.

use events::api_key::{CATEGORY, Event, RevokeReason};
use events::{DecodeError, DomainEvent, RecordedEvent};
use read_models::{Access, Changes, ColumnType, Op, ReadModel};

use super::{id_of, metadata_of};

/// The definition: one row an API key, revoked ones too. `scopes` is text with a space between scopes, as in an access
/// token.
pub fn read_model() -> ReadModel {
    ReadModel::new("api-keys")
        .key("id", ColumnType::Uuid)
        .column("account_id", ColumnType::Uuid)
        .column("name", ColumnType::Personal)
        .column("scopes", ColumnType::Text)
        .column("created_at", ColumnType::Timestamp)
        .column("expires_at", ColumnType::Timestamp)
        .column("revoked_at", ColumnType::Timestamp)
        .column("revoke_reason", ColumnType::Text)
        .category(CATEGORY)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let key = [id_of(event)?.into()];
    let at = metadata_of(event)?.recorded_at;
    match Event::decode(event)? {
        Event::ApiKeyCreated {
            account_id,
            name,
            scopes,
            expires_at,
        } => rows.upsert(
            key,
            [
                ("account_id", Op::Set(account_id.into())),
                ("name", Op::Set((&name).into())),
                ("scopes", Op::Set(scopes.join(" ").into())),
                ("created_at", Op::Set(at.into())),
                ("expires_at", Op::Set(expires_at.into())),
            ],
        ),
        Event::ApiKeyRevoked { reason, .. } => rows.update(
            key,
            [
                ("revoked_at", Op::Set(at.into())),
                ("revoke_reason", Op::Set(name_of(reason).into())),
            ],
        ),
    }
    Ok(())
}

fn name_of(reason: RevokeReason) -> &'static str {
    match reason {
        RevokeReason::Revoked => "revoked",
        RevokeReason::RoleRevoked => "role_revoked",
        RevokeReason::AccountClosed => "account_closed",
        RevokeReason::AccountErased => "account_erased",
    }
}

#[cfg(test)]
mod tests {
    use read_models::Value;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::read_models::testing::{api_key, given, recorded_at, sealed};

    fn created(id: u128) -> RecordedEvent {
        let data = json!({
            "account_id": Uuid::from_u128(7), "name": sealed("name"), "scopes": ["self:read", "read:accounts"],
            "expires_at": recorded_at(1_000),
        });
        api_key(id, "ApiKeyCreated", data)
    }

    fn row(id: u128, position: u64) -> Vec<(&'static str, Value)> {
        vec![
            ("id", Uuid::from_u128(id).into()),
            ("account_id", Uuid::from_u128(7).into()),
            ("name", sealed("name").into()),
            ("scopes", "self:read read:accounts".into()),
            ("created_at", recorded_at(position).into()),
            ("expires_at", recorded_at(1_000).into()),
        ]
    }

    #[test]
    fn a_key_is_a_row_that_says_when_and_why_it_was_revoked() {
        let reasons = [
            "revoked",
            "role_revoked",
            "account_closed",
            "account_erased",
        ];
        for reason in reasons {
            let revoked = api_key(
                9,
                "ApiKeyRevoked",
                json!({"account_id": Uuid::from_u128(7), "reason": reason}),
            );
            let mut ended = row(9, 1);
            ended.push(("revoked_at", recorded_at(3).into()));
            ended.push(("revoke_reason", reason.into()));
            given(&read_model(), [created(9), created(10), revoked]).then(&[&ended, &row(10, 2)]);
        }
    }

    #[test]
    fn a_stream_that_is_no_key_and_an_event_nobody_knows_are_errors() {
        let mut event = created(9);
        event.stream = events::StreamId::parse("apikey-nine").unwrap();
        given(&read_model(), [event]).then_error("\"nine\" is no UUID");
        given(&read_model(), [api_key(9, "ApiKeyPainted", json!({}))]).then_error("ApiKeyPainted");
    }
}
