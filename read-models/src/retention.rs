//! How long rows stay: a rule of the definition, by the time that events put into a column. It refuses to know a clock:
//! whoever asks what is due says at which moment.
//!
//! An event finds no row that was due when it was recorded. So rows that are due make no difference to what follows, and may
//! be removed at any time after that: live, built anew or verified, the rows that are left are the same.

use chrono::{DateTime, TimeDelta, Utc};

use crate::value::to_micros;
use crate::{ColumnType, ReadModel, RowKey, Value};

/// How much longer rows stay than the rule says before they are removed, so that an event which was recorded by a clock that
/// is slow still finds them.
pub const SLACK: TimeDelta = TimeDelta::hours(1);

/// The longest that rows may stay: a thousand years.
const LONGEST: TimeDelta = TimeDelta::days(365_250);

/// How long rows stay: see [`ReadModel::retention`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Retention {
    /// A `Timestamp` or a `Date`, which the projection sets from events.
    pub column: String,
    /// How long a row stays after that moment, or after that day's end.
    pub keep: TimeDelta,
}

/// Which rows are due at a moment: those whose value in a column is smaller than another. Null never is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The column's name.
    pub column: String,
    /// A moment or a day.
    pub before: Value,
    /// The column's place among key and columns.
    place: usize,
}

impl Due {
    /// Whether it says so of this row; its values are in the order of [`ReadModel::columns`].
    pub fn holds(&self, key: &RowKey, values: &[Value]) -> bool {
        let value = key
            .get(self.place)
            .or_else(|| values.get(self.place - key.len()));
        value.is_some_and(|value| *value != Value::Null && *value < self.before)
    }
}

impl ReadModel {
    /// A row goes once this `Timestamp` column is `keep` ago, or the end of the day in this `Date` column is; where it is null,
    /// the row stays. The column's value comes from events, as every value does. Where partitions share rows, it is part of
    /// the key.
    #[must_use]
    pub fn retention(mut self, column: &str, keep: TimeDelta) -> Self {
        self.retention = Some(Retention {
            column: column.to_owned(),
            keep,
        });
        self
    }

    /// Which rows are due at a moment; nothing where rows stay for ever.
    pub fn due_at(&self, moment: DateTime<Utc>) -> Option<Due> {
        let Retention { column, keep } = self.retention.as_ref()?;
        let mut columns = self.key.iter().chain(&self.columns).enumerate();
        let (place, of) = columns.find(|(_, of)| of.name == *column)?;
        let before = moment.checked_sub_signed(*keep)?;
        Some(Due {
            column: column.clone(),
            before: match of.column_type {
                ColumnType::Date => before.date_naive().into(),
                _ => to_micros(before).into(),
            },
            place,
        })
    }

    /// When a row with this value in the rule's column is due.
    pub fn goes_at(&self, value: &Value) -> Option<DateTime<Utc>> {
        let keep = self.retention.as_ref()?.keep;
        match value {
            Value::Timestamp(moment) => moment.checked_add_signed(keep),
            Value::Date(day) => {
                let end = day.succ_opt()?.and_hms_opt(0, 0, 0)?.and_utc();
                end.checked_add_signed(keep)
            }
            _ => None,
        }
    }

    pub(crate) fn check_retention(&self) -> Result<(), String> {
        let Some(Retention { column, keep }) = &self.retention else {
            return Ok(());
        };
        let mut columns = self.key.iter().chain(&self.columns);
        match columns.find(|of| of.name == *column) {
            None => Err(format!("the retention's column {column:?} is not declared")),
            Some(of) if !matches!(of.column_type, ColumnType::Timestamp | ColumnType::Date) => {
                Err(format!(
                    "the retention's column {column:?} is {:?}; rows go by a Timestamp or a Date",
                    of.column_type
                ))
            }
            Some(_) if self.shared && self.key.iter().all(|of| of.name != *column) => Err(format!(
                "the retention's column {column:?} stands in rows that partitions share, which would go in parts; make it part \
                 of the key"
            )),
            Some(_) if self.observed => {
                Err("no event makes its rows, so there is no time of events to go by".into())
            }
            Some(_) if *keep <= TimeDelta::zero() || *keep > LONGEST => Err(format!(
                "its rows stay for {keep}; say more than nothing and at most {} days",
                LONGEST.num_days()
            )),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_counts_from_its_end_and_a_moment_from_itself() {
        let of = |column_type| {
            ReadModel::new("visits")
                .key("at", column_type)
                .retention("at", TimeDelta::days(2))
        };
        for (model, value, goes) in [
            (
                of(ColumnType::Date),
                Value::from(at("2026-11-01T00:00:00Z").date_naive()),
                at("2026-11-04T00:00:00Z"),
            ),
            (
                of(ColumnType::Timestamp),
                Value::from(at("2026-11-01T10:00:00Z")),
                at("2026-11-03T10:00:00Z"),
            ),
        ] {
            assert_eq!(model.goes_at(&value), Some(goes));
            let second = TimeDelta::seconds(1);
            let due = |moment| model.due_at(moment).unwrap();
            let key = vec![value];
            assert!(!due(goes - second).holds(&key, &[]));
            assert!(due(goes + second).holds(&key, &[]));
        }
    }
}
