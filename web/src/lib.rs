//! What both HTTP APIs share: access tokens, position tokens, problem details, limits, headers, request tracing, health
//! and the server loop. It refuses to know the event store, the read models, or any domain.

mod admission;
mod api_keys;
mod brief;
mod caller;
mod client;
mod clock;
pub mod codes;
mod harden;
pub mod health;
mod json;
pub mod metrics;
pub mod openapi;
mod position;
mod problem;
mod queueing;
mod revocations;
mod serve;
pub mod tls;
mod tokens;
mod trace;

pub use admission::set_aside;
pub use api_keys::{ApiKeyCaller, ApiKeys};
pub use caller::{Authenticated, Caller, Credential, MaybeAuthenticated};
pub use client::ClientAddress;
pub use harden::{Limits, harden};
pub use health::Health;
pub use json::{JsonBody, parse_object};
pub use position::{AFTER_HEADER, After, POSITION_HEADER, PositionToken};
pub use problem::{FieldError, Problem};
pub use revocations::Revocations;
pub use serve::{Connections, serve, serve_tls, serve_with};
pub use tls::Certificate;
pub use tokens::{AccessToken, Grant, TokenSettings, Tokens};
pub use trace::TraceContext;
