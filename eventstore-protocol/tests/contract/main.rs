//! The served protocol, as clients see it: KurrentDB's own clients in three languages, over real sockets.

mod access;
mod clients;
mod refusals;
mod server;
mod subscriptions;
