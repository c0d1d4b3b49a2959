//! Settings: the only reader of the command line and of the environment. Every role and verb accepts all of them and opens
//! only what it needs. A wrong one is refused with what to write instead.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::telemetry;

/// Defaults of the embedded form: everything under `data/`.
const EVENTS: &str = "sqlite:data/events.db";
const VAULT: &str = "sqlite:data/vault.db";
const DATABASE: &str = "sqlite:data/read-models.db";
const BROKER: &str = "memory:";
const KEYS: &str = "data/keys.json";
const LISTEN: &str = "127.0.0.1:8080";
const ISSUER: &str = "showcaller";

/// An event-driven CQRS backend: commands in, events kept, read models out.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Without a verb it serves. Every flag is also a variable: --events is SHOWCALLER_EVENTS, or SHOWCALLER_EVENTS_FILE\nnaming a file that holds the value (for URLs with passwords)."
)]
pub struct CommandLine {
    #[command(flatten)]
    flags: Flags,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serves every role in one process, or one with --role (the default).
    Serve,
    /// Looks into the log's streams.
    #[command(subcommand)]
    Streams(Streams),
    /// Proves that each read model took in every event exactly once and in order.
    #[command(
        after_help = "Examples:\n  showcaller verify\n  showcaller verify --rows\n\nExits with 0 when everything is as it must be, with 1 when something is not."
    )]
    Verify {
        /// Compares the rows with a fold of the log as well.
        #[arg(long)]
        rows: bool,
    },
    /// Makes the keys file, and rotates what is in it.
    #[command(subcommand)]
    Keys(KeysVerb),
    /// Asks the server at --listen whether it is ready: exits with 0 if so, else with 1.
    Health,
}

/// Looks into streams.
#[derive(Debug, Subcommand)]
pub enum Streams {
    /// Shows a stream's events, oldest first; personal fields are masked.
    #[command(
        after_help = "Example:\n  showcaller streams show account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a"
    )]
    Show {
        /// The stream's name, {category}-{id}.
        stream: String,
        /// How to print.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// Works on the keys file.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Makes a new keys file; never overwrites one.
    Create {
        /// Where to write it; it will be readable by its owner only.
        file: PathBuf,
    },
    /// Adds a key to the file named by --keys; it becomes current after a while. Nothing has to be restarted.
    #[command(
        after_help = "Examples:\n  showcaller keys rotate signing\n  showcaller keys rotate master --in 1h"
    )]
    Rotate {
        /// Which keys.
        #[arg(value_enum)]
        ring: Ring,
        /// When the new key becomes current, like 10s, 5m, 2h or 1d [default: 5m for signing, 10s for master]
        #[arg(long = "in", value_name = "DURATION", value_parser = duration)]
        delay: Option<TimeDelta>,
    },
    /// Lists master and signing keys of the file named by --keys, and how many data keys each master key wraps.
    List,
    /// Takes an old key out of the file named by --keys; refused while it is needed.
    #[command(after_help = "Example:\n  showcaller keys remove master 3f0c94be1a77")]
    Remove {
        /// Which keys.
        #[arg(value_enum)]
        ring: Ring,
        /// The key's id, as `showcaller keys list` shows it.
        id: String,
    },
}

/// Keys that can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ring {
    /// Sign access tokens.
    Signing,
    /// Wrap people's data keys.
    Master,
}

/// The longest duration that can be written.
const LONGEST: TimeDelta = TimeDelta::days(365);

fn duration(text: &str) -> Result<TimeDelta, String> {
    let advice = || format!("{text:?} is no duration: write for example 10s, 5m, 2h or 1d");
    let unit = text.chars().last().ok_or_else(advice)?;
    let number: u32 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| advice())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(advice()),
    };
    let duration = TimeDelta::seconds(i64::from(number) * seconds);
    if duration > LONGEST {
        return Err(format!("{text:?} is longer than a year"));
    }
    Ok(duration)
}

