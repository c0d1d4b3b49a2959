//! The command routes on real SQLite stores.

mod access;
mod bodies;
mod codes;
mod commands;
mod description;
mod documents;
mod enumeration;
mod guessing;
mod keys;
mod notes;
mod people;
mod registering;
mod sessions;
mod system;
