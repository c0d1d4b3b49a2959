//! Reads: what readers see of the live table, and pages for comparing rows with the log.

use events::Partition;
use read_models::{Access, ColumnType, Error, ListQuery, ReadModel, RowWrites, Value};
use uuid::Uuid;

use crate::database::{
    Database, account, accounts, at, id, log, moment, on_both, prepared, row, sign_ups, upserts,
};

on_both!(
    a_row_is_found_by_its_key_with_its_hidden_columns,
    a_list_is_in_the_order_of_the_key,
    a_list_shows_an_owner_their_rows_alone,
    partial_rows_of_all_partitions_are_summed,
    loading_partial_rows_keeps_to_its_partition,
    a_scan_pages_through_one_partition_beside_its_checkpoint,
    a_scan_never_mixes_two_commits,
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
    let p = prepared(database, accounts()).await;
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
    let p = prepared(database, accounts()).await;
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
    let p = prepared(database, model).await;
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
    let p = prepared(database, sign_ups()).await;
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

async fn loading_partial_rows_keeps_to_its_partition(database: Database) {
    let p = prepared(database, sign_ups()).await;
    let keys: Vec<_> = (0..70)
        .map(|n| vec![Value::from(n.to_string()), "web".into()])
        .collect();
    for partition in [0, 3] {
        let rows = keys.iter().map(|key| {
            (
                key.clone(),
                row(partition, 1, [i64::from(partition).into()]),
            )
        });
        p.commit_to(partition, 0, 1, &upserts(rows)).await.unwrap();
    }
    let loaded = p.stored(3, &keys).await;
    assert_eq!(loaded.len(), 70);
    assert!(
        loaded
            .iter()
            .all(|(_, row)| row.partition == Partition(3) && row.values == [3.into()])
    );
    p.commit_to(3, 1, 2, &crate::database::deletes(keys.clone()))
        .await
        .unwrap();
    assert_eq!(
        (
            p.stored(3, &keys).await.len(),
            p.stored(0, &keys).await.len()
        ),
        (0, 70)
    );
    assert_eq!(p.stored(0, &[]).await, []);
}

async fn a_scan_pages_through_one_partition_beside_its_checkpoint(database: Database) {
    let model = ReadModel::new("pairs")
        .key("a", ColumnType::Text)
        .key("b", ColumnType::Integer);
    let p = prepared(database, model).await;
    let key = |n: i64| vec![Value::from(format!("{}", n / 7)), (n % 7).into()];
    let rows = |partition: u16| {
        (0..50).map(move |n| (key(n * 2 + i64::from(partition)), row(partition, 1, [])))
    };
    p.commit_to(0, 0, 1, &upserts(rows(0))).await.unwrap();
    p.commit_to(1, 0, 4, &upserts(rows(1))).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let scanned = p
            .store
            .scan(&p.model, &p.generation, Partition(1), after.as_ref(), 8)
            .await;
        let (checkpoint, rows) = scanned.unwrap();
        assert_eq!(checkpoint, at(4));
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        seen.extend(rows);
    }
    let mut expected: Vec<_> = rows(1).collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(seen, expected);
}

/// Every commit writes its own position into both rows; a scan that saw two commits would see two positions.
async fn a_scan_never_mixes_two_commits(database: Database) {
    let p = prepared(database, accounts()).await;
    let writes = async {
        for step in 0..100 {
            let rows = [1, 9].map(|n| account(n, step + 1, "x"));
            p.commit(step, step + 1, &upserts(rows)).await.unwrap();
        }
    };
    let reads = async {
        loop {
            let (checkpoint, rows) = p
                .store
                .scan(&p.model, &p.generation, Partition(0), None, 9)
                .await
                .unwrap();
            assert!(
                rows.iter()
                    .all(|(_, row)| row.position == checkpoint.position),
                "{checkpoint:?} {rows:?}"
            );
            if checkpoint == at(100) {
                break;
            }
        }
    };
    tokio::join!(writes, reads);
}

async fn questions_that_do_not_fit_the_definition_are_refused(database: Database) {
    let p = prepared(database, accounts()).await;
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
