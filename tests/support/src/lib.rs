//! What tests stand on: private PostgreSQL, MariaDB, MongoDB-compatible and RabbitMQ servers, the real `showcaller` binary as a process, free
//! ports, temporary folders, and waiting on a condition with a deadline.
//!
//! Every server listens on a free loopback port, keeps its data in a temporary folder, and is stopped together with
//! that folder when its handle is dropped, when the test process ends, and when the test process is killed.
//!
//! Refuses: to skip a test because a server is not installed (it panics and says what to install), to use a server
//! that happens to run on the machine already, and to sleep and hope.

#![allow(clippy::disallowed_methods)] // tests may read the environment and the clock

mod certificates;
mod eventstore;
mod folder;
mod guard;
mod http;
mod link;
mod mariadb;
mod mongodb;
mod owner;
mod ports;
mod postgres;
mod program;
mod rabbitmq;
mod showcaller;
mod totp;
mod wait;

pub use certificates::{Authority, Certificate};
pub use eventstore::{EVENTSTORE, eventstore_address, fresh_log, named_eventstore};
pub use folder::{TempDir, files_containing, temp_dir};
pub use link::Link;
pub use mariadb::{MariaDb, mariadb};
pub use mongodb::MongoDb;
pub use ports::free_port;
pub use postgres::{Postgres, psql};
pub use program::Program;
pub use rabbitmq::{Depth, RabbitMq};
pub use showcaller::{Finished, Launch, Showcaller};
pub use totp::{totp, totp_step};
pub use wait::{Condition, eventually};
