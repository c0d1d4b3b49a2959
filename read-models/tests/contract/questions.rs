//! Random rows and random queries, the same for the same seed.

use chrono::{DateTime, NaiveDate, TimeDelta};
use read_models::{
    Column, ColumnType, Comparison, Decimal, Direction, Field, Filter, Is, Merge, Nulls, Order,
    Pattern, Query, ReadModel, Row, RowKey, Value,
};
use uuid::Uuid;

use crate::database::row;

/// A read model with a column of every type, all of which may be null.
pub fn everything() -> ReadModel {
    ReadModel::new("everything")
        .key("k", ColumnType::Text)
        .key("n", ColumnType::Integer)
        .column("text", ColumnType::Text)
        .column("number", ColumnType::Integer)
        .column("yes", ColumnType::Boolean)
        .column("moment", ColumnType::Timestamp)
        .column("day", ColumnType::Date)
        .column("uuid", ColumnType::Uuid)
        .column("secret", ColumnType::Personal)
        .column("amount", ColumnType::Decimal { scale: 2 })
        // Names that JSON functions of SQLite use themselves.
        .column("value", ColumnType::List)
        .column("key", ColumnType::List)
}

/// A read model whose rows are merged from what each partition has.
pub fn summed_by_day() -> ReadModel {
    ReadModel::new("summed-by-day")
        .key("day", ColumnType::Date)
        .key("k", ColumnType::Text)
        .column("a", ColumnType::Integer)
        .column("amount", ColumnType::Decimal { scale: 2 })
        .merged("first", ColumnType::Timestamp, Merge::Min)
        .merged("last", ColumnType::Text, Merge::Max)
        .merged("uuid", ColumnType::Uuid, Merge::Min)
        .merged("yes", ColumnType::Boolean, Merge::Max)
        .summed()
}

/// Texts that differ in what collations, patterns and quoting could get wrong.
const TEXTS: [&str; 16] = [
    "", "a", "A", "b", "B", "ab", "aB", "a%b", "a_b", "a*b", "a[b", "ä", "Ä", "ß", "a\\b", "日本",
];
const PATTERNS: [&str; 12] = [
    "%", "a%", "A%", "%b", "_", "a_b", r"a\%b", r"a\_b", "a*%", "%[%", r"%\\%", "Ä",
];

pub struct Questions<'m> {
    model: &'m ReadModel,
    state: u64,
}

