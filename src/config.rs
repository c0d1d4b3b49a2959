//! Settings: the only reader of the command line and of the environment. Every role and verb accepts all of them and opens
//! only what it needs. A wrong one is refused with what to write instead.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, ValueEnum};

use crate::secret_url::Url;
use crate::served_log::ServedLog;
use crate::telemetry;
use crate::verbs::Verb;

/// Defaults of the embedded form: everything under `data/`.
const EVENTS: &str = "sqlite:data/events.db";
const VAULT: &str = "sqlite:data/vault.db";
const DATABASE: &str = "sqlite:data/read-models.db";
const BROKER: &str = "memory:";
const KEYS: &str = "data/keys.json";
const LISTEN: &str = "127.0.0.1:8080";
const EVENT_STORE_LISTEN: &str = "127.0.0.1:2113";
const ISSUER: &str = "showcaller";
const QUERY_CACHE_MB: u32 = 64;
const LEDGER: &str = "sqlite:data/erasure-ledger.db";
const MAIL: &str = "folder:data/mail";
const MAIL_FROM: &str = "Showcaller <no-reply@localhost>";
const APP_NAME: &str = "Showcaller";

/// An event-driven CQRS backend: commands in, events kept, read models out.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Without a verb it serves. Every flag is also a variable: --events is SHOWCALLER_EVENTS, or SHOWCALLER_EVENTS_FILE\nnaming a file that holds the value (for URLs with passwords).\n\nExit codes: 0 done; 1 it failed, or found something wrong or nothing; 2 the command line is wrong, or the verb refuses;\n3 a server cannot be reached."
)]
pub struct CommandLine {
    #[command(flatten)]
    flags: Flags,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
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
    /// Serves the log over EventStoreDB's gRPC protocol; never without being named.
    EventStore,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How a verb prints its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Args)]
