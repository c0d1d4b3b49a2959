//! Queries of readers: what a database answers is what the same query means in memory, for thousands of random ones; pages
//! follow each other without a gap; time-outs; what does not fit the definition is refused.

use std::time::Duration;

use events::{Partition, Position};
use read_models::{
    Comparison, Direction, Error, Filter, Is, Nulls, OperatedStore, Options, Order, Page, Pattern,
    Query, ReadModel, Row, RowKey, Value, open,
};

use crate::database::{
    Database, Prepared, account, accounts, id, on_both, prepared_to_read, upserts,
};
use crate::questions::{Questions, everything, summed_by_day};

on_both!(
    the_database_answers_what_the_query_means_in_memory,
    summed_rows_are_filtered_and_ordered_by_their_sums,
    pages_follow_each_other_without_a_gap_or_a_repetition,
    a_page_tells_what_it_was_read_from,
    conditions_that_do_not_fit_their_column_are_refused,
    a_query_that_takes_too_long_is_ended_by_the_database,
);

/// Queries asked of each read model. Each is one fixed by the seed.
const QUESTIONS: usize = 400;
const SEED: u64 = 0x5eed_0001;

/// What a query means, said without any database: the rows that come, and how many there are.
fn meaning(query: &Query, rows: &[Vec<Value>]) -> (Vec<Vec<Value>>, u64) {
    let mut passing: Vec<_> = rows
        .iter()
        .filter(|row| query.filter.matches(row))
        .collect();
    passing.sort_by(|a, b| query.compare(a, b));
    let total = passing.len() as u64;
    let page = passing
        .into_iter()
        .skip(query.offset as usize)
        .take(query.limit as usize)
        .map(|row| {
            query
                .select
                .iter()
                .map(|field| row[field.index()].clone())
                .collect()
        });
    (page.collect(), total)
}

async fn asked(p: &Prepared<dyn OperatedStore>, query: &Query) -> Page {
    let answer = p.store.list(&p.model, query).await;
    answer.unwrap_or_else(|error| panic!("{error}\n{query:?}"))
}

async fn whole(p: &Prepared<dyn OperatedStore>) -> Vec<Vec<Value>> {
    asked(p, &Query::new(&p.model, Filter::ALL, 100_000))
        .await
        .rows
}

async fn hold_to_meaning(p: &Prepared<dyn OperatedStore>, seed: u64) {
    let rows = whole(p).await;
    assert!(rows.len() > 50, "{}", rows.len());
    let mut questions = Questions::new(&p.model, seed);
    let (mut found, mut empty) = (0, 0);
    for n in 0..QUESTIONS {
        let mut query = questions.query();
        query.count = n % 3 == 0;
        let (expected, total) = meaning(&query, &rows);
        let page = asked(p, &query).await;
        assert_eq!(page.rows, expected, "question {n} of {seed}: {query:?}");
        assert!(
            page.total.is_none_or(|counted| counted == total),
            "{query:?}"
        );
        assert_eq!(page.total.is_some(), query.count);
        found += page.rows.len();
        empty += usize::from(page.rows.is_empty());
    }
    // Questions that always found nothing, or never, would prove little.
    assert!(
        found > QUESTIONS && empty < QUESTIONS * 2 / 3,
        "{found} rows, {empty} empty"
    );
}

async fn the_database_answers_what_the_query_means_in_memory(database: Database) {
    let p = prepared_to_read(database, everything()).await;
    let rows = Questions::new(&p.model, SEED).rows(120);
    p.commit(0, 1, &upserts(rows)).await.unwrap();
    hold_to_meaning(&p, SEED).await;
}

async fn summed_rows_are_filtered_and_ordered_by_their_sums(database: Database) {
    let p = prepared_to_read(database, summed_by_day()).await;
    for partition in 0..4 {
        let rows = Questions::new(&p.model, SEED + u64::from(partition)).rows(90);
        let rows = rows.into_iter().map(|(key, row)| {
            let partition = Partition(partition);
            (key, Row { partition, ..row })
        });
        p.commit_to(partition, 0, 1, &upserts(rows)).await.unwrap();
    }
    hold_to_meaning(&p, SEED + 7).await;
}

async fn pages_follow_each_other_without_a_gap_or_a_repetition(database: Database) {
    let p = prepared_to_read(database, everything()).await;
    let mut questions = Questions::new(&p.model, SEED + 1);
    p.commit(0, 1, &upserts(questions.rows(90))).await.unwrap();
    let rows = whole(&p).await;
    for n in 0..60 {
        let mut query = questions.query();
        (query.offset, query.limit) = (0, 1000);
        if n % 2 == 0 {
            query.filter = Filter::ALL;
        }
        let (expected, _) = meaning(&query, &rows);
        query.limit = 1 + n % 17;
        let mut walked = Vec::new();
        loop {
            let page = asked(&p, &query).await;
            assert!(page.rows.len() <= query.limit as usize);
            walked.extend(page.rows);
            let Some(next) = page.next else { break };
            assert!(walked.len() < 1000, "{query:?}");
            query.after = Some(next);
        }
        assert_eq!(walked, expected, "walk {n}: {query:?}");
    }
}

