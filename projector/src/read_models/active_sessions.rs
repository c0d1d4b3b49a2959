//! `active-sessions`: who is logged in, readable by the account itself; for dashboards of how many there are.
//!
//! Refuses: to say whether a token counts; that is the vault's. A session that ends by itself causes no event, so its row
//! stays until `expires_at` and beyond: whoever counts asks for `expires_at` in the future.

use events::session::{CATEGORY, Event};
use events::{DecodeError, DomainEvent, RecordedEvent};
use read_models::{Access, Changes, ColumnType, Op, ReadModel};

use super::{id_of, metadata_of};

/// The definition: one row a session that has started and was not ended.
pub fn read_model() -> ReadModel {
    ReadModel::new("active-sessions")
        .key("id", ColumnType::Uuid)
        .column("account_id", ColumnType::Uuid)
        .column("device", ColumnType::Personal)
        .column("second_factor", ColumnType::Boolean)
        .column("started_at", ColumnType::Timestamp)
        .column("expires_at", ColumnType::Timestamp)
        .category(CATEGORY)
        .index(&["expires_at"])
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let key = [id_of(event)?.into()];
    match Event::decode(event)? {
        Event::SessionStarted {
            account_id,
            expires_at,
            second_factor,
            device,
        } => rows.upsert(
            key,
            [
                ("account_id", Op::Set(account_id.into())),
                ("device", Op::Set(device.as_ref().into())),
                ("second_factor", Op::Set(second_factor.into())),
                (
                    "started_at",
                    Op::Set(metadata_of(event)?.recorded_at.into()),
                ),
                ("expires_at", Op::Set(expires_at.into())),
            ],
        ),
        Event::SessionEnded { .. } => rows.delete(key),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::read_models::testing::{
        given, recorded_at, sealed, session, session_ended, started,
    };

    #[test]
    fn a_session_is_a_row_until_it_is_ended() {
        given(
            &read_model(),
            [
                session(1, "SessionStarted", started(7, false)),
                session(2, "SessionStarted", started(7, true)),
                session(1, "SessionEnded", session_ended(7)),
            ],
        )
        .then(&[&[
            ("id", Uuid::from_u128(2).into()),
            ("account_id", Uuid::from_u128(7).into()),
            ("device", sealed("device").into()),
            ("second_factor", true.into()),
            ("started_at", recorded_at(2).into()),
            ("expires_at", recorded_at(1_000).into()),
        ]]);
    }

    #[test]
    fn an_end_without_a_beginning_changes_nothing() {
        given(
            &read_model(),
            [session(1, "SessionEnded", session_ended(7))],
        )
        .then(&[]);
    }
}
