//! Given rows, when an event changes them, then rows: without any database.

use std::mem;

use chrono::{DateTime, NaiveDate, Utc};
use events::{Partition, Position};
use uuid::Uuid;

use super::fold::KEY_TEXT_BYTES;
use super::*;
use crate::{ColumnType, Merge};

mod due;
mod found;
mod types;

const CIPHERTEXT: &str = "enc1.k.s.e.f.p";

fn seats() -> ReadModel {
    ReadModel::new("seats")
        .key("class", ColumnType::Text)
        .column("taken", ColumnType::Integer)
        .column("title", ColumnType::Text)
        .column("first", ColumnType::Timestamp)
        .column("day", ColumnType::Date)
        .column("open", ColumnType::Boolean)
        .column("owner", ColumnType::Uuid)
        .column("teacher", ColumnType::Personal)
        .column("price", ColumnType::Decimal { scale: 2 })
        .column("tags", ColumnType::List)
        .index(&["title", "taken"])
}

fn per_day() -> ReadModel {
    ReadModel::new("per-day")
        .key("day", ColumnType::Date)
        .column("count", ColumnType::Integer)
        .summed()
}

fn per_type() -> ReadModel {
    ReadModel::new("per-type")
        .key("type", ColumnType::Text)
        .column("count", ColumnType::Integer)
        .column("paid", ColumnType::Decimal { scale: 2 })
        .merged("first", ColumnType::Timestamp, Merge::Min)
        .merged("last", ColumnType::Timestamp, Merge::Max)
        .summed()
}

fn at(position: u64) -> EventPlace {
    EventPlace {
        partition: Partition(3),
        position: Position::new(position),
        recorded_at: Some(moment(position as i64)),
    }
}

fn moment(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 123_456_789).unwrap()
}

fn key(class: &str) -> RowKey {
    vec![class.into()]
}

/// A table of one read model, in memory.
struct Given<'m> {
    model: &'m ReadModel,
    rows: Rows,
    position: u64,
}

fn given(model: &ReadModel) -> Given<'_> {
    Given {
        model,
        rows: Rows::new(),
        position: 0,
    }
}

