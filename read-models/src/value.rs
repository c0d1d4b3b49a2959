//! The values a row may hold, and what every database can store of them. It converts to no database's form: adapters do.

use chrono::{DateTime, Datelike, NaiveDate, SubsecRound, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::{Column, ColumnType};

/// The years that every database can store and order.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

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
}

impl Value {
    /// Cuts a moment to the microsecond, as databases store it, so that a row in memory equals the row read back.
    pub(crate) fn normalise(&mut self) {
        if let Self::Timestamp(moment) = self {
            *moment = to_micros(*moment);
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
            (_, Value::Null)
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
