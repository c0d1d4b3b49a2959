//! The projector: takes the log's events, by way of the queue, into read models; and the proof that it took each event
//! once.
//!
//! Refuses: to hold anything that the log does not, to open personal data (it has no vault), and to rely on the queue.

mod ahead;
mod cache;
mod catching_up;
mod clock;
mod columns;
mod comparing;
mod consumer;
mod context;
mod heads;
mod healing;
mod keeper;
mod lane;
pub mod metrics;
mod observing;
mod options;
mod pace;
mod projector;
mod read_models;
mod rivals;
mod status;
mod stretch;
mod traces;
mod verify;
mod wishes;
mod yielding;

pub use self::read_models::built_in;
pub use options::Options;
pub use projector::{Projector, StartError};
pub use status::{PartitionStatus, ReadModelStatus, State, Status};
pub use verify::{Fault, LogReport, Problems, Progress, ReadModelReport, Report, Rows, verify};
