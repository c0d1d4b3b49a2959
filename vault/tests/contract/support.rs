//! A fresh vault in either database, and the moments that tests speak of.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::Connection;
use test_support::{Postgres, TempDir, temp_dir};
use uuid::Uuid;
use vault::{Challenge, Intent, Keys, NewSession, Purpose, Seen, Vault, VaultOptions};

/// Makes two tests of one body: one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($place:ident: Place) $body:block)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::contract::support::Place::sqlite()).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::contract::support::Place::postgres().await).await; })*
        }
        $($(#[$meta])* async fn $name($place: crate::contract::support::Place) $body)*
    };
}
pub(crate) use on_both;

/// An empty database, and keys to open it with.
pub struct Place {
    pub url: String,
    pub keys: Arc<Keys>,
    folder: Option<TempDir>,
}

impl Place {
    pub fn sqlite() -> Self {
        let folder = temp_dir();
        let url = format!("sqlite:{}/data/vault.db", folder.path().display());
        Self {
            url,
            keys: Arc::new(Keys::generate()),
            folder: Some(folder),
        }
    }

    pub async fn postgres() -> Self {
        let url = Postgres::shared().await.fresh_database().await;
        Self {
            url,
            keys: Arc::new(Keys::generate()),
            folder: None,
        }
    }

    /// Another process's view of it, or the first.
    pub async fn open(&self) -> Vault {
        self.open_with(&self.keys).await.expect("the vault opens")
    }

    pub async fn open_with(&self, keys: &Arc<Keys>) -> Result<Vault, vault::Error> {
        Vault::open(&self.url, Arc::clone(keys), VaultOptions::default()).await
    }

    /// Where its files are, if it has any of its own.
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.folder.as_ref().map(TempDir::path)
    }

    /// Runs SQL behind the vault's back.
    pub async fn sql(&self, sql: &str) {
        if self.folder.is_some() {
            sqlite(&self.url, sql).await;
        } else {
            psql(&self.url, sql).await;
        }
    }

    /// Runs SQL behind the erasure ledger's back.
    pub async fn ledger_sql(&self, sql: &str) {
        if self.folder.is_some() {
            sqlite(&self.url.replace("vault.db", "erasures.db"), sql).await;
        } else {
            let sql = format!("SET search_path = showcaller_erasures; {sql}");
            test_support::psql(&self.url, &sql).await;
        }
    }

    /// The text for this database.
    pub fn either(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        if self.folder.is_some() {
            sqlite
        } else {
            postgres
        }
    }

    /// How many rows a table (and a condition) has.
    pub async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        if self.folder.is_none() {
            return psql(&self.url, &sql).await.trim().parse().unwrap();
        }
        let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        let count = count.fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }

    /// Keeps the vault's keys and its marker as they are now, as a backup does.
    pub async fn keep_backup(&self) {
        self.sql(
            "CREATE TABLE kept_keys AS SELECT * FROM data_keys; \
             CREATE TABLE kept_marker AS SELECT * FROM ledger_marker",
        )
        .await;
    }

    /// Brings back what was kept.
    pub async fn restore_backup(&self) {
        self.sql(
            "DELETE FROM data_keys; INSERT INTO data_keys SELECT * FROM kept_keys; \
             DELETE FROM ledger_marker; INSERT INTO ledger_marker SELECT * FROM kept_marker",
        )
        .await;
    }

    /// A vault of format 1, which knows the same of the tables that were there then.
    pub async fn of_format_1(self) -> Self {
        if self.folder.is_some() {
            let older = Self::sqlite();
            let newer = self.url.strip_prefix("sqlite:").unwrap();
            std::fs::create_dir_all(older.folder().unwrap().join("data")).unwrap();
            let tables = include_str!("../../src/migrations/1.sqlite.sql");
            let sql = format!("{tables}; ATTACH '{newer}' AS newer; {COPY_FORMAT_1}");
            sqlite(&format!("{}?mode=rwc", older.url), &sql).await;
            Self {
                keys: self.keys,
                ..older
            }
        } else {
            let rename = "ALTER SCHEMA showcaller_vault RENAME TO newer";
            psql(&self.url, rename).await;
            let tables = include_str!("../../src/migrations/1.postgres.sql");
            psql(
                &self.url,
                &format!("{tables}; {COPY_FORMAT_1}; DROP SCHEMA newer CASCADE"),
            )
            .await;
            self
        }
    }
}

/// What a vault of format 1 holds, from one of this program's.
const COPY_FORMAT_1: &str = "
    INSERT INTO format SELECT one, 1, keys_check FROM newer.format;
    INSERT INTO data_keys SELECT person, master_key, wrapped, erased_at_ms FROM newer.data_keys;
    INSERT INTO credentials SELECT id, account, phc FROM newer.credentials;
    INSERT INTO claims SELECT hash, account, status, created_at_ms FROM newer.claims;
    INSERT INTO sessions SELECT id, account, generation, rotated_at_ms, expires_at_ms, ended_seq, ended_at_ms
                         FROM newer.sessions;
    UPDATE session_feed SET head = (SELECT head FROM newer.session_feed)";

async fn sqlite(url: &str, sql: &str) {
    let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
    let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
    sql.execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn psql(url: &str, sql: &str) -> String {
    let sql = format!("SET search_path = showcaller_vault; {sql}");
    test_support::psql(url, &sql).await
}

/// A challenge of an account, met by its link.
pub async fn challenge(
    vault: &Vault,
    account: u128,
    purpose: Purpose,
    subject: [u8; 32],
) -> Challenge {
    use secrecy::ExposeSecret;
    let issued = vault.issue_challenge(id(account), purpose, Some(subject), at(0));
    let issued = issued.await.unwrap();
    let met = vault.check_link(purpose, issued.link.expose_secret(), at(1));
    met.await.unwrap()
}

/// A session from nowhere in particular: from the fixed noon for 1,000 s.
pub fn new_session(session: u128, account: u128) -> NewSession {
    NewSession {
        id: id(session),
        account: id(account),
        started_at: at(0),
        expires_at: at(1_000),
        second_factor: false,
        seen: Seen::default(),
    }
}

/// Something to be finished, begun at the fixed noon.
pub fn intent(number: u128) -> Intent {
    Intent {
        id: id(number),
        kind: "close-account".into(),
        account: id(number + 1_000),
        detail: json!({"step": number as u64, "of": [1, null]}),
        created_at: at(0),
    }
}

/// `seconds` after some fixed noon.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

/// Some id.
pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}
