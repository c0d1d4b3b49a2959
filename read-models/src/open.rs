//! Choosing the adapter by the URL. It refuses schemes it does not know, and says which ones there are.

use std::sync::Arc;
use std::time::Duration;

use async_recursion::async_recursion as boxed;

use crate::mysql::MySql;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::{Error, OperatedStore, ProjectionStore};

/// How long one query may take unless said otherwise: longer than any that has an index, shorter than clients wait.
const QUERY: Duration = Duration::from_secs(5);

/// How to open a database of read models.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Writes nothing and migrates nothing, enforced by the database. What is not built yet answers
    /// [`Error::Unavailable`], so that a reader may start first.
    pub read_only: bool,
    /// How long the database may work on one query of a reader; 5 s by default.
    pub query_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: false,
            query_timeout: QUERY,
        }
    }
}

impl Options {
    /// Opens for reading alone.
    pub fn read_only() -> Self {
        Self {
            read_only: true,
            ..Self::default()
        }
    }
}

/// Opens `sqlite:FILE` or `postgres://…`; unless read-only, brings the stored format up to date first, under a lock.
///
/// # Errors
/// [`Error::Invalid`] for an unknown URL, for a format of a newer version, and for wrong settings; [`Error::Unavailable`]
/// when the database can't be reached (a read-only PostgreSQL store opens all the same).
#[boxed]
pub async fn open(url: &str, options: Options) -> Result<Arc<dyn OperatedStore>, Error> {
    let opened: Arc<dyn OperatedStore> = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Arc::new(Sqlite::open(url, options).await?),
        Some("postgres" | "postgresql") => Arc::new(Postgres::open(url, options).await?),
        // The URL may hold a password, so it is not repeated.
        _ => return Err(Error::Invalid(
            "the read model database's URL is of an unknown kind; write sqlite:FILE or postgres://USER@HOST/DATABASE".into(),
        )),
    };
    Ok(opened)
}

/// Opens a mirror, a database that the same projections write to and the query API does not serve from: `mysql://…` (or
/// `mariadb://…`), or `mongodb://…`. Unless read-only, brings the stored format up to date first, under a lock.
///
/// # Errors
/// [`Error::Invalid`] for an unknown URL, for a format of a newer version, and for a server that cannot keep what is promised
/// (it says what to do); [`Error::Unavailable`] when the database can't be reached.
#[boxed]
pub async fn open_mirror(url: &str, options: Options) -> Result<Arc<dyn ProjectionStore>, Error> {
    let opened: Arc<dyn ProjectionStore> = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("mysql" | "mariadb") => Arc::new(MySql::open(url, options).await?),
        #[cfg(feature = "mongodb")]
        Some("mongodb" | "mongodb+srv") => Arc::new(crate::mongodb::MongoDb::open(url, options).await?),
        #[cfg(not(feature = "mongodb"))]
        Some("mongodb" | "mongodb+srv") => return Err(Error::Invalid(
            "this binary was built without MongoDB: build it with `cargo build --release --features mongodb`".into(),
        )),
        _ => return Err(Error::Invalid(
            "the mirror's URL is of an unknown kind; write mysql://USER:PASSWORD@HOST:3306/DATABASE or mongodb://USER:PASSWORD@HOST:27017/DATABASE".into(),
        )),
    };
    Ok(opened)
}
