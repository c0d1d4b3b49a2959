//! The vault as rows, for backups and for moving between databases: every table but its format, ciphertext and hashes as
//! they are stored, in a form that no database dictates.
//!
//! Refuses: to open anything on the way, to write into a vault that holds anything, and to leave half of a copy behind.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::store::{on, within};
use crate::vault::Vault;

/// How many rows are read at once.
const PAGE: i64 = 1_000;

/// What a column holds, and so how it is written in JSON: bytes in base64, all else as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Bytes,
    Text,
    Number,
    Flag,
}

/// A table: its columns, its key's first, in an order by which its rows can be paged.
struct Table {
    name: &'static str,
    /// How many of the columns are the key.
    key: usize,
    columns: &'static [(&'static str, Kind)],
}

const fn table(name: &'static str, key: usize, columns: &'static [(&'static str, Kind)]) -> Table {
    Table { name, key, columns }
}

use Kind::{Bytes, Flag, Id, Number, Text};

/// Every table but `format`. A test compares this with the schema.
const TABLES: [Table; 14] = [
    table(
        "data_keys",
        1,
        &[
            ("person", Id),
            ("master_key", Text),
            ("wrapped", Bytes),
            ("erased_at_ms", Number),
        ],
    ),
    table(
        "credentials",
        1,
        &[("id", Id), ("account", Id), ("phc", Text)],
    ),
    table(
        "claims",
        2,
        &[
            ("hash", Bytes),
            ("account", Id),
            ("status", Text),
            ("created_at_ms", Number),
        ],
    ),
    table(
        "sessions",
        1,
        &[
            ("id", Id),
            ("account", Id),
            ("generation", Number),
            ("rotated_at_ms", Number),
            ("expires_at_ms", Number),
            ("ended_seq", Number),
            ("ended_at_ms", Number),
            ("started_at_ms", Number),
            ("second_factor", Flag),
            ("last_seen_at_ms", Number),
            ("seen", Bytes),
        ],
    ),
    table("session_feed", 1, &[("one", Number), ("head", Number)]),
    table(
        "challenges",
        1,
        &[
            ("id", Id),
            ("account", Id),
            ("purpose", Text),
            ("subject", Bytes),
            ("code_hash", Bytes),
            ("link_hash", Bytes),
            ("tries_left", Number),
            ("expires_at_ms", Number),
        ],
    ),
    table(
        "intents",
        1,
        &[
            ("id", Id),
            ("kind", Text),
            ("account", Id),
            ("detail", Text),
            ("created_at_ms", Number),
            ("next_try_at_ms", Number),
            ("pause_ms", Number),
        ],
    ),
    table(
        "throttles",
        1,
        &[
            ("address", Bytes),
            ("failures", Number),
            ("last_failed_at_ms", Number),
        ],
    ),
    table(
        "rates",
        1,
        &[("key", Bytes), ("count", Number), ("ends_at_ms", Number)],
    ),
    table(
        "outbox",
        1,
        &[
            ("id", Id),
            ("account", Id),
            ("sealed", Bytes),
            ("tries", Number),
            ("created_at_ms", Number),
            ("next_try_at_ms", Number),
            ("pause_ms", Number),
        ],
    ),
    table(
        "second_factors",
        1,
        &[
            ("account", Id),
            ("sealed", Bytes),
            ("confirmed_at_ms", Number),
            ("last_step", Number),
        ],
    ),
    table("recovery_codes", 2, &[("account", Id), ("hash", Bytes)]),
    table(
        "api_keys",
        1,
        &[
            ("id", Id),
            ("account", Id),
            ("hash", Bytes),
            ("scopes", Text),
            ("expires_at_ms", Number),
            ("revoked_at_ms", Number),
        ],
    ),
    table("ledger_marker", 1, &[("one", Number), ("seq", Number)]),
];

impl Table {
    fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// Pages by offset would read all before it again and again; the key is compared instead, column by column.
    fn select(&self) -> String {
        let key = &self.columns[..self.key];
        let names: Vec<_> = key.iter().map(|(name, _)| *name).collect();
        let places: Vec<_> = (1..=self.key).map(|n| format!("${n}")).collect();
        format!(
            "SELECT {} FROM {} WHERE ({}) > ({}) ORDER BY {} LIMIT {PAGE}",
            self.names(),
            self.name,
            names.join(", "),
            places.join(", "),
            names.join(", ")
        )
    }

    fn insert(&self) -> String {
        let places: Vec<_> = (1..=self.columns.len()).map(|n| format!("${n}")).collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.name,
            self.names(),
            places.join(", ")
        )
    }

    /// Made with the tables, with one row that a copy replaces.
    fn is_single(&self) -> bool {
        self.columns[0].0 == "one"
    }
}

/// Binds a value of a kind; what has another form is refused before.
macro_rules! bind {
    ($query:expr, $kind:expr, $value:expr) => {
        match $kind {
            Id => $query.bind(id($value)?),
            Bytes => $query.bind(bytes($value)?),
            Text => $query.bind($value.as_str().map(str::to_owned)),
            Number => $query.bind($value.as_i64()),
            Flag => $query.bind($value.as_bool()),
        }
    };
}

fn malformed(what: &str) -> Error {
    Error::Invalid(format!("this is no row of a vault's copy: {what}"))
}

fn id(value: &Value) -> Result<Option<Uuid>, Error> {
    let parse = |text: &str| text.parse().map_err(|_| malformed("an id that is none"));
    value.as_str().map(parse).transpose()
}

fn bytes(value: &Value) -> Result<Option<Vec<u8>>, Error> {
    let decode = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| malformed("bytes that are not base64"))
    };
    value.as_str().map(decode).transpose()
}

