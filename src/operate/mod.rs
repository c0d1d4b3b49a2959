//! What operators do, one verb a file. Data goes to stdout ([`out`]), talk to stderr; what a verb destroys is agreed to first
//! ([`confirm`]); how it ended is one of four exit codes ([`exit`]).

pub mod completions;
pub mod confirm;
pub mod desk;
pub mod exit;
pub mod health;
pub mod keys;
pub mod operator;
pub mod out;
pub mod parked;
pub mod rebuild;
pub mod streams;
pub mod verify;
