//! Read models as data: their columns, keys and projections, the small algebra of changes, and the store port with its
//! adapters. It refuses to know the queue, the vault, or HTTP.

mod algebra;
mod bookkeeping;
mod checks;
mod definition;
mod errors;
mod feed;
mod live;
mod open;
mod port;
mod postgres;
mod rows;
mod sql;
mod sqlite;
mod validate;
mod value;

pub use algebra::{Changes, EventPlace, FoldError, Op, Row, RowKey, Rows, fold};
pub use definition::{Access, Column, ColumnType, InvalidDefinition, Projector, ReadModel};
pub use feed::ChangeFeed;
pub use open::{Options, open};
pub use port::{
    Checkpoint, CommitError, Error, Generation, ListQuery, Parked, ProjectionStore, ReadStore,
    RowWrites, Status,
};
pub use value::Value;
