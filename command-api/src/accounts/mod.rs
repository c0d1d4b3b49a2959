//! The built-in domain: accounts and the sessions their owners log in with. The decider is pure; what registering and
//! logging in do around it (hashing, claims, tokens) stands in files of their own.

pub mod decider;
pub mod log_in;
mod parse;
pub mod register;

pub use decider::{Account, Command, Refusal, Status};
