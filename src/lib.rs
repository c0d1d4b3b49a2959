//! Showcaller as a library: `App::new().aggregate::<Seats>().read_model(seats()).run()` is a whole backend with one's own
//! domain. The `showcaller` binary is this library's smallest user, with accounts alone.

mod app;
mod config;
mod open;
mod operate;
mod serve;
mod telemetry;
mod welcome;

pub use app::App;
pub use command_api::{Aggregate, Decider, FieldProblem, Form, Given, Rule, When, given, rules};
pub use events::{DecodeError, DomainEvent, Personal, RecordedEvent};
pub use read_models::{Access, Changes, ColumnType, Op, ReadModel, Value};
pub use uuid::Uuid;
pub use web::Caller;
