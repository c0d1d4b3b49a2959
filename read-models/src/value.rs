//! The values a row may hold, and what every database can store of them. It converts to no database's form: adapters do.

use chrono::{DateTime, Datelike, NaiveDate, SubsecRound, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{Column, ColumnType, Decimal};

/// The years that every database can store and order.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;
/// The most texts in a list.
const LIST_TEXTS: usize = 1_000;
/// The most bytes of text in a list: each change to it writes all of it.
const LIST_BYTES: usize = 65_536;

/// One column's value. Every value of a column has the column's type or is `Null`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// Text, of a `Text` or `Personal` column; of the latter it is ciphertext.
    Text(String),
    /// A UUID.
    Uuid(Uuid),
    /// A moment in UTC, to the microsecond.
    Timestamp(DateTime<Utc>),
    /// A day.
    Date(NaiveDate),
    /// An exact decimal number.
    Decimal(Decimal),
    /// Texts in an order.
    List(Vec<String>),
}

impl Value {
    /// Cuts a moment to the microsecond and gives a decimal the column's scale, as databases store them, so that a row in
    /// memory equals the row read back. What does not fit the column stays as it is, to be refused.
    pub(crate) fn normalise(&mut self, column_type: ColumnType) {
        match (self, column_type) {
            (Self::Timestamp(moment), _) => *moment = to_micros(*moment),
            (Self::Decimal(number), ColumnType::Decimal { scale }) => {
                *number = number.rescaled(scale).unwrap_or(*number);
            }
            _ => {}
        }
    }
}

pub(crate) fn to_micros(moment: DateTime<Utc>) -> DateTime<Utc> {
    moment.trunc_subsecs(6)
}

impl Column {
    /// Says whether a projection may put the value into this column. `Null` it may; keys refuse it themselves.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        if let (ColumnType::Personal, Value::Text(text)) = (self.column_type, value)
            && events::Ciphertext::parse(text).is_err()
        {
            return Err(format!(
                "the column {:?} is personal, and the value for it is not ciphertext",
                self.name
            ));
        }
        self.check_storable(value)
    }

    /// The value as this column stores it: a moment cut to the microsecond, a decimal at the column's scale.
    ///
    /// # Errors
    /// Why the column cannot hold it, as a sentence that names the column.
    pub fn fitted(&self, mut value: Value) -> Result<Value, String> {
        value.normalise(self.column_type);
        self.check_storable(&value).map(|()| value)
    }

    /// Says whether every database can store the value in this column.
    pub(crate) fn check_storable(&self, value: &Value) -> Result<(), String> {
        use ColumnType as T;
        let name = &self.name;
        match (self.column_type, value) {
            (T::Text | T::Personal, Value::Text(text)) if text.contains('\0') => Err(format!(
                "the text for the column {name:?} holds a NUL character, which PostgreSQL cannot store"
            )),
            (T::Timestamp, Value::Timestamp(moment)) if !YEARS.contains(&moment.year()) => Err(
                format!("the moment for the column {name:?} is not in the years 1 to 9999"),
            ),
            (T::Date, Value::Date(day)) if !YEARS.contains(&day.year()) => Err(format!(
                "the day for the column {name:?} is not in the years 1 to 9999"
            )),
            (T::Decimal { scale }, Value::Decimal(number)) if number.rescaled(scale).is_none() => {
                Err(format!(
                    "the number for the column {name:?} has more than {scale} digits after the point, or more than 18 in all"
                ))
            }
            (T::List, Value::List(texts)) => check_list(name, texts),
            (_, Value::Null)
            | (T::Decimal { .. }, Value::Decimal(_))
            | (T::Text | T::Personal, Value::Text(_))
            | (T::Integer, Value::Integer(_))
            | (T::Boolean, Value::Boolean(_))
            | (T::Timestamp, Value::Timestamp(_))
            | (T::Date, Value::Date(_))
            | (T::Uuid, Value::Uuid(_)) => Ok(()),
            (column_type, _) => Err(format!(
                "the column {name:?} is {column_type:?}, and the value for it is not"
            )),
        }
    }
}

fn check_list(name: &str, texts: &[String]) -> Result<(), String> {
    let bytes: usize = texts.iter().map(String::len).sum();
    if texts.len() > LIST_TEXTS || bytes > LIST_BYTES {
        return Err(format!(
            "the list for the column {name:?} has {} texts with {bytes} bytes; at most {LIST_TEXTS} with {LIST_BYTES} are stored",
            texts.len()
        ));
    }
    if texts.iter().any(|text| text.contains('\0')) {
        return Err(format!(
            "a text for the column {name:?} holds a NUL character, which PostgreSQL cannot store"
        ));
    }
    Ok(())
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}
impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Boolean(yes)
    }
}
impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}
impl From<DateTime<Utc>> for Value {
    fn from(moment: DateTime<Utc>) -> Self {
        Self::Timestamp(moment)
    }
}
impl From<NaiveDate> for Value {
    fn from(day: NaiveDate) -> Self {
        Self::Date(day)
    }
}
impl From<Decimal> for Value {
    fn from(number: Decimal) -> Self {
        Self::Decimal(number)
    }
}
impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::List(texts)
    }
}
impl<const N: usize> From<[&str; N]> for Value {
    fn from(texts: [&str; N]) -> Self {
        Self::List(texts.map(str::to_owned).to_vec())
    }
}
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
impl From<&events::Ciphertext> for Value {
    fn from(ciphertext: &events::Ciphertext) -> Self {
        Self::Text(ciphertext.as_str().to_owned())
    }
}
/// A personal value as stored. A plain one never reaches a projection; it would be left out, not shown.
impl<T> From<&events::Personal<T>> for Value {
    fn from(value: &events::Personal<T>) -> Self {
        value.sealed().map_or(Self::Null, Into::into)
    }
}
