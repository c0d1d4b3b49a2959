//! The append-only log behind one port. Adapters: SQLite, PostgreSQL and EventStoreDB. It refuses to interpret events, to know the
//! queue, and to forget anything.

mod backend;
mod check;
pub mod envelope;
mod esdb;
mod follow;
mod heads;
mod import;
pub mod metrics;
mod options;
mod plan;
mod port;
mod postgres;
mod sqlite;
mod streams;
mod tails;
mod writer;

use async_recursion::async_recursion as boxed;
use std::sync::Arc;

pub use check::{MAX_BYTES, MAX_EVENTS};
pub use esdb::EsdbEventStore;
pub use follow::follow;
pub use import::{ImportError, Imported, complete, import, is_half_filled};
pub use options::Options;
pub use port::{
    Append, AppendError, Appended, Error, EventStore, Expected, Fence, Fenced, Filter, Held, Mark,
    Page, RelayCheckpoint,
};
pub use postgres::PostgresEventStore;
pub use sqlite::SqliteEventStore;

/// The format that this binary writes, and the newest it can read. Every store carries its own.
const FORMAT: i32 = 1;

/// Opens the event store that a URL names: `sqlite:PATH`, `postgres://…` or `esdb://…`. A missing log is made, an older format is
/// migrated, a newer one is refused.
#[boxed]
pub async fn open(url: &str, options: Options) -> Result<Arc<dyn EventStore>, Error> {
    let opened: Arc<dyn EventStore> = match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Arc::new(SqliteEventStore::open(url, options).await?),
        Some("postgres" | "postgresql") => Arc::new(PostgresEventStore::open(url, options).await?),
        Some("esdb" | "esdb+discover" | "kurrentdb" | "kurrentdb+discover") => {
            Arc::new(EsdbEventStore::open(url, options).await?)
        }
        // The URL itself is not repeated: it may hold a password.
        _ => {
            return Err(Error::Invalid(
                "the event store's URL must begin with sqlite:, postgres: or esdb: (for example sqlite:data/events.db, \
                 postgres://USER@HOST/DATABASE or esdb://USER:PASSWORD@HOST:2113)"
                    .into(),
            ));
        }
    };
    Ok(opened)
}

/// The refusal of a log whose format is newer than this binary.
fn too_new(format: i32, needs: &str) -> Error {
    Error::Invalid(format!(
        "the event store has format {format} and needs showcaller {needs} or newer; this is showcaller {}, which knows \
         formats up to {FORMAT}",
        env!("CARGO_PKG_VERSION"),
    ))
}

/// The refusal to read a log that is not there.
fn no_log() -> Error {
    Error::Invalid(
        "there is no event log at this URL yet: start the server once, or correct the URL".into(),
    )
}
