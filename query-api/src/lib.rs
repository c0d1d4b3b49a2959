//! The query API: read models over HTTP, by key and as lists, for those who may see them, after the positions they have
//! seen; and an account's open sessions, from the vault.
//!
//! Refuses: to write anything, to show a row or a personal value to anybody whom the definition does not name, and to
//! answer from before a position that the client has seen.

mod access;
mod answer;
mod cache;
mod changes;
mod csv;
mod cursor;
mod describe;
mod event;
mod grammar;
mod hub;
mod key;
mod listeners;
mod lists;
mod live;
pub mod metrics;
mod negotiation;
mod operations;
mod overview;
mod parameters;
mod routes;
mod rows;
mod scan;
mod sessions;
mod state;
mod subject;
mod values;
mod waiting;

pub use access::Allowed;
pub use cache::CacheCounts;
pub use describe::{describe, schemas};
pub use overview::Overview;
pub use routes::{routes, rules};
pub use state::{QuerySettings, QueryState};
