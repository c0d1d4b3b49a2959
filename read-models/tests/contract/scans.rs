//! Loading and scanning: stored rows as projections and `verify` see them.

use events::Partition;
use read_models::{ColumnType, ReadModel, Search, Value};

use crate::database::{
    Database, account, accounts, at, deletes, on_every, prepared, row, sign_ups, upserts,
};
use crate::values::types;

on_every!(
    loading_partial_rows_keeps_to_its_partition,
    a_scan_pages_through_one_partition_beside_its_checkpoint,
    a_scan_never_mixes_two_commits,
    rows_are_found_by_an_indexed_column_in_their_partition,
);

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
    p.commit_to(3, 1, 2, &deletes(keys.clone())).await.unwrap();
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

async fn rows_are_found_by_an_indexed_column_in_their_partition(database: Database) {
    for (n, (column_type, values)) in types()
        .into_iter()
        .filter(|(of, _)| of.is_ordered())
        .enumerate()
    {
        let model = ReadModel::new(&format!("found-{n}"))
            .key("n", ColumnType::Integer)
            .column("v", column_type)
            .index(&["v", "n"]);
        let p = prepared(database.share(), model).await;
        for partition in [0, 1] {
            let rows = (0..12_i64).map(|n| {
                let value = values[n as usize % values.len()].clone();
                (
                    vec![Value::from(n * 2 + i64::from(partition))],
                    row(partition, 1, [value]),
                )
            });
            p.commit_to(partition, 0, 1, &upserts(rows)).await.unwrap();
        }
        let find = async |column: &str, value: &Value, limit| {
            let (column, value) = (column.to_owned(), value.clone());
            let search = Search { column, value };
            p.store
                .find_rows(&p.model, &p.generation, Partition(1), &search, limit)
                .await
        };
        for value in &values {
            let mut found = find("v", value, 99).await.unwrap();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            let (_, mut expected) = p.scanned(1).await;
            expected.retain(|(_, row)| row.values[0] == *value);
            assert!(!found.is_empty() && found == expected, "{value:?}");
            assert_eq!(find("v", value, 1).await.unwrap().len(), 1);
        }
        assert_eq!(find("n", &Value::from(3), 9).await.unwrap().len(), 1);
        for (column, value) in [("v", Value::Null), ("n", "x".into()), ("w", 1.into())] {
            assert!(find(column, &value, 9).await.is_err());
        }
    }
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
