//! The query routes on the real SQLite store of read models and the real vault.

#![allow(missing_docs, clippy::disallowed_methods, reason = "a test")]

#[path = "routes/access.rs"]
mod access;
#[path = "routes/answers.rs"]
mod answers;
#[path = "routes/api_keys.rs"]
mod api_keys;
#[path = "routes/caching.rs"]
mod caching;
#[path = "routes/counting.rs"]
mod counting;
#[path = "routes/description.rs"]
mod description;
#[path = "routes/fixture.rs"]
mod fixture;
#[path = "routes/listener.rs"]
mod listener;
#[path = "routes/live.rs"]
mod live;
#[path = "routes/live_ends.rs"]
mod live_ends;
#[path = "routes/pages.rs"]
mod pages;
#[path = "routes/personal.rs"]
mod personal;
#[path = "routes/queries.rs"]
mod queries;
#[path = "routes/sessions.rs"]
mod sessions;
#[path = "routes/waiting.rs"]
mod waiting;