/// A value that stands before every other of its kind.
fn first(kind: Kind) -> Value {
    match kind {
        // No random id is nil, and no hash is empty.
        Id => Uuid::nil().to_string().into(),
        Bytes | Text => "".into(),
        Number => i64::MIN.into(),
        Flag => false.into(),
    }
}

impl Vault {
    /// Hands out every row, table by table, as one moment had them: `{"table": …, "row": {…}}`. Ciphertext, wrapped keys
    /// and hashes as they are stored. An error of `take` ends it.
    pub async fn copy_out<E: From<Error>>(
        &self,
        mut take: impl FnMut(Value) -> Result<(), E>,
    ) -> Result<(), E> {
        on!(&*self.0.store, pools => {
            let mut tx = within(pools.read.begin()).await?;
            if let Some(snapshot) = self.snapshot() {
                within(sqlx::query(snapshot).execute(&mut *tx)).await?;
            }
            for table in &TABLES {
                let key = &table.columns[..table.key];
                let mut after: Vec<Value> = key.iter().map(|(_, kind)| first(*kind)).collect();
                let select = table.select();
                loop {
                    // The text is made of constants alone; every value is bound.
                    let mut query = sqlx::query(AssertSqlSafe(select.as_str()));
                    for ((_, kind), value) in key.iter().zip(&after) {
                        query = bind!(query, kind, value);
                    }
                    let rows = within(query.fetch_all(&mut *tx)).await?;
                    for row in &rows {
                        let mut object = Map::new();
                        for (index, (name, kind)) in table.columns.iter().enumerate() {
                            let value: Value = match kind {
                                Id => row.try_get::<Option<Uuid>, _>(index).map(|id| id.map(|id| id.to_string()).into()),
                                Bytes => row
                                    .try_get::<Option<Vec<u8>>, _>(index)
                                    .map(|bytes| bytes.map(|bytes| STANDARD.encode(bytes)).into()),
                                Text => row.try_get::<Option<String>, _>(index).map(Value::from),
                                Number => row.try_get::<Option<i64>, _>(index).map(Value::from),
                                Flag => row.try_get::<Option<bool>, _>(index).map(Value::from),
                            }
                            .map_err(Error::from)?;
                            object.insert((*name).to_owned(), value);
                        }
                        after = key.iter().map(|(name, _)| object[*name].clone()).collect();
                        take(serde_json::json!({ "table": table.name, "row": object }))?;
                    }
                    if (rows.len() as i64) < PAGE {
                        break;
                    }
                }
            }
            within(tx.rollback()).await?;
        });
        Ok(())
    }

