//! Which definitions can be used, and the hash that tells one from another. It refuses names that SQL, URLs or
//! Showcaller itself need for something else, so that every identifier in a statement is a checked one.

use std::collections::HashSet;
use std::fmt::Write as _;

use events::Category;
use sha2::{Digest as _, Sha256};

use crate::{Access, Column, ColumnType, InvalidDefinition, ReadModel};

/// The longest name of a read model: with `_`, 8 digits of hash, `_g` and a 10-digit number it makes a table's name, and
/// with an index's suffix that stays within the 63 bytes of a PostgreSQL identifier.
const NAME_BYTES: usize = 36;
/// The longest name of a column.
const COLUMN_BYTES: usize = 63;
/// The most columns, so that a statement's parameters stay within SQLite's 32,766.
const COLUMNS: usize = 100;

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
            if !seen.insert(&column.name) {
                return Err(format!("the column {:?} is declared twice", column.name));
            }
        }
        if let Some(column) = self
            .key
            .iter()
            .find(|c| c.column_type == ColumnType::Personal)
        {
            return Err(format!(
                "the key column {:?} is personal; ciphertext identifies nothing",
                column.name
            ));
        }
        if let Some(column) = self.key.iter().find(|c| c.scope.is_some()) {
            return Err(format!(
                "the key column {:?} has a scope; who sees a row sees its key",
                column.name
            ));
        }
        for category in &self.categories {
            Category::new(category).map_err(|e| e.to_string())?;
        }
        self.check_sums()?;
        match &self.access {
            Access::Owner { column } => self.check_owner(column),
            Access::Scope | Access::Authenticated => Ok(()),
        }
    }

    fn check_sums(&self) -> Result<(), String> {
        if !self.summed {
            return Ok(());
        }
        if self.columns.is_empty() {
            return Err("it is summed and has nothing to sum; add an integer column".into());
        }
        match self
            .columns
            .iter()
            .find(|c| c.column_type != ColumnType::Integer)
        {
            Some(column) => Err(format!(
                "it is summed, and the column {:?} is {:?}; every column outside the key must be Integer",
                column.name, column.column_type
            )),
            None => Ok(()),
        }
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

    /// 64 hexadecimal digits over what decides the rows: name, key, columns, whether summed, categories and revision. The
    /// same for ever for the same definition: tables are named by its beginning. Who may read rows and columns is not part
    /// of it.
    pub fn definition_hash(&self) -> String {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        part("showcaller read model 1");
        part(&self.name);
        part(&self.revision.to_string());
        part(if self.summed { "summed" } else { "plain" });
        for columns in [&self.key, &self.columns] {
            part(&columns.len().to_string());
            for column in columns {
                part(&column.name);
                part(type_name(column.column_type));
            }
        }
        part(&self.categories.len().to_string());
        self.categories.iter().for_each(|category| part(category));
        let mut hex = String::with_capacity(64);
        for byte in hasher.finalize() {
            _ = write!(hex, "{byte:02x}");
        }
        hex
    }
}

