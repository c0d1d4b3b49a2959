//! From text to settings that cannot be wrong in form, and the door to the environment. It refuses a wrong one with what to
//! write instead, and without repeating a URL, which may hold a password.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use crate::mirrors::Mirror;
use crate::secret_url::Url;

pub(super) fn address(name: &str, text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| {
        format!(
            "--{name} {text:?} is no address with a port; write for example --{name} 127.0.0.1:8080"
        )
    })
}

pub(super) fn app_url(text: &str) -> Result<String> {
    let text = text.trim_end_matches('/');
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(text.to_owned());
    }
    bail!(
        "--app-url {text:?} is no web address; write for example --app-url https://app.example.org"
    )
}

pub(super) fn url(
    name: &str,
    given: Option<&String>,
    default: &str,
    schemes: &[&str],
) -> Result<Url> {
    let variable = format!("{}_FILE", variable_of(name));
    let from_file = from_file(&variable)?;
    let text = match (given, from_file) {
        (Some(_), Some(_)) => bail!(
            "--{name} (or {}) and {variable} are both set: keep one",
            variable_of(name)
        ),
        (Some(text), None) => text.clone(),
        (None, Some(text)) => text,
        (None, None) => default.to_owned(),
    };
    let scheme = text.split(':').next().unwrap_or_default();
    let known = match scheme {
        "postgresql" => "postgres",
        "amqps" => "amqp",
        "esdb+discover" | "kurrentdb" | "kurrentdb+discover" => "esdb",
        other => other,
    };
    if !text.contains(':') || !schemes.contains(&known) {
        let examples: Vec<_> = schemes.iter().map(|scheme| example(scheme)).collect();
        bail!(
            "--{name} does not begin with {}; write for example {}",
            schemes.join(": or "),
            examples.join(" or ")
        );
    }
    Ok(Url::new(text))
}

pub(super) fn mirrors(given: &[String]) -> Result<Vec<Mirror>> {
    let variable = format!("{}_FILE", variable_of("mirror"));
    match from_file(&variable)? {
        Some(_) if !given.is_empty() => {
            bail!("--mirror (or SHOWCALLER_MIRROR) and {variable} are both set: keep one")
        }
        Some(text) => Mirror::parse(&[text]),
        None => Mirror::parse(given),
    }
}

/// The variable of a flag.
pub(super) fn variable_of(name: &str) -> String {
    format!("SHOWCALLER_{}", name.to_uppercase().replace('-', "_"))
}

pub(super) fn example(scheme: &str) -> &'static str {
    match scheme {
        "sqlite" => "sqlite:data/events.db",
        "postgres" => "postgres://USER:PASSWORD@HOST:5432/DATABASE",
        "esdb" => "esdb://USER:PASSWORD@HOST:2113",
        "folder" => "folder:data/mail",
        "smtp" => "smtp://USER:PASSWORD@HOST:587",
        "smtps" => "smtps://USER:PASSWORD@HOST:465",
        "amqp" => "amqp://USER:PASSWORD@HOST:5672/%2f",
        _ => "memory:",
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the door to the environment"
)]
pub(super) fn from_file(variable: &str) -> Result<Option<String>> {
    match std::env::var(variable) {
        Ok(path) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{variable} names {path}, which cannot be read"))?;
            Ok(Some(text.trim().to_owned()))
        }
        Err(_) => Ok(None),
    }
}

/// Where a crash drill lets this process die; in debug builds alone.
#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the door to the environment"
)]
pub(super) fn crash_drill() {
    if let Ok(name) = std::env::var("SHOWCALLER_TEST_CRASH_AT") {
        command_api::crash_at(&name);
    }
}