    /// Takes rows that [`copy_out`](Self::copy_out) gave into an empty vault: all of them, in one transaction, or none.
    /// Gives their number.
    pub async fn copy_in<E: From<Error>>(
        &self,
        rows: impl IntoIterator<Item = Result<Value, E>>,
    ) -> Result<u64, E> {
        if !self.is_empty().await? {
            return Err(Error::Invalid(
                "the vault is not empty: a copy goes into an empty one alone".into(),
            )
            .into());
        }
        let mut count = 0;
        on!(&*self.0.store, pools => {
            let mut tx = within(pools.begin()).await?;
            for table in TABLES.iter().filter(|table| table.is_single()) {
                let delete = format!("DELETE FROM {}", table.name);
                within(sqlx::query(AssertSqlSafe(delete)).execute(&mut *tx)).await?;
            }
            for row in rows {
                let row = row?;
                let table = TABLES
                    .iter()
                    .find(|table| row["table"] == table.name)
                    .ok_or_else(|| malformed("a table that this vault does not have"))?;
                let insert = table.insert();
                let mut query = sqlx::query(AssertSqlSafe(insert.as_str()));
                for (name, kind) in table.columns {
                    query = bind!(query, kind, &row["row"][*name]);
                }
                within(query.execute(&mut *tx)).await?;
                count += 1;
            }
            within(tx.commit()).await?;
        });
        Ok(count)
    }

    /// Nobody has anything in it yet.
    pub async fn is_empty(&self) -> Result<bool, Error> {
        for table in TABLES.iter().filter(|table| !table.is_single()) {
            let any = format!("SELECT 1 FROM {} LIMIT 1", table.name);
            let found = on!(&*self.0.store, pools =>
                within(sqlx::query(AssertSqlSafe(any)).fetch_optional(&pools.read)).await?.is_some());
            if found {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What makes a transaction of one moment; SQLite's are by themselves.
    fn snapshot(&self) -> Option<&'static str> {
        let text = self.0.store.either(
            "",
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        );
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every table and column that the migrations make stands in [`TABLES`].
    #[test]
    fn a_copy_leaves_no_table_and_no_column_out() {
        let steps = [
            include_str!("migrations/1.sqlite.sql"),
            include_str!("migrations/2.sqlite.sql"),
            include_str!("migrations/3.sqlite.sql"),
        ]
        .concat();
        let mut made: BTreeSet<(String, String)> = BTreeSet::new();
        let mut table = String::new();
        for line in steps.lines() {
            if let Some(name) = line.strip_prefix("CREATE TABLE ") {
                name.split(' ')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut table);
            } else if let Some(rest) = line.strip_prefix("ALTER TABLE ") {
                let words: Vec<_> = rest.split_whitespace().collect();
                made.insert((words[0].to_owned(), words[3].to_owned()));
            } else if line.starts_with(')') {
                table.clear();
            } else if !table.is_empty() && line.starts_with("    ") {
                let column = line.split_whitespace().next().unwrap_or_default();
                if column.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                    made.insert((table.clone(), column.to_owned()));
                }
            }
        }
        // What each database counts for itself.
        made.retain(|(table, _)| table != "format" && table != "data_key_changes");
        let copied = TABLES
            .iter()
            .flat_map(|table| {
                let column =
                    |(column, _): &(&str, Kind)| (table.name.to_owned(), (*column).to_owned());
                table.columns.iter().map(column)
            })
            .collect();
        assert_eq!(made, copied);
    }
}
