//! Changes that look for rows: the same rows as a fold of one event at a time, in every database and whatever the batches.

use events::{DecodeError, Partition, RecordedEvent};
use read_models::testing::recorded_json;
use read_models::{Changes, ColumnType, Op, Options, ReadModel, Value};
use serde_json::{Value as Json, json};
use test_support::temp_dir;

use crate::read_models::testing::{on_every_database, through};

/// Lines of orders, which can be changed by their order.
fn lines() -> ReadModel {
    ReadModel::new("lines")
        .key("line", ColumnType::Text)
        .column("order_name", ColumnType::Text)
        .column("pieces", ColumnType::Integer)
        .column("notes", ColumnType::List)
        .index(&["order_name", "pieces"])
        .project(project)
}

#[expect(clippy::unnecessary_wraps, reason = "what a projection looks like")]
fn project(event: &RecordedEvent, rows: &mut Changes<'_>) -> Result<(), DecodeError> {
    let data: Json = serde_json::from_str(&event.data).expect("JSON");
    let text = |field: &str| Value::from(data[field].as_str().unwrap_or_default());
    let line = [format!("{}/{}", event.stream, data["line"]).into()];
    let order = || Op::Set(text("to"));
    match event.type_name.as_str() {
        "Put" => {
            let note = Op::Append(data["to"].to_string());
            rows.upsert(line, [("order_name", order()), ("notes", note)]);
        }
        // Replaces the row whole, so that it is not loaded.
        "Replaced" => {
            let (pieces, notes) = (Op::Set(1.into()), Op::Set(Value::Null));
            rows.upsert(
                line,
                [
                    ("order_name", order()),
                    ("pieces", pieces),
                    ("notes", notes),
                ],
            );
        }
        "Moved" => rows.update_where("order_name", text("from"), [("order_name", order())]),
        "Counted" => rows.update_where("order_name", text("to"), [("pieces", Op::Add(1))]),
        "Dropped" => rows.delete_where("order_name", text("to")),
        // Changes rows and then fails, so that all of it is taken back and the stream waits.
        "Failed" => {
            let (pieces, notes) = (Op::Set(i64::MAX.into()), Op::Set(Value::Null));
            rows.upsert(
                line,
                [
                    ("order_name", order()),
                    ("pieces", pieces),
                    ("notes", notes),
                ],
            );
            rows.update_where("order_name", text("to"), [("pieces", Op::Add(1))]);
        }
        name => panic!("{name}"),
    }
    Ok(())
}

fn random_events(seed: u64, count: usize) -> Vec<RecordedEvent> {
    let mut state = seed;
    let mut draw = move |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut event = || {
        let type_name = match draw(40) {
            0..16 => "Put",
            16..22 => "Replaced",
            22..29 => "Moved",
            29..36 => "Counted",
            36..39 => "Dropped",
            _ => "Failed",
        };
        let (from, to) = (draw(4).to_string(), draw(4).to_string());
        let data = json!({ "line": draw(12), "from": from, "to": to });
        recorded_json(&format!("cart-{}", draw(3)), type_name, data)
    };
    (0..count).map(|_| event()).collect()
}

#[test]
fn changes_that_look_for_rows_come_out_the_same_in_all_batches_and_databases() {
    let model = lines();
    let mut parked = 0;
    for seed in 1..=6 {
        let given = model.given(random_events(seed, 60));
        assert!(!given.stored().is_empty());
        parked += given.parked().len();
        on_every_database(&given);
    }
    assert!(parked > 0, "none of them failed");
}

/// Where streams share a partition, one that waits leaves its rows to be found by the others.
#[tokio::test]
async fn streams_of_one_partition_find_each_others_rows_in_all_batches() {
    let (model, folder) = (lines(), temp_dir());
    let url = format!("sqlite:{}", folder.path().join("read-models.db").display());
    let store = read_models::open(&url, Options::default()).await.unwrap();
    let mut parked = 0;
    for seed in 1..=12 {
        let model = ReadModel {
            name: format!("lines-{seed}"),
            ..model.clone()
        };
        let given = model.given(random_events(seed, 80));
        let events = given.events().iter();
        let events: Vec<_> = events
            .map(|(_, event)| (Partition(0), event.clone()))
            .collect();
        let one_by_one = through(&*store, &model, &events, 1).await;
        parked += one_by_one.1.len();
        for batch in [2, 7, 80] {
            assert_eq!(through(&*store, &model, &events, batch).await, one_by_one);
        }
    }
    assert!(parked > 0, "none of them failed");
}

#[test]
fn a_change_that_finds_too_many_rows_parks_its_stream_and_changes_nothing() {
    let model = ReadModel::new("many")
        .key("n", ColumnType::Integer)
        .column("same", ColumnType::Boolean)
        .index(&["same"])
        .project(|event, rows| {
            match event.type_name.as_str() {
                "Filled" => {
                    for n in 0..read_models::ROWS_A_CHANGE as i64 {
                        rows.upsert([n.into()], [("same", Op::Set(true.into()))]);
                    }
                }
                "OneMore" => rows.upsert([Value::from(-1)], [("same", Op::Set(true.into()))]),
                _ => rows.update_where("same", true, [("same", Op::Set(false.into()))]),
            }
            Ok(())
        });
    let event = |name| recorded_json("filler-1", name, json!({}));
    let given = model.given(["Filled", "Emptied", "Filled", "OneMore", "Emptied"].map(event));
    given.then_parked("finds 10001 rows");
    assert!(
        given
            .stored()
            .values()
            .all(|row| row.values == [true.into()])
    );
    on_every_database(&given);
}