/// Part of the hash, so it never changes.
fn type_name(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text => "text",
        ColumnType::Integer => "integer",
        ColumnType::Boolean => "boolean",
        ColumnType::Timestamp => "timestamp",
        ColumnType::Date => "date",
        ColumnType::Uuid => "uuid",
        ColumnType::Personal => "personal",
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
mod tests {
    use super::*;

    fn accounts() -> ReadModel {
        ReadModel::new("accounts")
            .key("account_id", ColumnType::Uuid)
            .column("status", ColumnType::Text)
            .column("email", ColumnType::Personal)
            .category("account")
            .readable_by(Access::Owner {
                column: "account_id".into(),
            })
    }

    fn refused(model: &ReadModel, word: &str) {
        let problem = model.validate().unwrap_err().problem;
        assert!(problem.contains(word), "{:?}: {problem}", model.name);
    }

    #[test]
    fn a_plain_definition_is_accepted() {
        accounts().validate().unwrap();
        let longest = format!("a{}", "-b".repeat(17));
        ReadModel::new(&longest)
            .key("k", ColumnType::Text)
            .validate()
            .unwrap();
    }

    #[test]
    fn names_that_sql_or_urls_need_otherwise_are_refused() {
        for name in [
            "", "Accounts", "a_b", "1a", "-a", "a-", "a--b", "a\"b", "ü", "a b",
        ] {
            refused(
                &ReadModel::new(name).key("k", ColumnType::Text),
                "lower-case",
            );
        }
        for name in ["checkpoints", "sqlite-x", "accounts-12345678-g7"] {
            refused(&ReadModel::new(name).key("k", ColumnType::Text), "reserved");
        }
        refused(
            &ReadModel::new(&"a".repeat(37)).key("k", ColumnType::Text),
            "at most 36",
        );
        refused(&accounts().column("_position", ColumnType::Integer), "'_'");
        for name in ["", "A", "a-b", "a\"b", "9"] {
            refused(
                &accounts().column(name, ColumnType::Text),
                "must be lower-case",
            );
        }
        refused(
            &accounts().column("order", ColumnType::Text),
            "query parameter",
        );
        refused(&accounts().column(&"a".repeat(64), ColumnType::Text), "63");
        refused(&accounts().category("a.b"), "category");
    }

    #[test]
    fn keys_sums_and_owners_must_make_sense() {
        refused(&ReadModel::new("a"), "no key");
        refused(
            &ReadModel::new("a").key("k", ColumnType::Personal),
            "personal",
        );
        refused(&accounts().column("status", ColumnType::Text), "twice");
        refused(&accounts().key("status", ColumnType::Text), "twice");
        refused(&accounts().summed(), "summed");
        refused(
            &ReadModel::new("a").key("k", ColumnType::Text).summed(),
            "nothing to sum",
        );
        refused(
            &accounts().readable_by(Access::Owner {
                column: "status".into(),
            }),
            "Uuid",
        );
        refused(
            &accounts().readable_by(Access::Owner {
                column: "nobody".into(),
            }),
            "not declared",
        );
        let wide = (0..100).fold(accounts(), |m, i| {
            m.column(&format!("c{i}"), ColumnType::Text)
        });
        refused(&wide, "more than 100");
    }

    #[test]
    fn a_scope_of_a_column_must_fit_into_a_token() {
        let scoped = |scope| accounts().column_with_scope("notes", ColumnType::Text, scope);
        scoped("read:notes").validate().unwrap();
        for scope in ["", "read notes", "ü", "a\"b"] {
            refused(&scoped(scope), "token");
        }
        let mut key = accounts();
        key.key[0].scope = Some("read:ids".into());
        refused(&key, "sees its key");
    }

    #[test]
    fn the_hash_of_a_definition_never_changes() {
        assert_eq!(
            accounts().definition_hash(),
            "2f136b4281bf54c2d52e23a30d0fd3ddf7558720c76ed721278061aead36be83"
        );
        let summed = ReadModel::new("per-day")
            .key("day", ColumnType::Date)
            .column("count", ColumnType::Integer)
            .summed();
        assert_eq!(
            summed.definition_hash(),
            "bc29d91f531cec37f429c1ab7d533d2bd052c2dc0569d95a24f1a5207af12d32"
        );
    }

    #[test]
    fn whatever_decides_the_rows_changes_the_hash_and_access_does_not() {
        let base = accounts().definition_hash();
        let others = [
            accounts().revision(2),
            accounts().column("x", ColumnType::Text),
            accounts().key("x", ColumnType::Text),
            accounts().category("session"),
            accounts().summed(),
            ReadModel {
                name: "b".into(),
                ..accounts()
            },
        ];
        let hashes: HashSet<_> = others.iter().map(ReadModel::definition_hash).collect();
        assert!(hashes.len() == others.len() && !hashes.contains(&base));
        let mut scoped = accounts().readable_by(Access::Scope);
        scoped.columns[0].scope = Some("read:status".into());
        assert_eq!(scoped.definition_hash(), base);
    }
}
