//! Rows whose time is over when an event comes: it finds none of them.

use chrono::TimeDelta;

use super::*;

/// Two seconds.
fn kept() -> ReadModel {
    seats().retention("first", TimeDelta::seconds(2))
}

/// At positions (and seconds) 1 and 2: rows of that moment, with one place taken.
fn begun(model: &ReadModel) -> Given<'_> {
    ["yoga", "judo"].iter().fold(given(model), |given, class| {
        let first = moment(given.position as i64 + 1);
        given.when(|c| {
            let ops = [
                ("first", Op::Set(first.into())),
                ("title", Op::Set("x".into())),
                ("taken", Op::Add(1)),
            ];
            c.upsert(key(class), ops);
        })
    })
}

#[test]
fn an_event_finds_no_row_that_was_due_when_it_was_recorded() {
    let model = kept();
    let on_time = begun(&model).when(|c| c.update(key("yoga"), [("taken", Op::Add(1))]));
    assert_eq!(on_time.then("yoga").unwrap().values[0], 2.into());
    let changes: [fn(&mut Changes<'_>); 3] = [
        |c| c.update(key("yoga"), [("taken", Op::Add(1))]),
        |c| c.delete(key("yoga")),
        |c| c.upsert(key("yoga"), [("taken", Op::Add(1))]),
    ];
    for (change, left) in changes.into_iter().zip([None, None, Some(Value::from(1))]) {
        // The third event is on time for both, the fourth too late for the first.
        let late = begun(&model).when(|_| {}).when(change);
        let taken = late.then("yoga").map(|row| row.values[0].clone());
        assert_eq!(taken, left, "a row made anew counts from nothing");
        assert!(late.then("judo").is_some());
    }
}

#[test]
fn what_is_due_is_not_found_by_a_column_either() {
    let model = kept();
    let then = begun(&model)
        .when(|_| {})
        .when(|c| c.update_where("title", "x", [("taken", Op::Add(1))]));
    let taken = |class: &str| then.then(class).map(|row| row.values[0].clone());
    assert_eq!(taken("judo"), Some(2.into()));
    assert_ne!(taken("yoga"), Some(2.into()));
}

#[test]
fn a_refused_event_leaves_a_due_row_as_it_was() {
    let model = kept();
    let mut late = begun(&model).when(|_| {});
    let before = late.rows.clone();
    late.attempt(|c| {
        c.upsert(key("yoga"), [("taken", Op::Add(1))]);
        c.upsert(key("yoga"), [("taken", Op::Set("x".into()))]);
    })
    .unwrap_err();
    assert_eq!(late.rows, before);
}

#[test]
fn an_event_that_does_not_say_when_it_was_recorded_is_refused() {
    let model = kept();
    let at = EventPlace {
        recorded_at: None,
        ..at(1)
    };
    let mut changes = Changes::new(&model);
    assert!(
        fold(&mut Rows::new(), changes, at).is_ok(),
        "it changes nothing"
    );
    changes = Changes::new(&model);
    changes.delete(key("yoga"));
    let refused = fold(&mut Rows::new(), changes, at).unwrap_err();
    assert!(refused.problem.contains("recorded"), "{refused}");
}
