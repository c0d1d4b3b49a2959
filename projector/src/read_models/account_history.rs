//! `account-history`: who changed what of an account, when, from where and in which session; one row an event.
//!
//! Refuses: to look into what changed. A row says that something happened, so an event of a type that this version does
//! not know has its row too.

use events::{DecodeError, RecordedEvent, account, api_key, session};
use read_models::{Access, Changes, ColumnType, Op, ReadModel};
use serde::Deserialize;
use uuid::Uuid;

use super::{id_of, metadata_of};

/// The definition: one row for each event of the streams of accounts, sessions and API keys. `version` is that of the
/// event's own stream; `session_id` is the session whose token was used, where one was; `_position`, which every table
/// has, orders the rows of an account.
pub fn read_model() -> ReadModel {
    ReadModel::new("account-history")
        .key("event_id", ColumnType::Uuid)
        .column("account_id", ColumnType::Uuid)
        .column("type", ColumnType::Text)
        .column("version", ColumnType::Integer)
        .column("actor", ColumnType::Text)
        .column("address", ColumnType::Personal)
        .column("session_id", ColumnType::Uuid)
        .column("at", ColumnType::Timestamp)
        .category(account::CATEGORY)
        .category(session::CATEGORY)
        .category(api_key::CATEGORY)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let account_id = if event.stream.category() == account::CATEGORY {
        id_of(event)?
    } else {
        account_named_in(event)?
    };
    let metadata = metadata_of(event)?;
    rows.upsert(
        [event.id.0.into()],
        [
            ("account_id", Op::Set(account_id.into())),
            ("type", Op::Set(event.type_name.as_str().into())),
            ("version", Op::Set(event.version.as_i64().into())),
            ("actor", Op::Set(metadata.actor.to_string().into())),
            ("address", Op::Set(metadata.address.as_ref().into())),
            ("session_id", Op::Set(metadata.session.into())),
            ("at", Op::Set(metadata.recorded_at.into())),
        ],
    );
    Ok(())
}

/// Every event of a session or an API key says whose it is.
fn account_named_in(event: &RecordedEvent) -> Result<Uuid, DecodeError> {
    #[derive(Deserialize)]
    struct Owned {
        account_id: Uuid,
    }
    serde_json::from_str(&event.data)
        .map(|Owned { account_id }| account_id)
        .map_err(|cause| DecodeError::new(event, cause))
}

#[cfg(test)]
mod tests {
    use read_models::Value;
    use serde_json::json;

    use super::*;
    use crate::read_models::testing::{
        account, api_key, given, in_session, recorded_at, sealed, session,
    };

    /// The row of an event of account 7 at a position, the first of its stream.
    fn row(event: &RecordedEvent, position: u64) -> Vec<(&'static str, Value)> {
        vec![
            ("event_id", event.id.0.into()),
            ("account_id", Uuid::from_u128(7).into()),
            ("type", event.type_name.as_str().into()),
            ("version", 1.into()),
            ("actor", "anonymous".into()),
            ("address", sealed("address").into()),
            ("at", recorded_at(position).into()),
        ]
    }

    #[test]
    fn events_of_an_account_its_sessions_and_its_keys_have_a_row_each() {
        let owner = Uuid::from_u128(7);
        let events = [
            account(7, "AccountClosed", json!({})),
            session(
                9,
                "SessionEnded",
                json!({"account_id": owner, "reason": "account_closed"}),
            ),
            in_session(
                api_key(
                    10,
                    "ApiKeyRevoked",
                    json!({"account_id": owner, "reason": "revoked"}),
                ),
                5,
            ),
        ];
        let mut rows: Vec<_> = (1..)
            .zip(&events)
            .map(|(at, event)| row(event, at))
            .collect();
        rows[2].push(("session_id", Uuid::from_u128(5).into()));
        let rows: Vec<_> = rows.iter().map(Vec::as_slice).collect();
        given(&read_model(), events).then(&rows);
    }

    #[test]
    fn whatever_happens_has_a_row_even_if_nobody_knows_it() {
        for name in ["EmailVerified", "AccountErased", "AccountPainted"] {
            let event = account(7, name, json!({"anything": 1}));
            let row = row(&event, 1);
            given(&read_model(), [event]).then(&[&row]);
        }
    }

    #[test]
    fn an_event_without_an_account_is_an_error() {
        given(&read_model(), [session(9, "SessionEnded", json!({}))]).then_error("account_id");
        given(&read_model(), [api_key(9, "ApiKeyRevoked", json!({}))]).then_error("account_id");
    }
}
