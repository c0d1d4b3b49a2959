//! What operators do, one verb a file. Data goes to stdout ([`out`]), talk to stderr; what a verb destroys is agreed to first
//! ([`confirm`]); how it ended is one of four exit codes ([`exit`]).

pub mod asyncapi;
pub mod backup;
pub mod completions;
pub mod confirm;
pub mod desk;
pub mod events;
pub mod exit;
pub mod health;
pub mod keys;
mod lag;
mod manifest;
mod ndjson;
pub mod operator;
pub mod out;
pub mod parked;
mod progress;
pub mod rebuild;
pub mod replay;
pub mod restore;
pub mod retention;
mod reveal;
pub mod seen;
pub mod select;
mod shown;
pub mod state;
pub mod status;
pub mod streams;
pub mod transfer;
mod user;
pub mod verify;
