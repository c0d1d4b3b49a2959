//! Values: every type, null and hostile, comes back as it went in, and in the same order in every database.

use chrono::{DateTime, NaiveDate, Utc};
use read_models::{ColumnType, ReadModel, Row, RowKey, Value};
use uuid::Uuid;

use crate::database::{Database, on_every, prepared, row, upserts};

on_every!(
    every_type_comes_back_as_it_went_in,
    hostile_text_is_data,
    keys_of_every_type_are_in_the_order_of_their_values
);

const HOSTILE: [&str; 12] = [
    "",
    " ",
    "'; DROP TABLE generations; --",
    "\"\\$1 ?1 :a @b {}\"",
    "NULL",
    "line\nbreak\r\ttab\u{1}\u{7f}",
    "ü日本語\u{1f600}\u{200f}\u{feff}",
    "Z",
    "a",
    "é",
    "\u{ffff}",
    "\u{10ffff}",
];

/// Values of each type, each list in its order.
pub fn types() -> Vec<(ColumnType, Vec<Value>)> {
    let moment = |seconds, nanos| {
        DateTime::<Utc>::from_timestamp(seconds, nanos)
            .unwrap()
            .into()
    };
    let day = |year| NaiveDate::from_ymd_opt(year, 2, 28).unwrap().into();
    let long = "x".repeat(200_000);
    vec![
        (
            ColumnType::Text,
            HOSTILE.iter().map(|text| Value::from(*text)).collect(),
        ),
        (
            ColumnType::Personal,
            vec!["enc1.a.b.c.d.e".into(), long.into()],
        ),
        (
            ColumnType::Integer,
            [i64::MIN, -1, 0, 1, 1 << 53, i64::MAX]
                .map(Value::from)
                .to_vec(),
        ),
        (ColumnType::Boolean, vec![false.into(), true.into()]),
        (
            ColumnType::Timestamp,
            vec![
                moment(-62_135_596_800, 0),
                moment(-1, 999_999_000),
                moment(0, 0),
                moment(0, 1_000),
                moment(1_763_000_000, 120_000_000),
                moment(253_402_300_799, 999_999_000),
            ],
        ),
        (
            ColumnType::Date,
            vec![day(1), day(1969), day(2026), day(9999)],
        ),
        (
            ColumnType::Uuid,
            vec![
                Uuid::nil().into(),
                Uuid::from_u128(1 << 90).into(),
                Uuid::max().into(),
            ],
        ),
    ]
}

async fn every_type_comes_back_as_it_went_in(database: Database) {
    let model = types().iter().enumerate().fold(
        ReadModel::new("every-type").key("n", ColumnType::Integer),
        |model, (i, (column_type, _))| model.column(&format!("c{i}"), *column_type),
    );
    let p = prepared(database, model).await;
    let value = |values: &[Value], n: usize| {
        if n == 0 {
            Value::Null
        } else {
            values[n % values.len()].clone()
        }
    };
    let rows: Vec<_> = (0..30_i64)
        .map(|n| {
            let values: Vec<Value> = types()
                .iter()
                .map(|(_, values)| value(values, n as usize))
                .collect();
            let mut row = row(0, 1, values);
            row.updated_at = row.updated_at.filter(|_| n % 2 == 0);
            (vec![Value::from(n)], row)
        })
        .collect();
    p.commit(0, 1, &upserts(rows.clone())).await.unwrap();
    let keys: Vec<_> = rows.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(p.stored(0, &keys).await, rows);
}

async fn hostile_text_is_data(database: Database) {
    let p = prepared(database, hostile()).await;
    let rows = hostile_rows();
    p.commit(0, 1, &upserts(rows.clone())).await.unwrap();
    for (key, row) in rows {
        assert_eq!(
            p.stored(0, std::slice::from_ref(&key)).await,
            [(key.clone(), row)]
        );
    }
}

/// Named like SQL's own words.
pub fn hostile() -> ReadModel {
    ReadModel::new("select")
        .key("table", ColumnType::Text)
        .key("from", ColumnType::Text)
        .column("where", ColumnType::Text)
}

/// Each text as a part of the key beside each other, and as a value.
pub fn hostile_rows() -> Vec<(RowKey, Row)> {
    let pairs = HOSTILE
        .iter()
        .flat_map(|a| HOSTILE.iter().map(move |b| (a, b)));
    pairs
        .map(|(a, b)| (vec![Value::from(*a), (*b).into()], row(0, 1, [(*b).into()])))
        .collect()
}

async fn keys_of_every_type_are_in_the_order_of_their_values(database: Database) {
    for (n, (column_type, mut values)) in types()
        .into_iter()
        .filter(|(t, _)| *t != ColumnType::Personal)
        .enumerate()
    {
        let p = prepared(database.share(), ordered(n, column_type)).await;
        let rows = values
            .iter()
            .rev()
            .map(|value| (vec![value.clone(), 1.into()], row(0, 1, [])));
        p.commit(0, 1, &upserts(rows)).await.unwrap();
        let (_, scanned) = p.scanned(0).await;
        let found: Vec<Value> = scanned
            .into_iter()
            .map(|(mut key, _)| key.remove(0))
            .collect();
        values.sort();
        assert_eq!(found, values);
    }
}

pub fn ordered(n: usize, column_type: ColumnType) -> ReadModel {
    ReadModel::new(&format!("order-{n}"))
        .key("k", column_type)
        .key("n", ColumnType::Integer)
}
