//! A fresh vault in either database, and the moments that tests speak of.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use test_support::{Postgres, TempDir, temp_dir};
use uuid::Uuid;
use vault::{Keys, Vault, VaultOptions};

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
    pub async fn sql(&self, sql: &'static str) {
        if self.folder.is_some() {
            use sqlx::Connection;
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        } else {
            test_support::psql(
                &self.url,
                &format!("SET search_path = showcaller_vault; {sql}"),
            )
            .await;
        }
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
