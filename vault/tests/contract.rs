//! What the vault promises, over SQLite files and a real PostgreSQL. Nothing is mocked.

mod contract {
    pub mod claims;
    pub mod credentials;
    pub mod data_keys;
    pub mod keys_file;
    pub mod opening;
    pub mod rotation;
    pub mod sessions;
    pub mod support;
}
