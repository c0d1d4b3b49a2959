//! What operators do, one verb a file. Data goes to stdout, talk to stderr.

pub mod asyncapi;
pub mod health;
pub mod keys;
pub mod operator;
pub mod streams;
pub mod verify;
