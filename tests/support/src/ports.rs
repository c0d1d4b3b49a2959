//! Free loopback ports.
//!
//! They lie below the range from which the kernel takes ports for outgoing connections: else a client that retries
//! against a stopped server could be given the server's own port, and the server could not come back.
//! Refuses: to hand out a port twice, to this process or to another test process that runs at the same time.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

const PORTS: Range<u16> = 10_000..32_000;
const TRIES: u32 = 1_000;

/// One listener in Linux's abstract namespace for each port handed out: a lock that ends with the process.
static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A TCP port on 127.0.0.1 that nobody listens on, reserved for this process until it ends.
///
/// # Panics
/// When none is found in a thousand tries.
pub fn free_port() -> u16 {
    for _ in 0..TRIES {
        let random = RandomState::new().build_hasher().finish();
        let port = PORTS.start + (random % u64::from(PORTS.end - PORTS.start)) as u16;
        let name = SocketAddr::from_abstract_name(format!("showcaller-test-port-{port}"));
        let Ok(lock) = UnixListener::bind_addr(&name.expect("a short name is valid")) else {
            continue;
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            TAKEN.lock().expect("no panic while held").push(lock);
            return port;
        }
    }
    panic!("no free port between {} and {}", PORTS.start, PORTS.end)
}
