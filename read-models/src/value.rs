//! The values a row may hold.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use uuid::Uuid;

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
