//! Which definitions can be used, and the hash that tells one from another. It refuses names that SQL, URLs or
//! Showcaller itself need for something else, so that every identifier in a statement is a checked one.

use std::collections::HashSet;
use std::fmt::Write as _;

use events::Category;
use sha2::{Digest as _, Sha256};

use crate::decimal::MAX_SCALE;
use crate::{Access, Column, ColumnType, InvalidDefinition, Merge, ReadModel, Retention};

/// The longest name of a read model: with `_`, 8 digits of hash, `_g` and a 10-digit number it makes a table's name, and
/// with an index's suffix that stays within the 63 bytes of a PostgreSQL identifier.
const NAME_BYTES: usize = 36;
/// The longest name of a column.
const COLUMN_BYTES: usize = 63;
/// The most columns, so that a statement's parameters stay within SQLite's 32,766.
const COLUMNS: usize = 100;

/// The most indexes, and the most columns of one.
const INDEXES: usize = 16;
const INDEX_COLUMNS: usize = 4;

/// Tables of Showcaller's own, beside which the SQLite views of the read models stand.
const RESERVED_MODELS: [&str; 4] = ["checkpoints", "format", "generations", "parked"];
/// Query parameters with a meaning of their own, so that no column could be filtered by such a name.
const RESERVED_COLUMNS: [&str; 9] = [
    "and",
    "columns",
    "limit",
    "not",
    "offset",
    "on_conflict",
    "or",
    "order",
    "select",
];

impl ReadModel {
    /// Checks the definition. Whatever passes makes valid SQL in every database.
    pub fn validate(&self) -> Result<(), InvalidDefinition> {
        self.check().map_err(|problem| InvalidDefinition {
            name: self.name.clone(),
            problem,
        })
    }

    fn check(&self) -> Result<(), String> {
        check_model_name(&self.name)?;
        if self.key.is_empty() {
            return Err("it has no key; name the columns that identify a row with .key(…)".into());
        }
        if self.key.len() + self.columns.len() > COLUMNS {
            return Err(format!("it has more than {COLUMNS} columns"));
        }
        let mut seen = HashSet::new();
        for column in self.key.iter().chain(&self.columns) {
            check_column_name(&column.name)?;
            check_scope(column)?;
            check_scale(column)?;
            if !seen.insert(&column.name) {
                return Err(format!("the column {:?} is declared twice", column.name));
            }
        }
        self.key.iter().try_for_each(check_key_column)?;
        for category in &self.categories {
            Category::new(category).map_err(|e| e.to_string())?;
        }
        self.check_merges()?;
        self.check_indexes()?;
        self.check_retention()?;
        match &self.access {
            Access::Owner { column } => self.check_owner(column),
            Access::Scope | Access::Authenticated => Ok(()),
        }
    }

    /// Every row of a shared read model is merged from partial rows, so every column must say how.
    fn check_merges(&self) -> Result<(), String> {
        if !self.shared {
            let merged = self.columns.iter().find(|c| c.merge.is_some());
            return merged.map_or(Ok(()), |column| {
                Err(format!(
                    "the column {:?} says how partial rows merge, but no rows are shared; add .summed() or use .column(…)",
                    column.name
                ))
            });
        }
        if self.columns.is_empty() {
            return Err("its rows are shared and there is nothing to merge; add a column".into());
        }
        for column in &self.columns {
            let fits = match (column.merge(), column.column_type) {
                (Merge::Sum, of) => {
                    matches!(of, ColumnType::Integer | ColumnType::Decimal { .. })
                }
                (Merge::Min | Merge::Max, of) => of.is_ordered(),
            };
            if !fits {
                return Err(format!(
                    "the column {:?} of shared rows is {:?}, which has no {:?}; Integer and Decimal are summed, and any type \
                     but Personal and List has .merged(…, Merge::Min) and Merge::Max",
                    column.name,
                    column.column_type,
                    column.merge()
                ));
            }
        }
        Ok(())
    }

    fn check_indexes(&self) -> Result<(), String> {
        if self.indexes.len() > INDEXES {
            return Err(format!(
                "it has more than {INDEXES} indexes; each slows down every write"
            ));
        }
        for (number, index) in self.indexes.iter().enumerate() {
            if !(1..=INDEX_COLUMNS).contains(&index.len()) {
                return Err(format!(
                    "the index {index:?} must have 1 to {INDEX_COLUMNS} columns"
                ));
            }
            for (place, name) in index.iter().enumerate() {
                let column = self
                    .key
                    .iter()
                    .chain(&self.columns)
                    .find(|c| c.name == *name);
                match column {
                    None => return Err(format!("the index column {name:?} is not declared")),
                    Some(column) if !column.column_type.is_ordered() => {
                        return Err(format!(
                            "the index column {name:?} is {:?}: its values have no order",
                            column.column_type
                        ));
                    }
                    Some(_) if index[..place].contains(name) => {
                        return Err(format!("the index {index:?} names {name:?} twice"));
                    }
                    Some(_) => {}
                }
            }
            if self.indexes[..number].contains(index) {
                return Err(format!("the index {index:?} is declared twice"));
            }
        }
        Ok(())
    }

