//! Settings: the only reader of the command line and of the environment. Every role and verb accepts all of them and opens
//! only what it needs. A wrong one is refused with what to write instead.

mod flags;
mod parse;
mod watching;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;

use crate::mirrors::Mirror;
use crate::secret_url::Url;
use crate::served_log::ServedLog;
use crate::telemetry;
use crate::verbs::Verb;

use flags::Flags;
pub use flags::{LogFormat, Output, Role};
use parse::{address, app_url, mirrors, url};
pub use watching::Watched;

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
/// Servers that start together wait for each other; somebody at a terminal wants to know.
const SERVER_PATIENCE: Duration = Duration::from_mins(1);
const VERB_PATIENCE: Duration = Duration::from_secs(10);

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

/// The settings, resolved.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The event store's URL.
    pub events: Url,
    /// The broker's URL.
    pub broker: Url,
    /// The read models' URL.
    pub database: Url,
    /// Further databases that the read models are copied to.
    pub mirrors: Vec<Mirror>,
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
    /// The certificate of the HTTP server and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
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
    /// How long a store may take to come up before the process gives up.
    pub patience: Duration,
    /// Where what is told about the process goes.
    pub watched: Watched,
    /// How long the process goes on serving after it was asked to stop, saying that it is not ready.
    pub drain: Duration,
    /// What to log.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl CommandLine {
    /// Checks what was given and fills in the defaults.
    pub fn settings(&self) -> Result<Settings> {
        #[cfg(debug_assertions)]
        parse::crash_drill();
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
                None if flags.tls_certificate.is_some() => format!("https://{listen}"),
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
            mirrors: mirrors(&flags.mirror)?,
            vault,
            keys: flags.keys.clone().unwrap_or_else(|| KEYS.into()),
            listen,
            tls: flags.tls_certificate.clone().zip(flags.tls_key.clone()),
            role: flags.role,
            served_log: served_log(flags)?,
            issuer: flags.issuer.clone().unwrap_or_else(|| ISSUER.into()),
            query_cache_mb: flags.query_cache_mb,
            output: flags.output,
            patience: match self.verb {
                None | Some(Verb::Serve) => SERVER_PATIENCE,
                Some(_) => VERB_PATIENCE,
            },
            drain: Duration::from_secs(flags.drain_seconds.into()),
            watched: flags.watching.resolve()?,
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

#[cfg(test)]
mod tests;
