//! The whole system through HTTP: the real binary as real processes, on real PostgreSQL and RabbitMQ.
//!
//! Refuses: to look inside a process, and to sleep and hope. What is asserted is what a client, an operator or somebody
//! with a copy of the disks could see.

#![allow(clippy::disallowed_methods)] // tests may read the environment and the clock

mod client;
mod load;
mod mailbox;
mod world;

mod accounts;
mod accounts_access;
#[cfg(debug_assertions)]
mod accounts_crashes;
mod accounts_restore;
mod canary;
mod carrying;
mod cluster;
mod commands;
mod compose;
mod crashes;
mod dashboards;
mod description;
mod docs;
mod embedded;
mod eventstore;
mod fixture;
mod keys;
mod live;
mod messages;
mod mirrors;
mod operators;
mod pairs;
mod postgrest;
mod rebuild;
mod refusals;
mod restarts;
mod tls;
mod watched;
