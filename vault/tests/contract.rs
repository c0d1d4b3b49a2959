//! What the vault promises, over SQLite files and a real PostgreSQL. Nothing is mocked.

mod contract {
    pub mod api_keys;
    pub mod challenges;
    pub mod claims;
    pub mod copying;
    pub mod credentials;
    pub mod data_keys;
    pub mod erasures;
    pub mod intents;
    pub mod keys_file;
    pub mod opening;
    pub mod outbox;
    pub mod rotation;
    pub mod second_factor;
    pub mod seen;
    pub mod sessions;
    pub mod support;
    pub mod throttle;
}
