//! `log-ins-per-hour`: how often people logged in, hour by hour in UTC; a dashboard's counter.
//!
//! Refuses: to know who they are. Log-ins that failed are no events, so they are not counted.

use chrono::{DateTime, SubsecRound, TimeDelta, Timelike, Utc};
use events::session::{CATEGORY, Event};
use events::{DecodeError, DomainEvent, RecordedEvent};
use read_models::{Access, Changes, ColumnType, Op, ReadModel};

use super::metadata_of;

/// A year, and a month to compare it with the one before.
const KEPT: TimeDelta = TimeDelta::days(400);

/// The definition: one row an hour with log-ins, summed over the partitions on reading; for 400 days.
pub fn read_model() -> ReadModel {
    ReadModel::new("log-ins-per-hour")
        .key("hour", ColumnType::Timestamp)
        .column("log_ins", ColumnType::Integer)
        .column("with_second_factor", ColumnType::Integer)
        .category(CATEGORY)
        .summed()
        .retention("hour", KEPT)
        .readable_by(Access::Scope)
        .project(project)
}

fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    if let Event::SessionStarted { second_factor, .. } = Event::decode(event)? {
        let hour = hour_of(metadata_of(event)?.recorded_at);
        rows.upsert(
            [hour.into()],
            [
                ("log_ins", Op::Add(1)),
                ("with_second_factor", Op::Add(i64::from(second_factor))),
            ],
        );
    }
    Ok(())
}

/// The beginning of the hour.
fn hour_of(moment: DateTime<Utc>) -> DateTime<Utc> {
    let whole = moment.trunc_subsecs(0);
    let into_the_hour = 60 * whole.minute() + whole.second();
    whole - TimeDelta::seconds(i64::from(into_the_hour))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_models::testing::{given, recorded_at, session, session_ended, started};

    #[test]
    fn each_log_in_counts_once_and_with_a_second_factor_twice_over() {
        given(
            &read_model(),
            [
                session(1, "SessionStarted", started(7, false)),
                session(2, "SessionStarted", started(8, true)),
                session(1, "SessionEnded", session_ended(7)),
            ],
        )
        .then(&[&[
            ("hour", hour_of(recorded_at(1)).into()),
            ("log_ins", 2.into()),
            ("with_second_factor", 1.into()),
        ]]);
    }

    #[test]
    fn an_hour_begins_at_its_first_second() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let hour = at("2026-11-22T14:00:00Z");
        assert_eq!(hour_of(at("2026-11-22T14:59:59.999999Z")), hour);
        assert_eq!(hour_of(hour), hour);
    }
}
