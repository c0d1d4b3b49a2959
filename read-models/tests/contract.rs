//! What every database of read models promises: one suite, run against SQLite, PostgreSQL,
//! MariaDB and MongoDB.
//!
//! Refuses: to mock a database, and to wait without a deadline.

#![allow(clippy::disallowed_methods, reason = "tests draw their ids themselves")]

#[path = "contract/commits.rs"]
mod commits;
#[path = "contract/database.rs"]
mod database;
#[path = "contract/formats.rs"]
mod formats;
#[path = "contract/generations.rs"]
mod generations;
#[path = "contract/given.rs"]
mod given;
#[path = "contract/journal.rs"]
mod journal;
#[path = "contract/live.rs"]
mod live;
#[path = "contract/mirrors.rs"]
mod mirrors;
#[path = "contract/queries.rs"]
mod queries;
#[path = "contract/questions.rs"]
mod questions;
#[path = "contract/reads.rs"]
mod reads;
#[path = "contract/retention.rs"]
mod retention;
#[path = "contract/scans.rs"]
mod scans;
#[path = "contract/values.rs"]
mod values;
