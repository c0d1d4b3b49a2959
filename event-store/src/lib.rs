//! The append-only log behind one port. Adapters: SQLite and PostgreSQL. It refuses to interpret events, to know the
//! queue, and to forget anything.

mod port;

pub use port::{
    Append, AppendError, Appended, Error, EventStore, Expected, Fence, Fenced, Filter, Mark, Page, RelayCheckpoint,
};
