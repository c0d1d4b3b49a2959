//! Which columns an answer has, and by which it is ordered. It refuses casts, embeddings and aggregates by name.

use read_models::{ColumnType, Direction, Field, Nulls, Order};

use super::mistakes::{Mistakes, shown};
use super::{field, names};

/// Columns of an answer at most.
const SELECTED: usize = 200;
/// Columns of an order at most; the key follows by itself.
const ORDERED: usize = 8;
/// The longest name that a column is given, in bytes.
const ALIAS_BYTES: usize = 63;

/// A column of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// What the answer calls it.
    pub(crate) name: String,
    pub(crate) field: Field,
}

impl Output {
    fn plain(field: &Field) -> Self {
        Self {
            name: field.name().to_owned(),
            field: field.clone(),
        }
    }
}

/// `a,b`, `name:a`, `*`.
pub(super) fn select(text: &str, fields: &[Field], mistakes: &mut Mistakes) -> Vec<Output> {
    let mut outputs: Vec<Output> = Vec::new();
    if text.trim().is_empty() {
        return select("*", fields, mistakes);
    }
    for item in text.split(',').map(str::trim) {
        let before = outputs.len();
        if item == "*" {
            outputs.extend(fields.iter().map(Output::plain));
        } else {
            outputs.extend(output(item, fields, mistakes));
        }
        let (seen, new) = outputs.split_at(before);
        let twice = new
            .iter()
            .find(|new| seen.iter().any(|old| old.name == new.name));
        if let Some(twice) = twice {
            mistakes.add(
                "repeated",
                format!(
                    "The answer would have two columns {:?}; rename one: other:{}.",
                    twice.name,
                    twice.field.name()
                ),
            );
            break;
        }
        if outputs.len() > SELECTED {
            mistakes.add("too_many", format!("More than {SELECTED} columns."));
            break;
        }
    }
    outputs
}

fn output(item: &str, fields: &[Field], mistakes: &mut Mistakes) -> Option<Output> {
    for (mark, what) in [
        ("::", "Casts"),
        ("(", "Embedded resources and aggregates"),
        ("->", "Paths into JSON"),
    ] {
        if item.contains(mark) {
            mistakes.add(
                "not_offered",
                format!(
                    "{what} are not offered: {}. Name columns: {}.",
                    shown(item),
                    names(fields.iter())
                ),
            );
            return None;
        }
    }
    let (alias, name) = match item.split_once(':') {
        Some((alias, name)) => (Some(alias.trim()), name.trim()),
        None => (None, item),
    };
    let found = field(name, fields, mistakes)?;
    let mut output = Output::plain(found);
    if let Some(alias) = alias {
        let letters = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        if alias.is_empty() || alias.len() > ALIAS_BYTES || !alias.chars().all(letters) {
            mistakes.add(
                "invalid_value",
                format!(
                    "A column is renamed like this: name:{name}, with letters, digits, _ and -, at most {ALIAS_BYTES} bytes."
                ),
            );
            return None;
        }
        alias.clone_into(&mut output.name);
    }
    Some(output)
}

/// `a.desc.nullslast,b`.
pub(super) fn order(text: &str, fields: &[Field], mistakes: &mut Mistakes) -> Vec<Order> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    let items: Vec<&str> = text.split(',').collect();
    if items.len() > ORDERED {
        mistakes.add(
            "too_many",
            format!("order names more than {ORDERED} columns."),
        );
        return Vec::new();
    }
    let items = items
        .into_iter()
        .map(|item| one_order(item.trim(), fields, mistakes));
    items.flatten().collect()
}

fn one_order(item: &str, fields: &[Field], mistakes: &mut Mistakes) -> Option<Order> {
    let mut parts = item.split('.');
    let found = field(parts.next()?, fields, mistakes)?;
    if !found.column_type().is_ordered() {
        let why = match found.column_type() {
            ColumnType::Personal => "is personal: it is ciphertext in the database",
            _ => "holds lists",
        };
        let orderable = fields
            .iter()
            .filter(|field| field.column_type().is_ordered());
        mistakes.add(
            "not_orderable",
            format!(
                "{} {why}, so nothing can be ordered by it. There are: {}.",
                found.name(),
                names(orderable)
            ),
        );
        return None;
    }
    let words: Vec<&str> = parts.collect();
    let (direction, words) = match words.as_slice() {
        ["desc", words @ ..] => (Direction::Descending, words),
        ["asc", words @ ..] | words => (Direction::Ascending, words),
    };
    let nulls = match words {
        [] if direction == Direction::Ascending => Nulls::Last,
        [] | ["nullsfirst"] => Nulls::First,
        ["nullslast"] => Nulls::Last,
        _ => {
            mistakes.add(
                "invalid_value",
                format!(
                    "An order is written {{column}}[.asc|.desc][.nullsfirst|.nullslast], with commas between; {} is not.",
                    shown(item)
                ),
            );
            return None;
        }
    };
    Some(Order {
        field: found.clone(),
        direction,
        nulls,
    })
}
