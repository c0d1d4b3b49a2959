//! What a server prints when it is up: where it listens, and lines that work when pasted in order.

use std::io::Write;
use std::net::SocketAddr;

use crate::config::Settings;

/// Prints to stdout; that nobody reads it is no fault.
pub fn print(settings: &Settings, address: SocketAddr) {
    let scheme = if settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let text = match settings.role {
        None => all_roles(settings, scheme, address),
        Some(role) => format!("Showcaller listens on {scheme}://{address} as {role}.\n"),
    };
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn all_roles(settings: &Settings, scheme: &str, address: SocketAddr) -> String {
    let Settings {
        events,
        broker,
        database,
        vault,
        mail,
        ..
    } = settings;
    format!(
        r#"Showcaller listens on {scheme}://{address}
  events {events}   broker {broker}   read models {database}   vault {vault}   mail {mail}

Try it; paste these lines into another terminal, in order:

  URL={scheme}://{address}
  curl -s $URL/v1/accounts -H 'Content-Type: application/json' -d '{{"email": "ada@example.org", "password": "a quiet lighthouse", "profile": {{"display_name": "Ada Lovelace"}}}}'; echo
  LOGIN=$(curl -s $URL/v1/sessions -H 'Content-Type: application/json' -d '{{"email": "ada@example.org", "password": "a quiet lighthouse"}}')
  TOKEN=$(echo "$LOGIN" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  ACCOUNT=$(echo "$LOGIN" | sed 's/.*"account_id":"\([^"]*\)".*/\1/')
  AFTER=$(curl -s $URL/v1/accounts/$ACCOUNT/update-profile -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '{{"given_name": "Augusta Ada"}}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -s $URL/v1/accounts/me -H "Authorization: Bearer $TOKEN" -H "Showcaller-After: $AFTER"; echo
  curl -s $URL/v1/account-history -H "Authorization: Bearer $TOKEN" -H "Showcaller-After: $AFTER"; echo

"#
    )
}
