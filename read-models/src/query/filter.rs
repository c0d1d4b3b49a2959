//! Conditions on rows, with SQL's three truth values: true, false, and unknown where a null is compared. A row passes where
//! the condition is true. The meaning in memory and the meaning in SQL are held together by a test.

use std::cmp::Ordering;

use super::{Field, Pattern};
use crate::value::to_micros;
use crate::{ColumnType, Error, Value};

/// How a column's value stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

/// What a column's value is, null included: never unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Is {
    /// Null.
    Null,
    /// True, of a `Boolean`.
    True,
    /// False, of a `Boolean`.
    False,
}

/// A condition on a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Every one holds; without any: true.
    All(Vec<Filter>),
    /// At least one holds; without any: false.
    Any(Vec<Filter>),
    /// It does not hold; unknown stays unknown.
    Not(Box<Filter>),
    /// The column compared with a value that is not null; unknown where the column is null.
    Compare(Field, Comparison, Value),
    /// The column is one of these values, of which none is null; unknown where the column is null and there are any.
    In(Field, Vec<Value>),
    /// The text matches; unknown where the column is null.
    Like(Field, Pattern),
    /// The list holds each of these texts; unknown where the column is null.
    Contains(Field, Vec<String>),
    /// The column is null, true or false.
    Is(Field, Is),
}

impl Filter {
    /// The condition that holds for every row.
    pub const ALL: Self = Self::All(Vec::new());
    /// The condition that holds for no row.
    pub const NONE: Self = Self::Any(Vec::new());

    /// Both conditions.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All(mut all), Self::All(others)) => {
                all.extend(others);
                Self::All(all)
            }
            (Self::All(mut all), other) => {
                all.push(other);
                Self::All(all)
            }
            (one, other) => Self::All(vec![one]).and(other),
        }
    }

    /// Whether a whole row, as readers see it, passes: exactly the rows that a database would give.
    pub fn matches(&self, row: &[Value]) -> bool {
        self.holds(row) == Some(true)
    }

    /// Whether some row with this key could pass, whatever its other columns hold.
    pub fn may_match(&self, key: &[Value]) -> bool {
        self.may_be(true, key)
    }

    /// Whether it could be true, or false or unknown, of some row with this key.
    fn may_be(&self, wanted: bool, key: &[Value]) -> bool {
        match self {
            Self::All(filters) if wanted => filters.iter().all(|one| one.may_be(true, key)),
            Self::All(filters) => filters.iter().any(|one| one.may_be(false, key)),
            Self::Any(filters) if wanted => filters.iter().any(|one| one.may_be(true, key)),
            Self::Any(filters) => filters.iter().all(|one| one.may_be(false, key)),
            // What is unknown stays unknown, so it counts as either here.
            Self::Not(filter) => filter.may_be(!wanted, key),
            _ if self.fields().iter().all(|field| field.is_key()) => self.matches(key) == wanted,
            _ => true,
        }
    }

    /// The truth value; `None`: unknown.
    fn holds(&self, row: &[Value]) -> Option<bool> {
        let value = |field: &Field| row.get(field.index).unwrap_or(&Value::Null);
        match self {
            Self::All(filters) => every(filters, row, false),
            Self::Any(filters) => every(filters, row, true),
            Self::Not(filter) => filter.holds(row).map(|holds| !holds),
            Self::Compare(field, comparison, wanted) => {
                compare(value(field), wanted).map(|found| comparison.holds(found))
            }
            Self::In(_, wanted) if wanted.is_empty() => Some(false),
            Self::In(field, wanted) => {
                let found = value(field);
                let equal = |wanted: &Value| compare(found, wanted) == Some(Ordering::Equal);
                (*found != Value::Null).then(|| wanted.iter().any(equal))
            }
            Self::Like(field, pattern) => match value(field) {
                Value::Text(text) => Some(pattern.matches(text)),
                _ => None,
            },
            Self::Contains(field, wanted) => match value(field) {
                Value::List(found) => Some(wanted.iter().all(|text| found.contains(text))),
                _ => None,
            },
            Self::Is(field, is) => Some(match is {
                Is::Null => *value(field) == Value::Null,
                Is::True => *value(field) == Value::Boolean(true),
                Is::False => *value(field) == Value::Boolean(false),
            }),
        }
    }

    /// Says whether every database understands it; `known` says whether a column is of the read model.
    pub(super) fn check(&self, known: &impl Fn(&Field) -> Result<(), Error>) -> Result<(), Error> {
        let (field, fits) = match self {
            Self::All(filters) | Self::Any(filters) => {
                return filters.iter().try_for_each(|filter| filter.check(known));
            }
            Self::Not(filter) => return filter.check(known),
            Self::Compare(field, _, value) => (field, comparable(field, value)),
            Self::In(field, values) => {
                let fits = values.iter().all(|value| comparable(field, value));
                (field, fits)
            }
            Self::Like(field, _) => (field, field.column_type() == ColumnType::Text),
            Self::Contains(field, texts) => {
                let list = Value::List(texts.clone());
                (field, field.column.check_storable(&list).is_ok())
            }
            Self::Is(_, Is::Null) => return self.fields().into_iter().try_for_each(known),
            Self::Is(field, _) => (field, field.column_type() == ColumnType::Boolean),
        };
        known(field)?;
        if fits {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the condition on the column {:?} does not fit its type, {:?}",
            field.name(),
            field.column_type()
        )))
    }

    /// The columns that it names; a column may come several times.
    pub fn fields(&self) -> Vec<&Field> {
        match self {
            Self::All(filters) | Self::Any(filters) => {
                filters.iter().flat_map(Self::fields).collect()
            }
            Self::Not(filter) => filter.fields(),
            Self::Compare(field, ..)
            | Self::In(field, _)
            | Self::Like(field, _)
            | Self::Contains(field, _)
            | Self::Is(field, _) => vec![field],
        }
    }
}