/// How a verb prints its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

/// One of the roles a process can play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Role {
    /// Takes commands and appends events.
    CommandApi,
    /// Publishes the log to the broker.
    Relay,
    /// Builds read models.
    Projector,
    /// Serves read models.
    QueryApi,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Args)]
struct Flags {
    /// The event store: sqlite:PATH or postgres://… [default: sqlite:data/events.db]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENTS",
        value_name = "URL",
        hide_env_values = true
    )]
    events: Option<String>,
    /// The broker: memory: or amqp://… [default: memory:]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_BROKER",
        value_name = "URL",
        hide_env_values = true
    )]
    broker: Option<String>,
    /// The read models: sqlite:PATH or postgres://… [default: sqlite:data/read-models.db]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    database: Option<String>,
    /// The vault: sqlite:PATH or postgres://… [default: sqlite:data/vault.db]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_VAULT",
        value_name = "URL",
        hide_env_values = true
    )]
    vault: Option<String>,
    /// The keys file [default: data/keys.json]
    #[arg(long, global = true, env = "SHOWCALLER_KEYS", value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    listen: Option<String>,
    /// Serves one role only; without it, all of them in one process
    #[arg(long, global = true, env = "SHOWCALLER_ROLE", value_enum)]
    role: Option<Role>,
    /// The issuer and audience of access tokens [default: showcaller]
    #[arg(long, global = true, env = "SHOWCALLER_ISSUER", value_name = "NAME")]
    issuer: Option<String>,
    /// What to log, like info or projector=debug
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    log: String,
    /// How log lines look
    #[arg(long, global = true, env = "SHOWCALLER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    log_format: LogFormat,
}

/// The settings, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The event store's URL.
    pub events: Url,
    /// The broker's URL.
    pub broker: Url,
    /// The read models' URL.
    pub database: Url,
    /// The vault's URL.
    pub vault: Url,
    /// The keys file.
    pub keys: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The one role to serve, if not all.
    pub role: Option<Role>,
    /// The issuer and audience of access tokens.
    pub issuer: String,
    /// What to log.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// A URL that may hold a password, so it shows itself without one.
#[derive(Clone)]
pub struct Url(String);

impl Url {
    /// The URL, password included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file of an `sqlite:` URL.
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        let path = self.0.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        Some(PathBuf::from(path.split('?').next().unwrap_or(path)))
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return f.write_str(&self.0);
        };
        match rest.rsplit_once('@') {
            Some((_, host)) => write!(f, "{scheme}://…@{host}"),
            None => f.write_str(&self.0),
        }
    }
}

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl CommandLine {
    /// Checks what was given and fills in the defaults.
    pub fn settings(&self) -> Result<Settings> {
        let flags = &self.flags;
        telemetry::filter(&flags.log)?;
        let settings = Settings {
            events: url(
                "events",
                flags.events.as_ref(),
                EVENTS,
                &["sqlite", "postgres"],
            )?,
            broker: url("broker", flags.broker.as_ref(), BROKER, &["memory", "amqp"])?,
            database: url(
                "database",
                flags.database.as_ref(),
                DATABASE,
                &["sqlite", "postgres"],
            )?,
            vault: url(
                "vault",
                flags.vault.as_ref(),
                VAULT,
                &["sqlite", "postgres"],
            )?,
            keys: flags.keys.clone().unwrap_or_else(|| KEYS.into()),
            listen: listen(flags.listen.as_deref().unwrap_or(LISTEN))?,
            role: flags.role,
            issuer: flags.issuer.clone().unwrap_or_else(|| ISSUER.into()),
            log: flags.log.clone(),
            log_format: flags.log_format,
        };
        if matches!(settings.role, Some(Role::Relay | Role::Projector))
            && matches!(self.verb, None | Some(Verb::Serve))
            && settings.broker.as_str().starts_with("memory")
        {
            bail!(
                "--broker memory: works only where all roles share one process; with --role write --broker amqp://USER:PASSWORD@HOST:5672/%2f, or leave --role out"
            );
        }
        Ok(settings)
    }
}

