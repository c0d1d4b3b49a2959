//! What each type and each way of merging takes.

use super::*;

#[test]
fn decimals_are_added_compared_and_kept_at_the_scale_of_their_column() {
    let model = seats();
    let set = |number: Decimal| [("price", Op::Set(number.into()))];
    let then = given(&model)
        .when(|c| {
            c.upsert(
                key("yoga"),
                [("price", Op::AddDecimal(Decimal::of::<1>(125)))],
            );
        })
        .when(|c| c.update(key("yoga"), [("price", Op::Add(2))]))
        .when(|c| {
            c.update(
                key("yoga"),
                [("price", Op::Min(Decimal::of::<3>(14_490).into()))],
            );
        });
    let Value::Decimal(price) = then.value("price") else {
        panic!("a decimal")
    };
    assert_eq!((price.units(), price.scale()), (1449, 2));
    let then = then.when(|c| c.update(key("yoga"), [("price", Op::Max(Decimal::from(15).into()))]));
    assert_eq!(then.value("price"), Decimal::of::<2>(1500).into());
    given(&model).then_refused(|c| c.upsert(key("yoga"), set(Decimal::of::<3>(1))));
    given(&model).then_refused(|c| c.upsert(key("yoga"), set(Decimal::from(10_i64.pow(16)))));
    let add = |number| [("price", Op::AddDecimal(number))];
    given(&model).then_refused(|c| c.upsert(key("yoga"), add(Decimal::of::<3>(1))));
    let most = Decimal::of::<2>(10_i64.pow(18) - 1);
    given(&model)
        .when(|c| c.upsert(key("yoga"), set(most)))
        .then_refused(|c| c.upsert(key("yoga"), add(Decimal::of::<2>(1))));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("title", Op::AddDecimal(most))]));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("taken", Op::AddDecimal(most))]));
}

#[test]
fn lists_are_appended_to_and_removed_from() {
    let model = seats();
    let append = |text: &str| [("tags", Op::Append(text.into()))];
    let remove = |text: &str| [("tags", Op::Remove(text.into()))];
    let then = given(&model).when(|c| c.upsert(key("yoga"), remove("a")));
    assert_eq!(then.value("tags"), Value::Null, "nothing stays nothing");
    let then = then
        .when(|c| c.update(key("yoga"), append("b")))
        .when(|c| c.update(key("yoga"), append("a")))
        .when(|c| c.update(key("yoga"), append("b")));
    assert_eq!(then.value("tags"), ["b", "a", "b"].into());
    let then = then.when(|c| c.update(key("yoga"), remove("b")));
    assert_eq!(then.value("tags"), ["a"].into(), "every equal text goes");
    let then = then.when(|c| c.update(key("yoga"), remove("a")));
    assert_eq!(
        then.value("tags"),
        Value::List(vec![]),
        "a list stays a list"
    );
}

#[test]
fn a_list_has_its_bounds_and_no_order() {
    let model = seats();
    let full = |text: &str, count| Value::List(vec![text.to_owned(); count]);
    let set = |list: Value| [("tags", Op::Set(list))];
    for (list, more) in [(full("a", 1_000), "b"), (full(&"x".repeat(65_536), 1), "b")] {
        given(&model)
            .when(|c| c.upsert(key("yoga"), set(list)))
            .then_refused(|c| c.update(key("yoga"), [("tags", Op::Append(more.into()))]));
    }
    given(&model).then_refused(|c| c.upsert(key("yoga"), set(full("a", 1_001))));
    given(&model).then_refused(|c| c.upsert(key("yoga"), set(["a\0"].into())));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("tags", Op::Max(["a"].into()))]));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("tags", Op::Append("\0".into()))]));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("title", Op::Append("a".into()))]));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("title", Op::Remove("a".into()))]));
}

#[test]
fn a_column_of_shared_rows_takes_the_operation_of_its_merge_and_no_other() {
    let model = per_type();
    let key = || vec![Value::from("opened")];
    let then = given(&model).when(|c| c.upsert(key(), []));
    let begins = [
        0.into(),
        Decimal::of::<2>(0).into(),
        Value::Null,
        Value::Null,
    ];
    assert_eq!(then.rows.get(&key()).unwrap().values, begins);
    let then = then.when(|c| {
        c.upsert(
            key(),
            [
                ("count", Op::Add(1)),
                ("paid", Op::AddDecimal(Decimal::of::<2>(1))),
                ("first", Op::Min(moment(4).into())),
                ("last", Op::Max(moment(4).into())),
            ],
        );
    });
    assert_eq!(then.rows.get(&key()).unwrap().values[0], 1.into());
    for (column, op) in [
        ("count", Op::Max(1.into())),
        ("count", Op::Set(1.into())),
        ("paid", Op::Min(Decimal::from(1).into())),
        ("first", Op::Max(moment(1).into())),
        ("first", Op::Set(moment(1).into())),
        ("last", Op::Min(moment(1).into())),
        ("last", Op::Add(1)),
    ] {
        let problem = given(&model).then_refused(|c| c.upsert(key(), [(column, op)]));
        assert!(problem.contains(column), "{problem}");
    }
}

#[test]
fn a_summed_read_model_is_only_added_to() {
    let model = per_day();
    let day = || vec![Value::from(NaiveDate::from_ymd_opt(2026, 11, 22).unwrap())];
    let then = given(&model)
        .when(|c| c.upsert(day(), []))
        .when(|c| c.upsert(day(), [("count", Op::Add(2))]));
    assert_eq!(then.rows.get(&day()).unwrap().values, [2.into()]);
    given(&model).then_refused(|c| c.upsert(day(), [("count", Op::Set(2.into()))]));
    given(&model).then_refused(|c| c.update(day(), [("count", Op::Add(2))]));
    given(&model).then_refused(|c| c.delete(day()));
}

#[test]
fn a_personal_column_takes_ciphertext_alone() {
    let model = seats();
    let then =
        given(&model).when(|c| c.upsert(key("yoga"), [("teacher", Op::Set(CIPHERTEXT.into()))]));
    assert_eq!(then.value("teacher"), CIPHERTEXT.into());
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("teacher", Op::Set("Ada".into()))]));
    given(&model)
        .then_refused(|c| c.upsert(key("yoga"), [("teacher", Op::Max(CIPHERTEXT.into()))]));
}

#[test]
fn what_a_database_cannot_store_is_refused() {
    let model = seats();
    given(&model).then_refused(|c| c.upsert(key("yo\0ga"), []));
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("title", Op::Set("\0".into()))]));
    let far = NaiveDate::from_ymd_opt(10_000, 1, 1).unwrap();
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("day", Op::Set(far.into()))]));
    let far = far.and_hms_opt(0, 0, 0).unwrap().and_utc();
    given(&model).then_refused(|c| c.upsert(key("yoga"), [("first", Op::Set(far.into()))]));
}