struct Flags {
    /// The event store: sqlite:PATH, postgres://… or esdb://… [default: sqlite:data/events.db]
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
    /// The erasure ledger: sqlite:PATH or postgres://…; keep it apart from the vault's backups [default:
    /// sqlite:data/erasure-ledger.db, or a schema of its own in the vault's PostgreSQL]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_ERASURE_LEDGER",
        value_name = "URL",
        hide_env_values = true
    )]
    erasure_ledger: Option<String>,
    /// How mail is sent: folder:PATH, smtp://USER:PASSWORD@HOST:587 or smtps://… [default: folder:data/mail]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_MAIL",
        value_name = "URL",
        hide_env_values = true
    )]
    mail: Option<String>,
    /// The sender of mail
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_MAIL_FROM",
        value_name = "ADDRESS",
        default_value = MAIL_FROM
    )]
    mail_from: String,
    /// Where links in mails lead: the application that people use [default: http:// and what --listen says]
    #[arg(long, global = true, env = "SHOWCALLER_APP_URL", value_name = "URL")]
    app_url: Option<String>,
    /// What the application is called in mails and authenticator applications
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_APP_NAME",
        value_name = "NAME",
        default_value = APP_NAME
    )]
    app_name: String,
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
    /// Where --role event-store serves the log to EventStoreDB's clients [default: 127.0.0.1:2113]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENT_STORE_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    event_store_listen: Option<String>,
    /// With which certificate (PEM) the log is served; needed beyond this machine
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENT_STORE_CERTIFICATE",
        value_name = "FILE",
        requires = "event_store_key"
    )]
    event_store_certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENT_STORE_KEY",
        value_name = "FILE",
        requires = "event_store_certificate"
    )]
    event_store_key: Option<PathBuf>,
    /// Lets everybody read the served log and append to it, without credentials; on this machine only
    #[arg(long, global = true, env = "SHOWCALLER_INSECURE")]
    insecure: bool,
    /// The issuer and audience of access tokens [default: showcaller]
    #[arg(long, global = true, env = "SHOWCALLER_ISSUER", value_name = "NAME")]
    issuer: Option<String>,
    /// Memory for hot rows and lists of the query API, in MiB; 0: none
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_QUERY_CACHE_MB",
        value_name = "MIB",
        default_value_t = QUERY_CACHE_MB
    )]
    query_cache_mb: u32,
    /// How a verb prints its data: a table for people, or one JSON object a line
    #[arg(long, global = true, env = "SHOWCALLER_OUTPUT", value_enum, default_value_t = Output::Table)]
    output: Output,
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
    /// The erasure ledger's URL.
    pub erasure_ledger: Url,
    /// How mail is sent.
    pub mail: Url,
    /// The sender of mail.
    pub mail_from: String,
    /// Where links in mails lead.
    pub app_url: String,
    /// What the application is called.
    pub app_name: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The one role to serve, if not all.
    pub role: Option<Role>,
    /// How the log is served to EventStoreDB's clients.
    pub served_log: ServedLog,
    /// The issuer and audience of access tokens.
    pub issuer: String,
    /// Memory for hot rows and lists of the query API, in MiB; 0: none.
    pub query_cache_mb: u32,
    /// How a verb prints its data.
    pub output: Output,
    /// What to log.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl CommandLine {
    /// Checks what was given and fills in the defaults.
    pub fn settings(&self) -> Result<Settings> {
        #[cfg(debug_assertions)]
        crash_drill();
        let flags = &self.flags;
        telemetry::filter(&flags.log)?;
        let vault = url(
            "vault",
            flags.vault.as_ref(),
            VAULT,
            &["sqlite", "postgres"],
        )?;
        let ledger = match vault.sqlite_path() {
            Some(_) => LEDGER,
            None => vault.as_str(),
        };
        let listen = address("listen", flags.listen.as_deref().unwrap_or(LISTEN))?;
        let settings = Settings {
            erasure_ledger: url(
                "erasure-ledger",
                flags.erasure_ledger.as_ref(),
                ledger,
                &["sqlite", "postgres"],
            )?,
            mail: url(
                "mail",
                flags.mail.as_ref(),
                MAIL,
                &["folder", "smtp", "smtps"],
            )?,
            mail_from: flags.mail_from.clone(),
            app_url: match &flags.app_url {
                Some(url) => app_url(url)?,
                None => format!("http://{listen}"),
            },
            app_name: flags.app_name.clone(),
            events: url(
                "events",
                flags.events.as_ref(),
                EVENTS,
                &["sqlite", "postgres", "esdb"],
            )?,
            broker: url("broker", flags.broker.as_ref(), BROKER, &["memory", "amqp"])?,
            database: url(
                "database",
                flags.database.as_ref(),
                DATABASE,
                &["sqlite", "postgres"],
            )?,
            vault,
            keys: flags.keys.clone().unwrap_or_else(|| KEYS.into()),
            listen,
            role: flags.role,
            served_log: served_log(flags)?,
            issuer: flags.issuer.clone().unwrap_or_else(|| ISSUER.into()),
            query_cache_mb: flags.query_cache_mb,
            output: flags.output,
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

fn address(name: &str, text: &str) -> Result<SocketAddr> {
    text.parse().with_context(|| {
        format!(
            "--{name} {text:?} is no address with a port; write for example --{name} 127.0.0.1:8080"
        )
    })
}

fn served_log(flags: &Flags) -> Result<ServedLog> {
    let listen = flags.event_store_listen.as_deref();
    let served = ServedLog {
        listen: address("event-store-listen", listen.unwrap_or(EVENT_STORE_LISTEN))?,
        tls: flags
            .event_store_certificate
            .clone()
            .zip(flags.event_store_key.clone()),
        insecure: flags.insecure,
    };
    served.check(flags.role == Some(Role::EventStore))?;
    Ok(served)
}

fn app_url(text: &str) -> Result<String> {
    let text = text.trim_end_matches('/');
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(text.to_owned());
    }
    bail!(
        "--app-url {text:?} is no web address; write for example --app-url https://app.example.org"
    )
}

fn url(name: &str, given: Option<&String>, default: &str, schemes: &[&str]) -> Result<Url> {
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

/// The variable of a flag.
fn variable_of(name: &str) -> String {
    format!("SHOWCALLER_{}", name.to_uppercase().replace('-', "_"))
}

fn example(scheme: &str) -> &'static str {
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

/// Where a crash drill lets this process die; in debug builds alone.
#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the door to the environment"
)]
fn crash_drill() {
    if let Ok(name) = std::env::var("SHOWCALLER_TEST_CRASH_AT") {
        command_api::crash_at(&name);
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
            (["--events", "mongodb://h"], "esdb://"),
            (["--listen", "8080"], "127.0.0.1:8080"),
            (["--role", "projector"], "leave --role out"),
            (["--log", "projector=loud"], "info,projector=debug"),
        ] {
            let message = settings(&arguments).unwrap_err().to_string();
            assert!(message.contains(advice), "{arguments:?} said: {message}");
        }
    }

    #[test]
    fn the_log_is_served_beyond_this_machine_only_with_tls_and_credentials() {
        let role = ["--role", "event-store", "--event-store-listen"];
        let tls = [
            "--event-store-certificate",
            "c.pem",
            "--event-store-key",
            "k.pem",
        ];
        let here = [&role[..], &["127.0.0.1:0", "--insecure"]].concat();
        assert!(settings(&here).unwrap().served_log.insecure);
        assert!(settings(&[&role[..], &["0.0.0.0:2113"], &tls].concat()).is_ok());
        for wrong in [
            [&role[..], &["0.0.0.0:2113"]].concat(),
            [&role[..], &["0.0.0.0:2113", "--insecure"], &tls].concat(),
            [&role[..], &["127.0.0.1:0"], &tls[..2]].concat(),
        ] {
            assert!(settings(&wrong).is_err(), "{wrong:?}");
        }
    }
}