fn listen(text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| {
        format!(
            "--listen {text:?} is no address with a port; write for example --listen 127.0.0.1:8080"
        )
    })
}

fn url(name: &str, given: Option<&String>, default: &str, schemes: &[&str]) -> Result<Url> {
    let variable = format!("SHOWCALLER_{}_FILE", name.to_uppercase());
    let from_file = from_file(&variable)?;
    let text = match (given, from_file) {
        (Some(_), Some(_)) => bail!(
            "--{name} (or SHOWCALLER_{}) and {variable} are both set: keep one",
            name.to_uppercase()
        ),
        (Some(text), None) => text.clone(),
        (None, Some(text)) => text,
        (None, None) => default.to_owned(),
    };
    let scheme = text.split(':').next().unwrap_or_default();
    let known = match scheme {
        "postgresql" => "postgres",
        "amqps" => "amqp",
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
    Ok(Url(text))
}

fn example(scheme: &str) -> &'static str {
    match scheme {
        "sqlite" => "sqlite:data/events.db",
        "postgres" => "postgres://USER:PASSWORD@HOST:5432/DATABASE",
        "amqp" => "amqp://USER:PASSWORD@HOST:5672/%2f",
        _ => "memory:",
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the door to the environment"
)]
fn from_file(variable: &str) -> Result<Option<String>> {
    match std::env::var(variable) {
        Ok(path) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{variable} names {path}, which cannot be read"))?;
            Ok(Some(text.trim().to_owned()))
        }
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Result<Settings> {
        let line = CommandLine::try_parse_from([&["showcaller"], arguments].concat())
            .map_err(anyhow::Error::from)?;
        line.settings()
    }

    #[test]
    fn every_verb_accepts_every_setting() {
        assert!(
            settings(&[
                "verify",
                "--events",
                "sqlite:x.db",
                "--broker",
                "amqp://h/",
                "--role",
                "relay"
            ])
            .is_ok()
        );
        assert!(settings(&["--listen", "127.0.0.1:0", "streams", "show", "account-1"]).is_ok());
    }

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(TimeDelta::seconds(90)));
        assert_eq!(duration("5m"), Ok(TimeDelta::minutes(5)));
        assert_eq!(duration("2h"), Ok(TimeDelta::hours(2)));
        assert_eq!(duration("1d"), Ok(TimeDelta::days(1)));
        for wrong in [
            "",
            "5",
            "m",
            "-5m",
            "5 m",
            "5µ",
            "1.5h",
            "366d",
            "4294967295d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_role_that_needs_no_broker_is_not_asked_for_one() {
        assert!(settings(&["--role", "command-api"]).is_ok());
        assert!(settings(&["--role", "query-api"]).is_ok());
    }

    #[test]
    fn a_wrong_setting_is_refused_with_what_to_write_instead() {
        for (arguments, advice) in [
            (["--events", "data/events.db"], "sqlite:data/events.db"),
            (["--events", "mysql://h/d"], "postgres://"),
            (["--broker", "http://h"], "amqp://"),
            (["--listen", "8080"], "127.0.0.1:8080"),
            (["--role", "projector"], "leave --role out"),
            (["--log", "projector=loud"], "info,projector=debug"),
        ] {
            let message = settings(&arguments).unwrap_err().to_string();
            assert!(message.contains(advice), "{arguments:?} said: {message}");
        }
    }

    #[test]
    fn a_url_shows_itself_without_its_password() {
        let url = Url("postgres://ada:s3cret@host:5432/db".into());
        assert_eq!(
            format!("{url} {url:?}"),
            "postgres://…@host:5432/db postgres://…@host:5432/db"
        );
    }
}
