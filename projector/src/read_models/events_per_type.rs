//! `events-per-type`: how many events of each type the log holds, the first and the last of them; of every domain.
//!
//! Refuses: to look into an event.

use events::{DecodeError, RecordedEvent};
use read_models::{Access, Changes, ColumnType, Merge, Op, ReadModel};

use super::metadata_of;

/// The definition: one row a type in a category; each partition keeps its part, and readers see them merged.
pub fn read_model() -> ReadModel {
    ReadModel::new("events-per-type")
        .key("category", ColumnType::Text)
        .key("type", ColumnType::Text)
        .merged("events", ColumnType::Integer, Merge::Sum)
        .merged("first_at", ColumnType::Timestamp, Merge::Min)
        .merged("last_at", ColumnType::Timestamp, Merge::Max)
        .summed()
        .readable_by(Access::Scope)
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let at = metadata_of(event)?.recorded_at;
    rows.upsert(
        [
            event.stream.category().into(),
            event.type_name.as_str().into(),
        ],
        [
            ("events", Op::Add(1)),
            ("first_at", Op::Min(at.into())),
            ("last_at", Op::Max(at.into())),
        ],
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use read_models::Value;
    use serde_json::json;

    use super::*;
    use crate::read_models::testing::{account, given, recorded_at, session};

    #[test]
    fn every_event_counts_by_its_type_even_one_that_nobody_knows() {
        let row = |category: &str, name: &str, events: i64, first, last| -> Vec<(&str, Value)> {
            vec![
                ("category", category.into()),
                ("type", name.into()),
                ("events", events.into()),
                ("first_at", recorded_at(first).into()),
                ("last_at", recorded_at(last).into()),
            ]
        };
        given(
            &read_model(),
            [
                account(1, "AccountClosed", json!({})),
                session(1, "SessionPainted", json!({})),
                account(1, "AccountClosed", json!({})),
            ],
        )
        .then(&[
            &row("account", "AccountClosed", 2, 1, 3),
            &row("session", "SessionPainted", 1, 2, 2),
        ]);
    }
}
