//! Which plans PostgreSQL makes of pages: ranges of the indexes that are there, wherever the page begins.

use crate::query::{Comparison, Direction, Filter, Nulls, Order, Query};
use crate::sql::{self, Dialect, built};
use crate::{Access, ColumnType, Options, ReadModel, ReadStore as _, Value};

use super::{Postgres, codec};

const ROWS: i64 = 20_000;

pub(crate) fn entries() -> ReadModel {
    ReadModel::new("entries")
        .key("id", ColumnType::Integer)
        .column("owner", ColumnType::Uuid)
        .column("name", ColumnType::Text)
        .column("n", ColumnType::Integer)
        .index(&["n"])
        .index(&["name", "id"])
        .readable_by(Access::Owner {
            column: "owner".into(),
        })
}

/// A query in the order of a column and the key, from the middle on or from the beginning.
pub(crate) fn page(column: &str, direction: Direction, nulls: Nulls, from: Option<Value>) -> Query {
    let model = entries();
    let field = model.field(column).expect("it is declared");
    let order = Order {
        field,
        direction,
        nulls,
    };
    let query = Query::new(&model, Filter::ALL, 20);
    let mut query = query.in_order(&model, vec![order]);
    query.after = from.map(|value| match column {
        "id" => vec![value],
        _ => vec![value, (ROWS / 2).into()],
    });
    query
}

pub(crate) const DIRECTIONS: [(Direction, Nulls); 4] = [
    (Direction::Ascending, Nulls::Last),
    (Direction::Ascending, Nulls::First),
    (Direction::Descending, Nulls::First),
    (Direction::Descending, Nulls::Last),
];

/// A table of them, with so many partitions.
async fn prepared(partitions: u16) -> (Postgres, String) {
    let url = test_support::Postgres::shared()
        .await
        .fresh_database()
        .await;
    let store = Postgres::open(&url, Options::default()).await.unwrap();
    let log = events::LogIdentity {
        log: uuid::Uuid::from_u128(1),
        epoch: uuid::Uuid::from_u128(2),
        partitions,
    };
    let generation = crate::ProjectionStore::prepare(&store, &entries(), log).await;
    (store, generation.unwrap().table)
}

#[tokio::test]
async fn a_look_at_the_journal_reads_what_is_new() {
    let (store, table) = prepared(2).await;
    // As it is between two counts of what the table holds.
    let journal = "INSERT INTO changes (generation, partition, position, since, keys) \
        SELECT $1, i % 2, i, i - 2, '' FROM generate_series(1, $2) i";
    for statement in [
        "UPDATE checkpoints SET position = $2 WHERE generation = $1",
        journal,
    ] {
        sqlx::query(statement)
            .bind(&table)
            .bind(ROWS)
            .execute(&store.pool)
            .await
            .unwrap();
    }
    let sql = crate::journal::since(Dialect::Postgres, 2);
    let mut explain = sqlx::query(built(format!("EXPLAIN {sql}"))).bind(&table);
    for position in [ROWS - 5, ROWS - 5, 100_000] {
        explain = explain.bind(position);
    }
    let rows = explain.fetch_all(&store.pool).await.unwrap();
    let lines = rows.iter().map(|row| sqlx::Row::get::<String, _>(row, 0));
    let plan = lines.collect::<Vec<_>>().join("\n");
    let looked = plan.split("changes_pkey").nth(1).expect(&plan);
    let condition = looked
        .lines()
        .find(|line| line.contains("Index Cond"))
        .expect(&plan);
    assert!(condition.contains("\"position\" >"), "{plan}");
}

#[tokio::test]
async fn pages_read_ranges_of_the_indexes_there_are() {
    let (store, table) = prepared(1).await;
    let model = entries();
    for statement in [
        format!(
            "INSERT INTO \"{table}\" SELECT i, '00000000-0000-0000-0000-000000000001', 'name ' || i, \
             CASE WHEN i % 10 = 0 THEN NULL ELSE i / 3 END, 0, i, NULL FROM generate_series(1, {ROWS}) i"
        ),
        format!("ANALYZE \"{table}\""),
    ] {
        sqlx::query(built(statement))
            .execute(&store.pool)
            .await
            .unwrap();
    }
    let plan = async |query: &Query| {
        let statement = sql::page(Dialect::Postgres, &model, (&table, sql::Seen::Live), query);
        let explain = sqlx::query(built(format!("EXPLAIN {}", statement.sql)));
        let bound = statement.values.iter().fold(explain, codec::bind);
        let rows = bound.fetch_all(&store.queries).await.unwrap();
        let lines = rows.iter().map(|row| sqlx::Row::get::<String, _>(row, 0));
        lines.collect::<Vec<_>>().join("\n")
    };
    for (direction, nulls) in DIRECTIONS {
        for (column, middle) in [
            ("n", Value::Integer(ROWS / 6)),
            ("n", Value::Null),
            ("name", "name 5".into()),
            ("id", Value::Integer(ROWS / 2)),
        ] {
            for from in [None, Some(middle)] {
                let query = page(column, direction, nulls, from);
                let plan = plan(&query).await;
                assert!(!plan.contains("Seq Scan on entries"), "{query:?}\n{plan}");
                let conditions = plan.matches("Index Cond").count();
                assert!(query.after.is_none() || conditions > 0, "{query:?}\n{plan}");
            }
        }
    }
    let equal = |column: &str, value: Value| {
        let field = model.field(column).unwrap();
        Query::new(&model, Filter::Compare(field, Comparison::Eq, value), 20)
    };
    for query in [
        equal("name", "name 7".into()),
        equal("n", 7.into()),
        equal("id", 7.into()),
    ] {
        let plan = plan(&query).await;
        assert!(!plan.contains("Seq Scan on entries"), "{query:?}\n{plan}");
    }
    let one = store
        .list(&model, &equal("name", "name 7".into()))
        .await
        .unwrap();
    assert_eq!(one.rows[0][0], Value::Integer(7));
}
