//! Read models as data: their columns, keys and projections, the small algebra of changes, and the store port with its
//! adapters. It refuses to know the queue, the vault, or HTTP.

mod algebra;
mod bookkeeping;
mod checks;
mod decimal;
mod definition;
mod errors;
mod feed;
mod journal;
mod live;
#[cfg(feature = "mongodb")]
mod mongodb;
mod mysql;
mod open;
mod operated;
mod operations;
mod patience;
mod port;
mod postgres;
mod query;
mod retention;
mod rows;
mod sql;
mod sqlite;
pub mod testing;
mod validate;
mod value;

pub use algebra::{
    Changes, EventPlace, FoldError, Op, ROWS_A_CHANGE, Row, RowKey, Rows, Search, fold,
};
pub use decimal::{Decimal, InvalidDecimal};
pub use definition::{Access, Column, ColumnType, InvalidDefinition, Merge, Projector, ReadModel};
pub use feed::ChangeFeed;
pub use journal::{Changed, Place};
pub use open::{Options, open, open_mirror};
pub use operated::{Acted, Build, OperatedStore, Pair, Phase, Progress, Rebuild, Waiting, Wish};
pub use port::{
    Checkpoint, Commit, CommitError, Error, Generation, Parked, ProjectionStore, ReadStore,
    RowWrites, Status,
};
pub use query::{
    Comparison, Direction, Field, Filter, Is, Nulls, Order, Page, Pattern, PatternError, Query,
};
pub use retention::{Due, Retention, SLACK};
pub use value::Value;
