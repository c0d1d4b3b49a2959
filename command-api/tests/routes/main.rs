//! The command routes on real SQLite stores.

mod commands;
mod registering;
mod sessions;
mod system;
