//! Which plans SQLite makes of pages: ranges of the indexes that are there, wherever the page begins.

use sqlx::Row as _;

use crate::postgres::plan::{DIRECTIONS, entries, page};
use crate::sql::{self, Dialect, built};
use crate::{Options, ProjectionStore as _, Query, Value};

use super::{Sqlite, codec};

#[tokio::test]
async fn pages_read_ranges_of_the_indexes_there_are() {
    let folder = test_support::temp_dir();
    let url = format!("sqlite:{}", folder.path().join("plans.db").display());
    let store = Sqlite::open(&url, Options::default()).await.unwrap();
    let model = entries();
    let log = events::LogIdentity {
        log: uuid::Uuid::from_u128(1),
        epoch: uuid::Uuid::from_u128(2),
        partitions: 1,
    };
    let table = store.prepare(&model, log).await.unwrap().table;
    let plan = async |query: &Query| {
        let statement = sql::page(Dialect::Sqlite, &model, (&table, sql::Seen::Live), query);
        let sql = format!("EXPLAIN QUERY PLAN {}", statement.sql);
        let bound = statement
            .values
            .iter()
            .fold(sqlx::query(built(sql)), codec::bind);
        let rows = bound.fetch_all(&store.readers).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        lines.join("\n")
    };
    for (direction, nulls) in DIRECTIONS {
        for (column, middle) in [
            ("n", Value::Integer(3000)),
            ("n", Value::Null),
            ("name", "name 5".into()),
            ("id", Value::Integer(10_000)),
        ] {
            for from in [None, Some(middle)] {
                let query = page(column, direction, nulls, from);
                let plan = plan(&query).await;
                // A scan in the order of an index, or of the row ids that the key is, ends with the page; any other reads
                // the table.
                let scans = plan.lines().filter(|line| line.starts_with("SCAN v"));
                assert!(
                    scans
                        .clone()
                        .all(|line| column == "id" || line.contains("USING")),
                    "{query:?}\n{plan}"
                );
                let ranged = plan.lines().any(|line| line.starts_with("SEARCH v"));
                assert!(query.after.is_none() || ranged, "{query:?}\n{plan}");
            }
        }
    }
}
