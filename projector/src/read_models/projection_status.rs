//! `projection-status`: how every read model of this database stands in each partition, as the projector sees itself.
//!
//! Refuses: to be made of events. It says how far the others are with them, so it is written on its own (`observing`).

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use events::Partition;
use read_models::{Access, ColumnType, Decimal, ReadModel, Row, RowKey, Value};
use tokio::time::Instant;

use crate::status::{PartitionStatus, State, Status};

pub(crate) const NAME: &str = "projection-status";
/// The values that change with every look: alone, they are no reason to write.
const PASSING: [&str; 1] = ["observed_at"];

/// The definition: one row a read model, generation and partition.
pub fn read_model() -> ReadModel {
    ReadModel::new(NAME)
        .key("read_model", ColumnType::Text)
        .key("generation", ColumnType::Integer)
        .key("partition", ColumnType::Integer)
        .column("live", ColumnType::Boolean)
        .column("state", ColumnType::Text)
        .column("reason", ColumnType::Text)
        .column("position", ColumnType::Integer)
        .column("head", ColumnType::Integer)
        .column("lag", ColumnType::Integer)
        .column("behind_since", ColumnType::Timestamp)
        .column("behind_seconds", ColumnType::Integer)
        .column("events_per_second", ColumnType::Decimal { scale: 1 })
        .column("parked", ColumnType::Integer)
        .column("observed_at", ColumnType::Timestamp)
        .readable_by(Access::Scope)
        .observed()
}

/// One look: when it was, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) at: DateTime<Utc>,
    pub(crate) instant: Instant,
}

/// The rows of one partition. `rate` says how many tenths of an event a second a read model, by its place in the status,
/// takes in there.
pub(crate) fn rows(
    status: &Status,
    partition: Partition,
    look: Look,
    rate: impl Fn(usize) -> i64,
) -> BTreeMap<RowKey, Row> {
    let mut rows = BTreeMap::new();
    for (index, model) in status.read_models.iter().enumerate() {
        let Some(place) = model.partitions.get(usize::from(partition.0)) else {
            continue;
        };
        let key: RowKey = vec![
            model.name.as_str().into(),
            i64::from(model.generation).into(),
            i64::from(partition.0).into(),
        ];
        let mut values = vec![model.live.into()];
        values.extend(values_of(place, look, rate(index)));
        let row = Row {
            values,
            partition,
            position: events::Position::ZERO,
            updated_at: Some(look.at),
        };
        rows.insert(key, row);
    }
    rows
}

/// In the order of the definition's columns, from `state` on.
fn values_of(place: &PartitionStatus, look: Look, rate: i64) -> [Value; 10] {
    let (position, head) = (place.position.as_i64(), place.head.as_i64());
    let behind = place
        .behind_since
        .map(|since| look.instant.saturating_duration_since(since));
    let since = behind
        .and_then(|behind| TimeDelta::from_std(behind).ok())
        .map(|behind| look.at - behind);
    let (state, reason) = match &place.state {
        State::CatchingUp => ("catching-up", None),
        State::Following => ("following", None),
        // What a database said stays in the log of the process.
        State::Retrying(_) => ("retrying", None),
        State::Stopped(reason) => ("stopped", Some(reason.as_str())),
    };
    [
        state.into(),
        reason.map_or(Value::Null, Value::from),
        position.into(),
        head.into(),
        head.saturating_sub(position).into(),
        since.map_or(Value::Null, Value::from),
        (behind.unwrap_or_default().as_secs() as i64).into(),
        Decimal::of::<1>(rate).into(),
        (place.parked as i64).into(),
        look.at.into(),
    ]
}

/// Both say the same, whenever they were looked at.
pub(crate) fn says_the_same(model: &ReadModel, one: &Row, other: &Row) -> bool {
    let pairs = one.values.iter().zip(&other.values);
    model
        .columns
        .iter()
        .zip(pairs)
        .all(|(column, (one, other))| one == other || PASSING.contains(&column.name.as_str()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use events::Position;

    use super::*;
    use crate::status::ReadModelStatus;

    fn status(place: PartitionStatus) -> Status {
        Status {
            read_models: vec![ReadModelStatus {
                name: "accounts".into(),
                generation: 2,
                live: true,
                partitions: vec![PartitionStatus::default(), place],
            }],
            ..Status::default()
        }
    }

    fn shown(place: PartitionStatus, instant: Instant) -> BTreeMap<String, Value> {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let model = read_model();
        let found = rows(&status(place), Partition(1), Look { at, instant }, |_| 125);
        let (key, row) = found.into_iter().next().expect("a row");
        assert_eq!(key, ["accounts".into(), 2.into(), 1.into()]);
        let names = model.columns.iter().map(|column| column.name.clone());
        names.zip(row.values).collect()
    }

    #[test]
    fn a_row_says_how_far_behind_a_partition_is_and_since_when() {
        let instant = Instant::now();
        let row = shown(
            PartitionStatus {
                position: Position::new(40),
                head: Position::new(100),
                behind_since: Some(instant - Duration::from_secs(7)),
                parked: 2,
                state: State::Stopped("rebuild it".into()),
                ..PartitionStatus::default()
            },
            instant,
        );
        let since = DateTime::from_timestamp(1_699_999_993, 0).unwrap();
        for (column, value) in [
            ("live", true.into()),
            ("state", "stopped".into()),
            ("reason", "rebuild it".into()),
            ("position", 40.into()),
            ("head", 100.into()),
            ("lag", 60.into()),
            ("behind_since", since.into()),
            ("behind_seconds", 7.into()),
            ("events_per_second", Decimal::of::<1>(125).into()),
            ("parked", 2.into()),
        ] {
            assert_eq!(row[column], value, "{column}");
        }
    }

    #[test]
    fn what_a_database_said_is_not_shown_and_nothing_is_behind_when_all_is_in() {
        let row = shown(
            PartitionStatus {
                position: Position::new(9),
                head: Position::new(9),
                state: State::Retrying("password authentication failed".into()),
                ..PartitionStatus::default()
            },
            Instant::now(),
        );
        assert_eq!(row["state"], "retrying".into());
        assert_eq!(row["reason"], Value::Null);
        assert_eq!(row["lag"], 0.into());
        assert_eq!(row["behind_since"], Value::Null);
        assert_eq!(row["behind_seconds"], 0.into());
    }
}
