//! From a URL to connection settings that cannot be wrong in form. It refuses to repeat the URL, which may hold a
//! password.

use lapin::uri::AMQPUri;
use url::{Host, Url};

use crate::port::Error;

/// Seconds between heartbeats on a connection: a peer that is gone is noticed after twice that.
const HEARTBEAT_SECONDS: u16 = 10;
/// The longest virtual host AMQP can name, in bytes.
const VHOST_BYTES: usize = 255;

/// Parses an `amqp://` or `amqps://` URL.
pub(super) fn parse(url: &str) -> Result<AMQPUri, Error> {
    let wrong = |why: &str| {
        Error::Invalid(format!(
            "the broker's URL {why}: write amqp://USER:PASSWORD@HOST:5672 or …:5672/VHOST (%-encoded)"
        ))
    };
    let parsed = Url::parse(url).map_err(|error| wrong(&format!("is not a URL ({error})")))?;
    let mut uri: AMQPUri = url.parse().map_err(|_| wrong("is not understood"))?;
    match parsed.host() {
        // The client takes an IPv6 address for no host at all, and would connect to localhost.
        Some(Host::Ipv6(address)) => uri.authority.host = address.to_string(),
        Some(_) => {}
        None => return Err(wrong("names no host")),
    }
    if uri.vhost.is_empty() {
        return Err(wrong(
            "ends in '/', which names a virtual host without a name; leave it out for the default one",
        ));
    }
    if uri.vhost.len() > VHOST_BYTES {
        return Err(wrong("names a virtual host longer than 255 bytes"));
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_means_the_default_virtual_host() {
        assert_eq!(parse("amqp://localhost").unwrap().vhost, "/");
        assert_eq!(
            parse("amqps://localhost:5671/show%2fcaller").unwrap().vhost,
            "show/caller"
        );
    }

    #[test]
    fn an_ipv6_address_is_taken_as_the_host() {
        assert_eq!(
            parse("amqp://[2001:db8::7]:5672").unwrap().authority.host,
            "2001:db8::7"
        );
    }

    #[test]
    fn heartbeats_are_on_unless_the_url_says_otherwise() {
        assert_eq!(
            parse("amqp://h").unwrap().query.heartbeat,
            Some(HEARTBEAT_SECONDS)
        );
        assert_eq!(
            parse("amqp://h?heartbeat=3").unwrap().query.heartbeat,
            Some(3)
        );
    }
}
