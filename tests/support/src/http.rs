//! The one HTTP request this crate needs: a GET of a loopback port, for its status.
//!
//! Refuses: to be a client for tests; they bring a real one.

use std::io::{Error, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);

/// The status of `GET path` on 127.0.0.1.
pub(crate) fn status(port: u16, path: &str) -> Result<u16, Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut start = [0; 12]; // "HTTP/1.x NNN"
    stream.read_exact(&mut start)?;
    let digits = std::str::from_utf8(&start[9..])
        .ok()
        .and_then(|digits| digits.parse().ok());
    digits.ok_or_else(|| Error::other(format!("not HTTP: {}", start.escape_ascii())))
}
