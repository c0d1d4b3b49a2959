//! Reads: what readers see of the live table, and pages for comparing rows with the log.

use read_models::{Access, ColumnType, Error, ListQuery, ReadModel, RowWrites, Value};
use uuid::Uuid;

use crate::database::{
    Database, account, accounts, id, log, moment, on_both, prepared_to_read, row, sign_ups, upserts,
};
use crate::values::{hostile, hostile_rows, ordered, types};

on_both!(
    a_row_is_found_by_its_key_with_its_hidden_columns,
    a_list_is_in_the_order_of_the_key,
    a_list_shows_an_owner_their_rows_alone,
    partial_rows_of_all_partitions_are_summed,
    every_type_is_read_as_it_was_written_and_in_its_order,
    hostile_text_is_shown_as_it_is,
    questions_that_do_not_fit_the_definition_are_refused,
);

fn all(limit: u32, offset: u32) -> ListQuery {
    ListQuery {
        equals: vec![],
        limit,
        offset,
    }
}

async fn a_row_is_found_by_its_key_with_its_hidden_columns(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(0, 3, &upserts([account(1, 3, "open")]))
        .await
        .unwrap();
    let found = p.get(&id(1)).await.unwrap();
    let expected: [Value; 6] = [
        Uuid::from_u128(1).into(),
        "open".into(),
        "enc1.k.s.e.f.p".into(),
        1.into(),
        3.into(),
        moment(3).into(),
    ];
    assert_eq!(found, expected);
    assert_eq!(p.get(&id(2)).await, None);
}

async fn a_list_is_in_the_order_of_the_key(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(
        0,
        3,
        &upserts([3, 1, 2, 5, 4].map(|n| account(n, 3, "open"))),
    )
    .await
    .unwrap();
    let ids = async |query| -> Vec<Value> {
        p.store
            .list(&p.model, &query)
            .await
            .unwrap()
            .into_iter()
            .map(|mut row| row.remove(0))
            .collect()
    };
    let uuids = |numbers: &[u128]| {
        numbers
            .iter()
            .map(|n| Uuid::from_u128(*n).into())
            .collect::<Vec<Value>>()
    };
    assert_eq!(ids(all(9, 0)).await, uuids(&[1, 2, 3, 4, 5]));
    assert_eq!(ids(all(2, 1)).await, uuids(&[2, 3]));
    assert_eq!(ids(all(2, 9)).await, uuids(&[]));
    assert_eq!(ids(all(0, 0)).await, uuids(&[]));
}

async fn a_list_shows_an_owner_their_rows_alone(database: Database) {
    let model = ReadModel::new("account-history")
        .key("stream", ColumnType::Text)
        .key("version", ColumnType::Integer)
        .column("account_id", ColumnType::Uuid)
        .column("what", ColumnType::Text)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        });
    let p = prepared_to_read(database, model).await;
    let rows = (0..20).map(|n: i64| {
        let owner = Uuid::from_u128(n as u128 % 3);
        let what = if n == 3 { Value::Null } else { "x".into() };
        (
            vec![Value::from("s"), n.into()],
            row(0, 1, [owner.into(), what]),
        )
    });
    p.commit(0, 1, &upserts(rows)).await.unwrap();
    let owned = |more: Vec<(String, Value)>| {
        let owner = ("account_id".to_owned(), Value::from(Uuid::from_u128(0)));
        ListQuery {
            equals: [vec![owner], more].concat(),
            limit: 100,
            offset: 0,
        }
    };
    let versions = async |query: ListQuery| -> Vec<Value> {
        p.store
            .list(&p.model, &query)
            .await
            .unwrap()
            .into_iter()
            .map(|mut row| row.remove(1))
            .collect()
    };
    assert_eq!(
        versions(owned(vec![])).await,
        [0, 3, 6, 9, 12, 15, 18].map(Value::from)
    );
    assert_eq!(
        versions(owned(vec![("what".into(), Value::Null)])).await,
        [Value::from(3)]
    );
    assert_eq!(
        versions(owned(vec![
            ("version".into(), 6.into()),
            ("what".into(), "x".into())
        ]))
        .await,
        [Value::from(6)]
    );
    let hostile = vec![("what".to_owned(), Value::from("x' OR '1'='1"))];
    assert!(versions(owned(hostile)).await.is_empty());
}

