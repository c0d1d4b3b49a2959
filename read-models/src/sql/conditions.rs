//! Filters as SQL, with the same three truth values, and the values bound to a statement. It runs nothing itself.

use super::{Dialect, quote};
use crate::query::{Comparison, Field, Filter, Is, Pattern};
use crate::{ColumnType, Value};

/// A statement in the making.
pub(super) struct Writer {
    pub(super) dialect: Dialect,
    /// What is bound, from `$1` on.
    pub(super) values: Vec<Value>,
}

impl Writer {
    /// Binds a value, and gives its placeholder.
    pub(super) fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Binds a value that a column is compared with, in the form in which the column stores it.
    pub(super) fn bind_to(&mut self, field: &Field, value: &Value) -> String {
        let stored = field.column().fitted(value.clone());
        self.bind(stored.unwrap_or_else(|_| value.clone()))
    }

    pub(super) fn bind_number(&mut self, number: i64) -> String {
        self.bind(Value::Integer(number))
    }

    /// A condition of SQL with the same three truth values.
    pub(super) fn filter(&mut self, filter: &Filter) -> String {
        match filter {
            Filter::All(parts) => self.joined(parts, " AND ", "TRUE"),
            Filter::Any(parts) => self.joined(parts, " OR ", "FALSE"),
            Filter::Not(part) => format!("(NOT {})", self.filter(part)),
            Filter::Compare(field, comparison, value) => {
                let sign = match comparison {
                    Comparison::Eq => "=",
                    Comparison::Neq => "<>",
                    Comparison::Gt => ">",
                    Comparison::Gte => ">=",
                    Comparison::Lt => "<",
                    Comparison::Lte => "<=",
                };
                let column = comparable(self.dialect, field);
                format!("{column} {sign} {}", self.bind_to(field, value))
            }
            Filter::In(_, values) if values.is_empty() => "FALSE".into(),
            Filter::In(field, values) => {
                let bound: Vec<String> = values
                    .iter()
                    .map(|value| self.bind_to(field, value))
                    .collect();
                format!(
                    "{} IN ({})",
                    comparable(self.dialect, field),
                    bound.join(", ")
                )
            }
            Filter::Like(field, pattern) => self.like(field, pattern),
            Filter::Contains(field, texts) => {
                let name = quote(field.name());
                let bound = self.bind(Value::List(texts.clone()));
                match self.dialect {
                    Dialect::Postgres => format!("{name} @> {bound}"),
                    // The column by its table's name: within, others are called key and value.
                    Dialect::Sqlite => format!(
                        "CASE WHEN v.{name} IS NOT NULL THEN NOT EXISTS (SELECT 1 FROM json_each({bound}) wanted \
                         WHERE wanted.value NOT IN (SELECT found.value FROM json_each(v.{name}) found)) END"
                    ),
                }
            }
            Filter::Is(field, is) => {
                let is = match is {
                    Is::Null => "NULL",
                    Is::True => "TRUE",
                    Is::False => "FALSE",
                };
                format!("{} IS {is}", quote(field.name()))
            }
        }
    }

    pub(super) fn joined<F: std::borrow::Borrow<Filter>>(
        &mut self,
        parts: &[F],
        with: &str,
        none: &str,
    ) -> String {
        let parts: Vec<String> = parts
            .iter()
            .map(|part| self.filter(part.borrow()))
            .collect();
        match parts.as_slice() {
            [] => none.into(),
            [one] => one.clone(),
            _ => format!("({})", parts.join(with)),
        }
    }

    /// SQLite's `LIKE` ignores the case of A to Z, and so does PostgreSQL's `ILIKE` under the collation `C`.
    fn like(&mut self, field: &Field, pattern: &Pattern) -> String {
        let column = comparable(self.dialect, field);
        let (word, pattern, escape) = match (self.dialect, pattern.ignores_case()) {
            (Dialect::Postgres, true) => ("ILIKE", pattern.like(), ""),
            (Dialect::Postgres, false) => ("LIKE", pattern.like(), ""),
            (Dialect::Sqlite, true) => ("LIKE", pattern.like(), " ESCAPE '\\'"),
            (Dialect::Sqlite, false) => ("GLOB", pattern.glob(), ""),
        };
        format!(
            "{column} {word} {}{escape}",
            self.bind(Value::Text(pattern))
        )
    }
}

/// A column where its value is compared: text byte by byte, whatever the database's own language.
pub(super) fn comparable(dialect: Dialect, field: &Field) -> String {
    let name = quote(field.name());
    if dialect == Dialect::Postgres && field.column_type() == ColumnType::Text {
        format!("{name} COLLATE \"C\"")
    } else {
        name
    }
}
