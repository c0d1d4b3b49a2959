//! Changes to rows that are looked for.

use super::*;

/// Rows by class, with their titles.
fn titled<'m>(model: &'m ReadModel, rows: &[(&str, &str)]) -> Given<'m> {
    rows.iter().fold(given(model), |given, (class, title)| {
        given.when(|c| c.upsert(key(class), [("title", Op::Set((*title).into()))]))
    })
}

#[test]
fn changes_find_rows_as_they_stand_by_then() {
    let model = seats();
    let then = titled(&model, &[("yoga", "x"), ("judo", "x"), ("golf", "y")]).when(|c| {
        c.update(key("judo"), [("title", Op::Set("z".into()))]);
        c.upsert(key("polo"), [("title", Op::Set("x".into()))]);
        c.update_where(
            "title",
            "x",
            [("taken", Op::Add(1)), ("title", Op::Set("y".into()))],
        );
        c.delete_where("title", "x");
        c.update_where("title", "y", [("taken", Op::Add(2))]);
    });
    let taken = |class: &str| then.then(class).unwrap().values[0].clone();
    assert_eq!(
        ["yoga", "judo", "golf", "polo"].map(taken),
        [3.into(), Value::Null, 2.into(), 3.into()]
    );
    assert_eq!(then.then("yoga").unwrap().position, Position::new(4));
    assert_eq!(then.then("judo").unwrap().position, Position::new(4));
    let then = then.when(|c| c.delete_where("title", "y"));
    let left = ["yoga", "judo", "golf", "polo"].map(|class| then.then(class).is_some());
    assert_eq!(left, [false, true, false, false]);
    let then = then.when(|c| c.delete_where("class", "judo"));
    assert_eq!(
        then.then("judo"),
        None,
        "the key's first column is indexed too"
    );
}

#[test]
fn a_refused_event_takes_back_what_it_did_to_rows_that_it_found() {
    let model = seats();
    let then = titled(&model, &[("yoga", "x"), ("judo", "x")]);
    let mut then = then.when(|c| c.update(key("yoga"), [("taken", Op::Set(i64::MAX.into()))]));
    let before = then.rows.clone();
    for end in ["x", "y"] {
        let refused = then.attempt(|c| {
            c.update_where(
                "title",
                "x",
                [
                    ("title", Op::Set(end.into())),
                    ("open", Op::Set(true.into())),
                ],
            );
            c.update_where("title", end, [("taken", Op::Add(1))]);
        });
        assert!(refused.is_err() && then.rows == before);
    }
    let then = then.when(|c| c.update_where("title", "x", [("title", Op::Set("y".into()))]));
    assert_eq!(
        then.value("title"),
        "y".into(),
        "rows are still found afterwards"
    );
}

#[test]
fn what_cannot_be_looked_for_is_refused() {
    let model = seats();
    for (column, word) in [
        ("nothing", "not declared"),
        ("taken", ".index("),
        ("title", "null"),
    ] {
        let problem = given(&model).then_refused(|c| c.delete_where(column, Value::Null));
        assert!(problem.contains(word), "{problem}");
    }
    given(&model).then_refused(|c| c.delete_where("title", 5));
    given(&model).then_refused(|c| c.update_where("title", "x", [("taken", Op::Set("x".into()))]));
    let shared = per_type();
    given(&shared).then_refused(|c| c.delete_where("type", "x"));
    let long = "x".repeat(513);
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("title", Op::Set(long.into()))]));
}

#[test]
fn a_change_may_find_only_so_many_rows() {
    let model = seats();
    let mut given = given(&model);
    given = given.when(|c| {
        for n in 0..=ROWS_A_CHANGE {
            c.upsert(key(&n.to_string()), [("title", Op::Set("x".into()))]);
        }
    });
    let problem = given
        .attempt(|c| c.update_where("title", "x", [("taken", Op::Add(1))]))
        .unwrap_err()
        .problem;
    assert!(problem.contains("finds 10001 rows"), "{problem}");
    let given = given
        .when(|c| c.delete(key("0")))
        .when(|c| c.delete_where("title", "x"));
    assert!(given.rows.into_iter().all(|(_, row)| row.is_none()));
}