impl Given<'_> {
    fn attempt(&mut self, write: impl FnOnce(&mut Changes<'_>)) -> Result<(), FoldError> {
        self.position += 1;
        let mut changes = Changes::new(self.model);
        write(&mut changes);
        for key in changes.keys() {
            self.rows.or_absent(key);
        }
        fold(&mut self.rows, changes, at(self.position))
    }

    fn when(mut self, write: impl FnOnce(&mut Changes<'_>)) -> Self {
        self.attempt(write).unwrap();
        self
    }

    /// The problem; what stood before still stands.
    fn then_refused(mut self, write: impl FnOnce(&mut Changes<'_>)) -> String {
        let before = self.rows.clone();
        let problem = self.attempt(write).unwrap_err().problem;
        let known = mem::take(&mut self.rows).into_iter();
        self.rows = known.filter(|(key, _)| before.contains_key(key)).collect();
        assert_eq!(self.rows, before, "a refused event changed something");
        problem
    }

    fn then(&self, class: &str) -> Option<&Row> {
        self.rows.get(&key(class))
    }

    fn value(&self, column: &str) -> Value {
        let index = self
            .model
            .columns
            .iter()
            .position(|c| c.name == column)
            .unwrap();
        self.then("yoga").unwrap().values[index].clone()
    }
}

#[test]
fn an_upsert_makes_the_row_and_the_event_sets_its_hidden_columns() {
    let model = seats();
    let then = given(&model).when(|c| c.upsert(key("yoga"), [("title", Op::Set("Yoga".into()))]));
    let row = then.then("yoga").unwrap();
    assert_eq!(row.values[1], "Yoga".into());
    assert_eq!(row.values[0], Value::Null);
    assert_eq!(
        (row.partition, row.position),
        (Partition(3), Position::new(1))
    );
    assert_eq!(
        row.updated_at.unwrap().timestamp_subsec_nanos(),
        123_456_000,
        "cut to the microsecond"
    );
}

#[test]
fn an_update_of_a_row_that_is_not_there_does_nothing() {
    let model = seats();
    let then = given(&model).when(|c| c.update(key("yoga"), [("taken", Op::Add(1))]));
    assert_eq!(then.then("yoga"), None);
}

#[test]
fn a_delete_removes_the_row_and_an_upsert_begins_it_anew() {
    let model = seats();
    let then = given(&model)
        .when(|c| c.upsert(key("yoga"), [("taken", Op::Add(5))]))
        .when(|c| c.delete(key("yoga")))
        .when(|c| c.delete(key("yoga")));
    assert_eq!(then.then("yoga"), None);
    let then = then.when(|c| c.upsert(key("yoga"), [("taken", Op::Add(1))]));
    assert_eq!(then.value("taken"), 1.into());
}

#[test]
fn adding_counts_nothing_as_zero() {
    let model = seats();
    let then = given(&model)
        .when(|c| c.upsert(key("yoga"), [("taken", Op::Add(2))]))
        .when(|c| c.update(key("yoga"), [("taken", Op::Add(-3))]));
    assert_eq!(then.value("taken"), (-1).into());
}

#[test]
fn min_and_max_take_the_first_value_then_the_better_one() {
    let model = seats();
    let then = given(&model)
        .when(|c| {
            c.upsert(
                key("yoga"),
                [
                    ("first", Op::Min(moment(9).into())),
                    ("title", Op::Max("b".into())),
                ],
            );
        })
        .when(|c| {
            c.update(
                key("yoga"),
                [
                    ("first", Op::Min(moment(12).into())),
                    ("title", Op::Max("a".into())),
                ],
            );
        })
        .when(|c| {
            c.update(
                key("yoga"),
                [
                    ("first", Op::Min(moment(4).into())),
                    ("title", Op::Max(Value::Null)),
                ],
            );
        });
    assert_eq!(
        then.value("first"),
        crate::value::to_micros(moment(4)).into()
    );
    assert_eq!(then.value("title"), "b".into());
    assert_eq!(then.then("yoga").unwrap().position, Position::new(3));
}

#[test]
fn one_event_may_change_a_row_twice() {
    let model = seats();
    let then = given(&model).when(|c| {
        c.upsert(key("yoga"), [("taken", Op::Add(1)), ("taken", Op::Add(1))]);
        c.update(key("yoga"), [("taken", Op::Add(1))]);
    });
    assert_eq!(then.value("taken"), 3.into());
}

#[test]
fn a_change_without_operations_touches_nothing_that_is_there() {
    let model = seats();
    let then = given(&model)
        .when(|c| c.upsert(key("yoga"), []))
        .when(|c| c.upsert(key("yoga"), []));
    assert_eq!(then.then("yoga").unwrap().position, Position::new(1));
}

#[test]
fn a_value_of_another_type_is_refused() {
    let model = seats();
    let text = || Value::from("5");
    for column in ["taken", "first", "day", "open", "owner"] {
        assert!(
            given(&model)
                .then_refused(|c| c.upsert(key("yoga"), [(column, Op::Set(text()))]))
                .contains(column)
        );
        assert!(
            given(&model)
                .then_refused(|c| c.update(key("yoga"), [(column, Op::Max(text()))]))
                .contains(column)
        );
    }
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("title", Op::Add(1))]));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("nothing", Op::Set(Value::Null))]));
    let problem =
        given(&model).then_refused(|c| c.upsert(key("yoga"), [("class", Op::Set("x".into()))]));
    assert!(problem.contains("key column"), "{problem}");
}

#[test]
fn a_wrong_key_is_refused() {
    let model = seats();
    given(&model).then_refused(|c| c.delete(vec![Value::from(1)]));
    given(&model).then_refused(|c| c.delete(vec![Value::Null]));
    given(&model).then_refused(|c| c.delete(Vec::new()));
    given(&model).then_refused(|c| c.delete(vec!["yoga".into(), "x".into()]));
    given(&model).then_refused(|c| c.delete(key(&"x".repeat(KEY_TEXT_BYTES + 1))));
}