impl<'m> Questions<'m> {
    pub fn new(model: &'m ReadModel, seed: u64) -> Self {
        Self { model, state: seed }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A value of a type out of few, so that rows are often equal.
    fn value(&mut self, column_type: ColumnType) -> Value {
        let n = self.below(9) as i64;
        match column_type {
            ColumnType::Text => self.one(&TEXTS).into(),
            ColumnType::Integer => self
                .one(&[i64::MIN, -1, 0, 1, 2, 10, 1 << 53, i64::MAX / 16])
                .into(),
            ColumnType::Boolean => (n % 2 == 0).into(),
            // Two moments within one microsecond are the same to every database.
            ColumnType::Timestamp => (DateTime::from_timestamp(1_700_000_000, 0).unwrap()
                + TimeDelta::nanoseconds(n * 500))
            .into(),
            ColumnType::Date => NaiveDate::from_ymd_opt(1999 + n as i32, 2, 28)
                .unwrap()
                .into(),
            ColumnType::Uuid => Uuid::from_u128((n as u128) << 100).into(),
            ColumnType::Personal => "enc1.k.s.e.f.p".into(),
            ColumnType::Decimal { .. } => match n {
                0 => Decimal::of::<0>(2).into(),
                1 => Decimal::of::<1>(15).into(),
                n => Decimal::of::<2>(n * 50 - 300).into(),
            },
            ColumnType::List => Value::List(self.texts()),
        }
    }

    fn texts(&mut self) -> Vec<String> {
        let count = self.below(4);
        (0..count)
            .map(|_| self.one(&TEXTS[..6]).to_owned())
            .collect()
    }

    pub fn rows(&mut self, count: usize) -> Vec<(RowKey, Row)> {
        let mut rows: Vec<(RowKey, Row)> = Vec::new();
        for n in 0..count {
            let key: Vec<Column> = self.model.key.clone();
            let key: RowKey = key
                .iter()
                .map(|column| match column.column_type {
                    ColumnType::Integer => (self.below(20) as i64).into(),
                    other => self.value(other),
                })
                .collect();
            if rows.iter().any(|(other, _)| *other == key) {
                continue;
            }
            let shared = self.model.shared;
            let columns = self.model.columns.clone();
            let values: Vec<Value> = columns
                .iter()
                .map(|column| match (self.below(4), column.column_type) {
                    (_, ColumnType::Integer) if shared => (self.below(5) as i64 - 2).into(),
                    (0, _) => Value::Null,
                    (_, column_type) => micros(self.value(column_type)),
                })
                .collect();
            let mut row = row(0, 1 + n as u64 % 5, values);
            if n % 6 == 0 && !shared {
                row.updated_at = None;
            }
            rows.push((key, row));
        }
        rows
    }

    pub fn query(&mut self) -> Query {
        let filter = self.filter(3);
        let limit = self.one(&[1, 3, 20, 1000]);
        let mut query = Query::new(self.model, filter, limit);
        let fields: Vec<Field> = self.model.fields().collect();
        if self.below(2) == 0 {
            query.select = (0..=self.below(4)).map(|_| self.one(&fields)).collect();
        }
        let orderable: Vec<Field> = fields
            .into_iter()
            .filter(|field| field.column_type().is_ordered())
            .collect();
        let order = (0..self.below(4))
            .map(|_| Order {
                field: self.one(&orderable),
                direction: self.one(&[Direction::Ascending, Direction::Descending]),
                nulls: self.one(&[Nulls::First, Nulls::Last]),
            })
            .collect();
        query.offset = self.one(&[0, 0, 1, 7]);
        query.in_order(self.model, order)
    }

    fn filter(&mut self, depth: usize) -> Filter {
        if depth == 0 {
            return self.condition();
        }
        match self.below(6) {
            0 => Filter::All(self.filters(depth - 1)),
            1 | 2 => Filter::Any(self.filters(depth - 1)),
            3 => Filter::Not(Box::new(self.filter(depth - 1))),
            _ => self.condition(),
        }
    }

    fn filters(&mut self, depth: usize) -> Vec<Filter> {
        (0..self.below(4)).map(|_| self.filter(depth)).collect()
    }

    fn condition(&mut self) -> Filter {
        let fields: Vec<Field> = self.model.fields().collect();
        let field = self.one(&fields);
        let column_type = field.column_type();
        let kind = self.below(10);
        match column_type {
            ColumnType::Text if kind < 4 => {
                let ignore_case = self.below(2) == 0;
                Filter::Like(
                    field,
                    Pattern::parse(self.one(&PATTERNS), ignore_case).unwrap(),
                )
            }
            ColumnType::List if kind < 8 => Filter::Contains(field, self.texts()),
            ColumnType::Personal | ColumnType::List => Filter::Is(field, Is::Null),
            ColumnType::Boolean if kind < 4 => {
                Filter::Is(field, self.one(&[Is::True, Is::False, Is::Null]))
            }
            _ if kind == 4 => Filter::Is(field, Is::Null),
            _ if kind < 7 => {
                let values = (0..self.below(4)).map(|_| self.value(column_type));
                Filter::In(field, values.collect())
            }
            _ => {
                use Comparison as C;
                let comparison = self.one(&[C::Eq, C::Neq, C::Gt, C::Gte, C::Lt, C::Lte]);
                let value = self.value(column_type);
                Filter::Compare(field, comparison, value)
            }
        }
    }
}

/// As a database gives it back.
fn micros(value: Value) -> Value {
    match value {
        Value::Timestamp(moment) => DateTime::from_timestamp_micros(moment.timestamp_micros())
            .unwrap()
            .into(),
        value => value,
    }
}
