//! `sign-ups-per-day`: how many people registered on each day, by UTC; a dashboard's counter.
//!
//! Refuses: to know who they are.

use events::account::CATEGORY;
use events::{DecodeError, RecordedEvent};
use read_models::{Access, Changes, ColumnType, Op, ReadModel};

use super::metadata_of;

/// The definition: one row a day with sign-ups, summed over the partitions on reading.
pub fn read_model() -> ReadModel {
    ReadModel::new("sign-ups-per-day")
        .key("day", ColumnType::Date)
        .column("sign_ups", ColumnType::Integer)
        .category(CATEGORY)
        .summed()
        .readable_by(Access::Scope)
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    if event.type_name == "AccountRegistered" {
        let day = metadata_of(event)?.recorded_at.date_naive();
        rows.upsert([day.into()], [("sign_ups", Op::Add(1))]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read_models::testing::{account, given, recorded_at};

    #[test]
    fn only_registrations_count() {
        let day = recorded_at(1).date_naive();
        given(
            &read_model(),
            [
                account(1, "AccountRegistered", json!({})),
                account(1, "AccountClosed", json!({})),
                account(2, "AccountRegistered", json!({})),
            ],
        )
        .then(&[&[("day", day.into()), ("sign_ups", 2.into())]]);
    }
}