    fn check_owner(&self, name: &str) -> Result<(), String> {
        match self
            .key
            .iter()
            .chain(&self.columns)
            .find(|c| c.name == name)
        {
            Some(column) if column.column_type == ColumnType::Uuid => Ok(()),
            Some(column) => Err(format!(
                "the owner's column {name:?} is {:?}; make it Uuid",
                column.column_type
            )),
            None => Err(format!("the owner's column {name:?} is not declared")),
        }
    }

    /// 64 hexadecimal digits over what decides the rows: name, key, columns, whether and how they merge, categories, revision and, where there is one, for how long rows stay. The
    /// same for ever for the same definition: tables are named by its beginning. Who may read rows and columns, and
    /// indexes, are not part of it.
    pub fn definition_hash(&self) -> String {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        part("showcaller read model 1");
        part(&self.name);
        part(&self.revision.to_string());
        part(if self.shared { "summed" } else { "plain" });
        for columns in [&self.key, &self.columns] {
            part(&columns.len().to_string());
            for column in columns {
                part(&column.name);
                part(&type_name(column));
            }
        }
        part(&self.categories.len().to_string());
        self.categories.iter().for_each(|category| part(category));
        if let Some(Retention { column, keep }) = &self.retention {
            part("retention");
            part(column);
            part(&keep.num_microseconds().unwrap_or_default().to_string());
        }
        let mut hex = String::with_capacity(64);
        for byte in hasher.finalize() {
            _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

/// A column's type, and how it merges unless that is the sum. Part of the hash, so it never changes.
fn type_name(column: &Column) -> String {
    let mut name = match column.column_type {
        ColumnType::Text => "text".to_owned(),
        ColumnType::Integer => "integer".to_owned(),
        ColumnType::Boolean => "boolean".to_owned(),
        ColumnType::Timestamp => "timestamp".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Uuid => "uuid".to_owned(),
        ColumnType::Personal => "personal".to_owned(),
        ColumnType::Decimal { scale } => format!("decimal {scale}"),
        ColumnType::List => "list".to_owned(),
    };
    name.push_str(match column.merge() {
        Merge::Sum => "",
        Merge::Min => " min",
        Merge::Max => " max",
    });
    name
}

fn check_key_column(column: &Column) -> Result<(), String> {
    let name = &column.name;
    if column.column_type == ColumnType::Personal {
        return Err(format!(
            "the key column {name:?} is personal; ciphertext identifies nothing"
        ));
    }
    if column.column_type == ColumnType::List {
        return Err(format!(
            "the key column {name:?} is a list; a key column holds one value"
        ));
    }
    if column.scope.is_some() {
        return Err(format!(
            "the key column {name:?} has a scope; who sees a row sees its key"
        ));
    }
    Ok(())
}

fn check_scale(column: &Column) -> Result<(), String> {
    match column.column_type {
        ColumnType::Decimal { scale } if scale > MAX_SCALE => Err(format!(
            "the column {:?} has {scale} digits after the point; at most {MAX_SCALE} are stored exactly everywhere",
            column.name
        )),
        _ => Ok(()),
    }
}

fn check_model_name(name: &str) -> Result<(), String> {
    let parts_ok = name.split('-').all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    });
    if !parts_ok || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("its name must be lower-case letters and digits, with single '-' between, beginning with a letter".into());
    }
    if name.len() > NAME_BYTES {
        return Err(format!(
            "its name has {} bytes; at most {NAME_BYTES} fit into a table's name",
            name.len()
        ));
    }
    let like_a_table = name.rsplit_once("-g").is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    });
    if RESERVED_MODELS.contains(&name) || name.starts_with("sqlite") || like_a_table {
        return Err("its name is reserved; choose another".into());
    }
    Ok(())
}

fn check_column_name(name: &str) -> Result<(), String> {
    if name.starts_with('_') {
        return Err(format!(
            "the column {name:?} begins with '_', which is kept for Showcaller's own columns"
        ));
    }
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !letters || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(format!(
            "the column {name:?} must be lower-case letters, digits and '_', beginning with a letter"
        ));
    }
    if name.len() > COLUMN_BYTES {
        return Err(format!(
            "the column {name:?} has more than {COLUMN_BYTES} bytes"
        ));
    }
    if RESERVED_COLUMNS.contains(&name) {
        return Err(format!(
            "the column {name:?} could not be filtered: {name} is a query parameter; choose another name"
        ));
    }
    Ok(())
}

/// A scope as tokens carry it: RFC 6749, section 3.3.
fn check_scope(column: &Column) -> Result<(), String> {
    let Some(scope) = &column.scope else {
        return Ok(());
    };
    let allowed = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
    if scope.is_empty() || !scope.bytes().all(allowed) {
        return Err(format!(
            "the scope {scope:?} of the column {:?} cannot stand in a token; write visible ASCII without spaces, \" and \\",
            column.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
