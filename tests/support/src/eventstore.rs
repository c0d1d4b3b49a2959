//! The EventStoreDB or KurrentDB that the tests are to be run against, where somebody has one.
//!
//! Refuses: to start one. None can be installed from where everything else comes from.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// The variable that names it, by its connection string.
pub const EVENTSTORE: &str = "SHOWCALLER_TEST_ESDB";

/// The connection string of a real server, if one was named.
pub fn named_eventstore() -> Option<String> {
    std::env::var(EVENTSTORE).ok().filter(|url| !url.is_empty())
}

/// The same server with a new, empty log of Showcaller's on it, by a name that nobody else draws.
pub fn fresh_log(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    let random = RandomState::new().build_hasher().finish();
    format!("{url}{separator}log=test_{random:x}")
}

/// The one address in a connection string: `HOST:PORT`.
///
/// # Panics
/// When it names several, or finds them by DNS: what stands between client and server in tests leads to one.
pub fn eventstore_address(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split(['?', '/']).next().unwrap_or(rest);
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    assert!(
        !host.contains(',') && !url.contains("+discover"),
        "{EVENTSTORE} must name one host"
    );
    if host.contains(':') {
        return host.to_owned();
    }
    format!("{host}:2113")
}
