//! The projector on real stores and brokers: SQLite and the in-process broker throughout, PostgreSQL and RabbitMQ for the
//! core.

#![expect(clippy::disallowed_methods, reason = "tests draw their own ids")]

mod delivery;
mod failures;
mod generations;
mod mirrors;
mod observing;
mod operations;
mod retention;
mod samples;
mod servers;
mod unreliable;
mod verifying;
mod world;