/// The conjunction of the filters, or where `decided` is true their disjunction: the first that is `decided` decides.
fn every(filters: &[Filter], row: &[Value], decided: bool) -> Option<bool> {
    let mut outcome = Some(!decided);
    for filter in filters {
        match filter.holds(row) {
            Some(holds) if holds == decided => return Some(decided),
            None => outcome = None,
            Some(_) => {}
        }
    }
    outcome
}

fn comparable(field: &Field, value: &Value) -> bool {
    field.column_type().is_ordered()
        && *value != Value::Null
        && field.column.check_storable(value).is_ok()
}

/// How a stored value stands to a wanted one, which the databases take in to the microsecond; nothing if either is null.
fn compare(found: &Value, wanted: &Value) -> Option<Ordering> {
    match (found, wanted) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Timestamp(found), Value::Timestamp(wanted)) => Some(found.cmp(&to_micros(*wanted))),
        (found, wanted) => Some(found.cmp(wanted)),
    }
}

impl Comparison {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Eq => found.is_eq(),
            Self::Neq => found.is_ne(),
            Self::Gt => found.is_gt(),
            Self::Gte => found.is_ge(),
            Self::Lt => found.is_lt(),
            Self::Lte => found.is_le(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReadModel;

    #[test]
    fn what_the_key_decides_is_known_without_the_row() {
        let model = ReadModel::new("m")
            .key("k", ColumnType::Integer)
            .column("c", ColumnType::Integer);
        let is = |name: &str, value: i64| {
            Filter::Compare(model.field(name).unwrap(), Comparison::Eq, value.into())
        };
        let not = |filter: Filter| Filter::Not(Box::new(filter));
        let key = [Value::Integer(1)];
        for (filter, may) in [
            (Filter::ALL, true),
            (Filter::NONE, false),
            (is("k", 1), true),
            (is("k", 2), false),
            (is("c", 2), true),
            (not(is("c", 2)), true),
            (not(is("k", 1)), false),
            (is("k", 2).and(is("c", 1)), false),
            (Filter::Any(vec![is("k", 2), is("c", 1)]), true),
            (not(Filter::Any(vec![is("k", 1), is("c", 1)])), false),
            (not(Filter::All(vec![is("k", 1), is("c", 1)])), true),
            (not(not(is("k", 2))), false),
        ] {
            assert_eq!(filter.may_match(&key), may, "{filter:?}");
        }
    }
}