#[test]
fn leaving_the_range_of_integers_is_refused_and_takes_the_whole_event_back() {
    let model = seats();
    given(&model)
        .when(|c| {
            c.upsert(
                key("yoga"),
                [
                    ("taken", Op::Set(i64::MAX.into())),
                    ("title", Op::Set("Yoga".into())),
                ],
            );
        })
        .when(|c| c.upsert(key("judo"), []))
        .then_refused(|c| {
            c.delete(key("judo"));
            c.upsert(key("golf"), [("taken", Op::Add(1))]);
            c.update(
                key("yoga"),
                [
                    ("title", Op::Set("x".into())),
                    ("title", Op::Set("y".into())),
                    ("taken", Op::Add(1)),
                ],
            );
        });
}

#[test]
fn a_row_that_streams_of_two_partitions_change_is_refused() {
    let model = seats();
    let mut given = given(&model).when(|c| c.upsert(key("yoga"), []));
    let mut changes = Changes::new(&model);
    changes.delete(key("yoga"));
    let elsewhere = EventPlace {
        partition: Partition(4),
        ..at(9)
    };
    assert!(
        fold(&mut given.rows, changes, elsewhere)
            .unwrap_err()
            .problem
            .contains("summed")
    );
}

#[test]
fn folding_event_by_event_equals_folding_in_batches_of_any_size() {
    let model = seats();
    for seed in 1..=40 {
        let events = random_events(seed, 300);
        let one_by_one = table_after(&model, &events, 1);
        assert!(one_by_one.clone().into_iter().any(|(_, row)| row.is_some()));
        for batch in [2, 7, 100, 300] {
            assert_eq!(
                table_after(&model, &events, batch),
                one_by_one,
                "seed {seed}, batches of {batch}"
            );
        }
    }
}

type Event = Vec<Step>;

/// As a projector does it: loads what the batch touches, folds it, writes the net rows back. Refused events are left out.
fn table_after(model: &ReadModel, events: &[Event], batch: usize) -> Rows {
    let mut table = Rows::new();
    for (index, batch_events) in events.chunks(batch).enumerate() {
        let mut rows = Rows::new();
        for step in batch_events.iter().flatten() {
            match step {
                Step::Row(key, _) => rows.insert(key.clone(), table.get(key).cloned()),
                Step::Found(search, _) => {
                    let found = table
                        .clone()
                        .into_iter()
                        .filter_map(|(key, row)| Some((key, row?)));
                    for (key, row) in found {
                        if row.values[1] == search.value && !rows.contains_key(&key) {
                            rows.insert(key, Some(row));
                        }
                    }
                }
            }
        }
        for (offset, event) in batch_events.iter().enumerate() {
            let changes = Changes {
                model,
                list: event.clone(),
                problem: None,
            };
            _ = fold(&mut rows, changes, at((index * batch + offset) as u64 + 1));
        }
        table.extend(rows);
    }
    table
}

fn random_events(seed: u64, count: usize) -> Vec<Event> {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let op = move |draw: &mut dyn FnMut(u64) -> u64| match draw(9) {
        6 => (7, Op::AddDecimal(Decimal::of::<1>(draw(9) as i64 - 4))),
        7 => (8, Op::Append(draw(4).to_string())),
        8 => (8, Op::Remove(draw(4).to_string())),
        0 => (0, Op::Add(draw(9) as i64 - 4)),
        1 => (0, Op::Add(i64::MAX / 3)),
        2 => (1, Op::Set(draw(9).to_string().into())),
        3 => (1, Op::Min(draw(9).to_string().into())),
        4 => (2, Op::Max(moment(draw(99) as i64).into())),
        _ => (5, Op::Set(Uuid::from_u128(u128::from(draw(5))).into())),
    };
    (0..count)
        .map(|_| {
            (0..=draw(3))
                .map(|_| {
                    let row = key(&draw(6).to_string());
                    let ops = (0..draw(4)).map(|_| op(&mut draw)).collect();
                    let change = match draw(5) {
                        0 => Change::Delete,
                        1 | 2 => Change::Update(ops),
                        _ => Change::Upsert(ops),
                    };
                    match draw(6) {
                        0 if !matches!(change, Change::Upsert(_)) => {
                            let (column, value) = ("title".into(), draw(9).to_string().into());
                            Step::Found(Box::new(Search { column, value }), change)
                        }
                        _ => Step::Row(row, change),
                    }
                })
                .collect()
        })
        .collect()
}