async fn partial_rows_of_all_partitions_are_summed(database: Database) {
    let p = prepared_to_read(database, sign_ups()).await;
    let key = |day: &str| vec![Value::from(day), "web".into()];
    for partition in 0..4 {
        let rows =
            [("2026-11-21", 10), ("2026-11-22", i64::from(partition) + 1)].map(|(day, count)| {
                (
                    key(day),
                    row(partition, u64::from(partition) + 1, [count.into()]),
                )
            });
        p.commit_to(partition, 0, 9, &upserts(rows)).await.unwrap();
    }
    let shown = |day: &str, sum: i64| {
        vec![
            day.into(),
            "web".into(),
            sum.into(),
            4.into(),
            moment(4).into(),
        ]
    };
    assert_eq!(
        p.get(&key("2026-11-22")).await,
        Some(shown("2026-11-22", 10))
    );
    assert_eq!(p.get(&key("2026-11-23")).await, None);
    let both = [shown("2026-11-21", 40), shown("2026-11-22", 10)];
    assert_eq!(p.store.list(&p.model, &all(9, 0)).await.unwrap(), both);
    let day = ListQuery {
        equals: vec![("day".into(), "2026-11-22".into())],
        ..all(9, 0)
    };
    assert_eq!(p.store.list(&p.model, &day).await.unwrap(), both[1..]);
    let sum = ListQuery {
        equals: vec![("sign_ups".into(), 40.into())],
        ..all(9, 0)
    };
    assert_eq!(p.store.list(&p.model, &sum).await.unwrap(), both[..1]);
    let sql = "SELECT sign_ups FROM {view}sign_ups_per_day WHERE day = '2026-11-21'";
    assert_eq!(p.database.number(sql).await, 40);
}

async fn every_type_is_read_as_it_was_written_and_in_its_order(database: Database) {
    for (n, (column_type, mut values)) in types()
        .into_iter()
        .filter(|(of, _)| *of != ColumnType::Personal)
        .enumerate()
    {
        let model = ordered(n, column_type).column("v", column_type);
        let p = prepared_to_read(database.share(), model).await;
        let rows = values.iter().rev().map(|value| {
            let key = vec![value.clone(), 1.into()];
            (key, row(0, 1, [value.clone()]))
        });
        p.commit(0, 1, &upserts(rows)).await.unwrap();
        let listed = p.store.list(&p.model, &all(99, 0)).await.unwrap();
        values.sort();
        for (shown, value) in listed.iter().zip(&values) {
            assert_eq!((&shown[0], &shown[2]), (value, value));
            let key = vec![value.clone(), 1.into()];
            assert_eq!(p.get(&key).await.as_ref(), Some(shown));
        }
        assert_eq!(listed.len(), values.len());
    }
}

async fn hostile_text_is_shown_as_it_is(database: Database) {
    let p = prepared_to_read(database, hostile()).await;
    let rows = hostile_rows();
    p.commit(0, 1, &upserts(rows.clone())).await.unwrap();
    for (key, row) in rows {
        assert_eq!(p.get(&key).await.unwrap()[2], row.values[0]);
    }
    let count = "SELECT COUNT(*) FROM {view}\"select\"";
    assert_eq!(p.database.number(count).await, 144);
}

async fn questions_that_do_not_fit_the_definition_are_refused(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(0, 1, &RowWrites::default()).await.unwrap();
    for key in [
        vec![],
        vec![Value::Null],
        vec!["1".into()],
        vec![1.into(), 2.into()],
    ] {
        assert!(
            matches!(p.store.get(&p.model, &key).await, Err(Error::Invalid(_))),
            "{key:?}"
        );
    }
    for (column, value) in [
        ("nothing", Value::Null),
        ("status\" = '' OR \"", "x".into()),
        ("logins", "x".into()),
    ] {
        let query = ListQuery {
            equals: vec![(column.into(), value)],
            ..all(9, 0)
        };
        assert!(
            matches!(p.store.list(&p.model, &query).await, Err(Error::Invalid(_))),
            "{column:?}"
        );
    }
    let other = p.store.prepare(&sign_ups(), log(1)).await.unwrap();
    assert_eq!(p.store.live("sign-ups-per-day").await.unwrap(), Some(other));
}
