//! Showcaller as a library: `App::new().aggregate::<Seats>().read_model(seats()).run()` is a whole backend with one's own
//! domain. The `showcaller` binary is this library's smallest user, with accounts alone.

mod app;
mod config;
mod metrics;
mod mirrors;
mod open;
mod operate;
mod otlp;
mod secret_url;
mod serve;
mod served_log;
mod telemetry;
mod verbs;
mod welcome;

/// Commands allocate many small things on every core at once; the platform's allocator makes them wait for each other.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use app::App;
pub use command_api::{Aggregate, Decider, FieldProblem, Form, Given, Rule, When, given, rules};
pub use events::{DecodeError, DomainEvent, EventTypes, Personal, RecordedEvent};
pub use read_models::testing::{GivenEvents, recorded};
pub use read_models::{Access, Changes, ColumnType, Decimal, Merge, Op, ReadModel, Value};
pub use uuid::Uuid;
pub use web::Caller;
