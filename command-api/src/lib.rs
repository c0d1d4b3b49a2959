//! The write side: deciders, the one driver that runs them, and the command routes. It refuses to read read models, to
//! publish, and to answer queries.

pub mod accounts;
mod aggregate;
pub mod api_key;
mod clock;
mod decider;
mod describe;
mod drill;
mod error;
mod executor;
mod form;
mod host;
mod in_flight;
pub mod metrics;
pub mod operation;
mod order;
pub mod policy;
mod request;
mod routes;
mod rule;
pub mod rules;
mod seal;
pub mod session;
mod shape;
mod states;

pub use accounts::built_in_states;
pub use aggregate::{Aggregate, Folding, folding};
pub use clock::{Clock, SystemClock};
pub use decider::{Decider, Given, When, given};
pub use describe::{describe, schemas};
#[doc(hidden)]
pub use drill::CRASH_POINTS;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub use drill::crash_at;
pub use error::{CommandError, codes};
pub use executor::{Executor, Loaded, Stores};
pub use form::{Form, Problem as FieldProblem};
pub use in_flight::{InFlight, InFlightGuard};
pub use order::{Order, Origin, Outcome};
pub use request::content;
pub use routes::{CommandState, DuplicateCollection, HostBox, Registration, hosted, routes};
pub use rule::{Check, Rule};
