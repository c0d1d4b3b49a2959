//! What every part stands on: private servers, keys, a vault with people in it, and how long to measure.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use test_support::{Postgres, RabbitMq, TempDir, psql, temp_dir};
use vault::{Keys, Vault, VaultOptions};

use crate::account::{self, Person};

/// How many accounts commands are given to.
pub const ACCOUNTS: usize = 10_000;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// One rate of commands or inserts.
    pub rate: Duration,
    /// The projection at full speed.
    pub projection: Duration,
    /// The projection, and RabbitMQ alone, at a steady 2,000 events/s.
    pub lag: Duration,
    /// Rows of one COPY.
    pub copied_rows: usize,
    /// Events of each account in the log that `accounts` is built from.
    pub events_an_account: u64,
}

impl Scale {
    pub const FULL: Self = Self {
        rate: Duration::from_secs(5),
        projection: Duration::from_mins(1),
        lag: Duration::from_secs(8),
        copied_rows: 100_000,
        events_an_account: 100,
    };
    pub const QUICK: Self = Self {
        rate: Duration::from_secs(2),
        projection: Duration::from_secs(10),
        lag: Duration::from_secs(4),
        copied_rows: 50_000,
        events_an_account: 20,
    };
}

/// Servers, keys and people; everything is stopped and removed with it.
pub struct World {
    pub scale: Scale,
    pub postgres: Postgres,
    pub rabbitmq: Option<RabbitMq>,
    pub folder: TempDir,
    pub showcaller: PathBuf,
    pub keys: Arc<Keys>,
    pub vault: Vault,
    pub vault_url: String,
    pub people: Vec<Person>,
}

impl World {
    pub async fn start(showcaller: &Path, scale: Scale, with_rabbitmq: bool) -> Result<Self> {
        let showcaller = showcaller
            .canonicalize()
            .with_context(|| format!("there is no binary {}", showcaller.display()))?;
        eprintln!("starting servers and making {ACCOUNTS} people");
        let postgres = Postgres::start().await;
        let rabbitmq = match with_rabbitmq {
            true => Some(RabbitMq::start().await),
            false => None,
        };
        let folder = temp_dir();
        let keys = Arc::new(Keys::create(folder.path().join("keys.json"))?);
        let vault_url = postgres.fresh_database().await;
        let vault = Vault::open(&vault_url, Arc::clone(&keys), VaultOptions::default()).await?;
        let people = account::people(&vault, ACCOUNTS).await?;
        Ok(Self {
            scale,
            postgres,
            rabbitmq,
            folder,
            showcaller,
            keys,
            vault,
            vault_url,
            people,
        })
    }

    pub fn keys_file(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    /// Writes out what earlier parts left behind, so that the next one does not pay for it.
    pub async fn settle(&self) {
        psql(&self.postgres.url("postgres"), "CHECKPOINT").await;
    }

    /// One line on what was measured on.
    pub async fn describe(&self) -> String {
        let settings = "SELECT 'PostgreSQL ' || current_setting('server_version') || ', fsync=' || \
            current_setting('fsync') || ', synchronous_commit=' || current_setting('synchronous_commit')";
        let server = psql(&self.postgres.url("postgres"), settings).await;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?").to_owned();
        format!("{}, {cores} cores, load at the end {load}", server.trim())
    }
}
