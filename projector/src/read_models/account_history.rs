//! `account-history`: who changed what of an account, when and from where; one row an event.
//!
//! Refuses: to look into what changed. A row says that something happened, so an event of a type that this version does
//! not know has its row too.

use events::{DecodeError, RecordedEvent, account, session};
use read_models::{Access, Changes, ColumnType, Op, ReadModel};
use serde::Deserialize;
use uuid::Uuid;

use super::{account_of, metadata_of};

/// The definition: one row for each event of account streams and of session streams. `version` is that of the event's
/// own stream; `_position`, which every table has, orders the rows of an account.
pub fn read_model() -> ReadModel {
    ReadModel::new("account-history")
        .key("event_id", ColumnType::Uuid)
        .column("account_id", ColumnType::Uuid)
        .column("type", ColumnType::Text)
        .column("version", ColumnType::Integer)
        .column("actor", ColumnType::Text)
        .column("address", ColumnType::Personal)
        .column("at", ColumnType::Timestamp)
        .category(account::CATEGORY)
        .category(session::CATEGORY)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let account_id = if event.stream.category() == session::CATEGORY {
        account_of_session(event)?
    } else {
        account_of(event)?
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
            ("at", Op::Set(metadata.recorded_at.into())),
        ],
    );
    Ok(())
}

/// Every event of a session says whose session it is.
fn account_of_session(event: &RecordedEvent) -> Result<Uuid, DecodeError> {
    #[derive(Deserialize)]
    struct Session {
        account_id: Uuid,
    }
    serde_json::from_str(&event.data)
        .map(|Session { account_id }| account_id)
        .map_err(|cause| DecodeError::new(event, cause))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read_models::testing::{account, given, recorded_at, sealed, session};

    #[test]
    fn events_of_an_account_and_of_its_sessions_have_a_row_each() {
        let closed = account(7, "AccountClosed", json!({}));
        let ended = session(
            9,
            "SessionEnded",
            json!({"account_id": Uuid::from_u128(7), "reason": "account_closed"}),
        );
        let ids = [closed.id.0, ended.id.0];
        given(&read_model(), [closed, ended]).then(&[
            &[
                ("event_id", ids[0].into()),
                ("account_id", Uuid::from_u128(7).into()),
                ("type", "AccountClosed".into()),
                ("version", 1.into()),
                ("actor", "anonymous".into()),
                ("address", sealed("address").into()),
                ("at", recorded_at(1).into()),
            ],
            &[
                ("event_id", ids[1].into()),
                ("account_id", Uuid::from_u128(7).into()),
                ("type", "SessionEnded".into()),
                ("version", 1.into()),
                ("actor", "anonymous".into()),
                ("address", sealed("address").into()),
                ("at", recorded_at(2).into()),
            ],
        ]);
    }

    #[test]
    fn an_event_without_an_account_is_an_error() {
        given(&read_model(), [session(9, "SessionEnded", json!({}))]).then_error("account_id");
    }
}