async fn a_page_tells_what_it_was_read_from(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let nothing = asked(&p, &Query::new(&p.model, Filter::ALL, 9)).await;
    let zero = Position::new(0);
    assert_eq!((nothing.rows.len(), nothing.next), (0, None));
    assert_eq!(nothing.place.positions, [zero; 4]);
    p.commit_to(
        2,
        0,
        7,
        &upserts((1..=3).map(|n| {
            let (key, row) = account(n, 7, "open");
            (
                key,
                Row {
                    partition: Partition(2),
                    ..row
                },
            )
        })),
    )
    .await
    .unwrap();
    let mut query = Query::new(&p.model, Filter::ALL, 2);
    query.select = vec![
        p.model.field("_position").unwrap(),
        p.model.field("status").unwrap(),
    ];
    query.count = true;
    let page = asked(&p, &query).await;
    assert_eq!(page.rows, vec![vec![Value::from(7), "open".into()]; 2]);
    assert_eq!((page.total, page.next), (Some(3), Some(id(2))));
    assert_eq!(page.place.positions, [zero, zero, Position::new(7), zero]);
    assert_eq!(
        (page.place.generation, page.place.log),
        (p.generation.clone(), crate::database::log(1))
    );
    query.limit = 0;
    let none = asked(&p, &query).await;
    assert_eq!((none.rows.len(), none.next, none.total), (0, None, Some(3)));
}

async fn conditions_that_do_not_fit_their_column_are_refused(database: Database) {
    let p = prepared_to_read(database, everything()).await;
    let field = |name: &str| p.model.field(name).unwrap();
    let equals = |name, value: Value| Filter::Compare(field(name), Comparison::Eq, value);
    let other = ReadModel::new("other").key("other", read_models::ColumnType::Text);
    let foreign = other.field("other").unwrap();
    let filters = [
        equals("number", "x".into()),
        equals("number", Value::Null),
        equals("secret", "enc1.k.s.e.f.p".into()),
        equals("text", "a\0".into()),
        Filter::In(field("number"), vec![1.into(), Value::Null]),
        Filter::Like(field("uuid"), Pattern::parse("a", false).unwrap()),
        Filter::Is(field("number"), Is::True),
        Filter::Not(Box::new(Filter::Any(vec![Filter::Is(
            foreign.clone(),
            Is::Null,
        )]))),
    ];
    for filter in filters {
        let query = Query::new(&p.model, filter, 9);
        let answer = p.store.list(&p.model, &query).await;
        assert!(
            matches!(answer, Err(Error::Invalid(_))),
            "{query:?} {answer:?}"
        );
    }
    let base = Query::new(&p.model, Filter::ALL, 9);
    let by = |field| {
        base.clone()
            .in_order(&p.model, vec![Order::ascending(field)])
    };
    let after = |values: &[Value]| {
        let mut query = base.clone();
        query.after = Some(values.to_vec());
        query
    };
    let mut selecting = base.clone();
    selecting.select = vec![foreign.clone()];
    for query in [
        by(field("secret")),
        by(foreign),
        selecting,
        after(&["a".into()]),
        after(&["a".into(), "b".into()]),
        after(&[Value::Null, 1.into()]),
        Query::new(&other, Filter::ALL, 9),
    ] {
        let answer = p.store.list(&p.model, &query).await;
        assert!(
            matches!(answer, Err(Error::Invalid(_))),
            "{query:?} {answer:?}"
        );
    }
}

async fn a_query_that_takes_too_long_is_ended_by_the_database(database: Database) {
    let p = prepared_to_read(database, everything()).await;
    let long = "ab".repeat(50_000);
    let rows = Questions::new(&p.model, SEED)
        .rows(100)
        .into_iter()
        .map(|(key, mut row)| {
            row.values[0] = long.as_str().into();
            (key, row)
        });
    p.commit(0, 1, &upserts(rows)).await.unwrap();
    let timeout = Duration::from_millis(20);
    let options = Options {
        query_timeout: timeout,
        ..Options::read_only()
    };
    let store = open(&p.database.url, options).await.unwrap();
    let text = p.model.field("text").unwrap();
    let slow = |n: usize| {
        let pattern = Pattern::parse(&format!("%ab%ab%b{n}%a%c"), true).unwrap();
        Filter::Like(text.clone(), pattern)
    };
    let slow = Filter::Any((0..50).map(slow).collect());
    let answer = store.list(&p.model, &Query::new(&p.model, slow, 9)).await;
    assert!(
        matches!(answer, Err(Error::TooSlow(after)) if after == timeout),
        "{answer:?}"
    );
    // The connection is as good as before.
    let quick = Query::new(&p.model, Filter::Is(text, Is::Null), 9);
    for _ in 0..20 {
        assert_eq!(store.list(&p.model, &quick).await.unwrap().rows.len(), 0);
    }
}

#[test]
fn an_order_ends_in_the_key_and_says_no_column_twice() {
    let model = everything();
    let field = |name: &str| model.field(name).unwrap();
    let descending = |name| Order {
        direction: Direction::Descending,
        nulls: Nulls::First,
        ..Order::ascending(field(name))
    };
    let order = vec![
        Order::ascending(field("n")),
        descending("text"),
        descending("n"),
    ];
    let query = Query::new(&model, Filter::ALL, 1).in_order(&model, order);
    let said: Vec<_> = query
        .order()
        .iter()
        .map(|o| (o.field.name(), o.direction))
        .collect();
    assert_eq!(
        said,
        [
            ("n", Direction::Ascending),
            ("text", Direction::Descending),
            ("k", Direction::Descending)
        ]
    );
    let nobodys: RowKey = vec!["a".into(), 1.into()];
    let filter = model.with_key(&nobodys);
    let mut values = vec![Value::Null; model.fields().count()];
    assert!(!filter.matches(&values));
    values[..2].clone_from_slice(&nobodys);
    assert!(filter.matches(&values));
}
