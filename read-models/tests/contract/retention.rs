//! Rows that are due, as each database finds and removes them.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use events::Partition;
use read_models::{Checkpoint, ColumnType, Commit, ReadModel, Value};

use crate::database::{Database, at, deletes, on_every, prepared, row, upserts};

on_every!(rows_that_are_due_are_found_the_oldest_first_and_go_without_an_event);

fn second(n: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + n, 0).unwrap()
}

fn day(n: i64) -> NaiveDate {
    second(n * 86_400).date_naive()
}

async fn rows_that_are_due_are_found_the_oldest_first_and_go_without_an_event(database: Database) {
    let keep = TimeDelta::seconds(10);
    let visits = |name: &str, column_type| {
        ReadModel::new(name)
            .key("n", ColumnType::Integer)
            .column("at", column_type)
            .retention("at", keep)
    };
    let days: Vec<Value> = [5, 1, 3, 2].map(|n| day(n).into()).into();
    let moments: Vec<Value> = [5, 1, 3, 2].map(|n| second(n).into()).into();
    for (model, values, now) in [
        (
            visits("moments", ColumnType::Timestamp),
            moments,
            second(3) + keep,
        ),
        (
            visits("days", ColumnType::Date),
            days,
            second(3 * 86_400) + keep,
        ),
    ] {
        let p = prepared(database.share(), model).await;
        for partition in [0, 1] {
            let values = values.iter().cloned().chain([Value::Null]);
            let rows = (0..).zip(values).map(|(n, value)| {
                let key = vec![Value::from(n * 2 + i64::from(partition))];
                (key, row(partition, 1, [value]))
            });
            p.commit_to(partition, 0, 1, &upserts(rows)).await.unwrap();
        }
        let due = p.model.due_at(now).unwrap();
        let found = async |limit| {
            let (model, generation) = (&p.model, &p.generation);
            let found = p
                .store
                .due_rows(model, generation, Partition(1), &due, limit)
                .await;
            let found = found.unwrap();
            assert!(found.iter().all(|(key, row)| due.holds(key, &row.values)));
            found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let keys = |ns: &[i64]| -> Vec<_> { ns.iter().map(|n| vec![Value::from(*n)]).collect() };
        assert_eq!(found(1).await, keys(&[3]));
        assert_eq!(
            found(9).await,
            keys(&[3, 7]),
            "neither what is due at this very moment, nor null"
        );
        // No event has come: what the rows are removed from stays where it is.
        let amended = Checkpoint {
            amended: 1,
            ..at(1)
        };
        let commit = Commit {
            model: &p.model,
            generation: &p.generation,
            partition: Partition(1),
            from: at(1),
            to: amended,
            writes: &deletes(keys(&[3, 7])),
        };
        p.store.commit(commit).await.unwrap();
        assert!(found(9).await.is_empty());
        assert_eq!(p.checkpoint(1).await.position, at(1).position);
        assert_eq!(p.scanned(1).await.1.len(), 3);
        assert_eq!(p.scanned(0).await.1.len(), 5);
    }
}
