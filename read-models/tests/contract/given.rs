//! Given events, then rows: what a team tests its read models with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use events::{DomainEvent, RecordedEvent};
use read_models::testing::{recorded, recorded_at};
use read_models::{ColumnType, Decimal, Merge, Op, ReadModel, Value};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
enum Event {
    Paid { cents: i64 },
    Lost {},
}

impl DomainEvent for Event {}

fn paid(stream: &str, cents: i64) -> RecordedEvent {
    recorded(stream, &Event::Paid { cents })
}

/// One row for all streams.
fn takings() -> ReadModel {
    ReadModel::new("takings")
        .key("what", ColumnType::Text)
        .column("sum", ColumnType::Decimal { scale: 2 })
        .column("payments", ColumnType::Integer)
        .merged("first", ColumnType::Integer, Merge::Min)
        .merged("last", ColumnType::Integer, Merge::Max)
        .category("till")
        .project(|event, rows| {
            let Event::Paid { cents } = Event::decode(event)? else {
                panic!("nothing can be made of it");
            };
            let version = || Value::from(event.version.get() as i64);
            rows.upsert(
                ["all".into()],
                [
                    ("sum", Op::AddDecimal(Decimal::of::<2>(cents))),
                    ("payments", Op::Add(1)),
                    ("first", Op::Min(version())),
                    ("last", Op::Max(version())),
                ],
            );
            Ok(())
        })
}

#[test]
fn shared_rows_are_merged_and_events_of_other_categories_left_out() {
    let events = [
        paid("till-1", 250),
        paid("other-1", 999),
        paid("till-2", 1),
        paid("till-1", 50),
    ];
    takings().summed().given(events).then_rows([[
        ("what", "all".into()),
        ("sum", Decimal::of::<2>(301).into()),
        ("payments", 3.into()),
        ("first", 1.into()),
        ("last", 2.into()),
    ]]);
}

#[test]
fn a_row_that_two_streams_change_is_found_out() {
    let mut alone = takings();
    alone
        .columns
        .iter_mut()
        .for_each(|column| column.merge = None);
    let given = alone.given([paid("till-1", 1), paid("till-2", 2), paid("till-1", 3)]);
    given.then_parked("make the stream's id part of the key");
    let (stream, position, _) = &given.parked()[0];
    assert_eq!((stream.as_str(), position.get()), ("till-2", 2));
    let stored = given.stored();
    let row = stored.values().next().unwrap();
    assert_eq!(row.values[1], 2.into(), "the other stream goes on");
    assert_eq!(row.updated_at, Some(recorded_at(3)));
}

#[test]
fn an_expectation_that_is_not_met_panics() {
    let model = takings().summed();
    let none: [[(&str, Value); 0]; 0] = [];
    model.given([]).then_rows(&none);
    let given = model.given([paid("till-1", 5)]);
    let panics = |check: &dyn Fn()| catch_unwind(AssertUnwindSafe(check)).is_err();
    assert!(panics(&|| given.then_rows(&none)));
    assert!(panics(
        &|| given.then_rows([[("what", "all".into()), ("payments", 2.into())]])
    ));
    assert!(panics(&|| given.then_rows([[("nothing", 1.into())]])));
    assert!(panics(&|| given.then_parked("")));
    let lost = recorded("till-1", &Event::Lost {});
    let given = catch_unwind(AssertUnwindSafe(|| model.given([lost])));
    assert!(given.is_err(), "a projection that panics shows where");
}
