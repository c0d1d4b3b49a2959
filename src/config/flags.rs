//! The flags themselves: what can be written on the command line, or in variables. It refuses to judge what was written.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::watching::Watching;
use super::{APP_NAME, MAIL_FROM, QUERY_CACHE_MB};

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

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_possible_value();
        f.write_str(name.as_ref().map_or("", |name| name.get_name()))
    }
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
#[command(next_help_heading = "Settings, for every verb")]
pub(super) struct Flags {
    /// The event store: sqlite:PATH, postgres://… or esdb://… [default: sqlite:data/events.db]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENTS",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) events: Option<String>,
    /// The broker: memory: or amqp://… [default: memory:]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_BROKER",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) broker: Option<String>,
    /// The read models: sqlite:PATH or postgres://… [default: sqlite:data/read-models.db]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) database: Option<String>,
    /// A further database that the read models are copied to: mysql://… or mongodb://…; again, or parted by commas, for more
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_MIRROR",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) mirror: Vec<String>,
    /// The vault: sqlite:PATH or postgres://… [default: sqlite:data/vault.db]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_VAULT",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) vault: Option<String>,
    /// The keys file [default: data/keys.json]
    #[arg(long, global = true, env = "SHOWCALLER_KEYS", value_name = "FILE")]
    pub(super) keys: Option<PathBuf>,
    /// The erasure ledger: sqlite:PATH or postgres://…; keep it apart from the vault's backups [default:
    /// sqlite:data/erasure-ledger.db, or a schema of its own in the vault's PostgreSQL]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_ERASURE_LEDGER",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) erasure_ledger: Option<String>,
    /// How mail is sent: folder:PATH, smtp://USER:PASSWORD@HOST:587 or smtps://… [default: folder:data/mail]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_MAIL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) mail: Option<String>,
    /// The sender of mail
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_MAIL_FROM",
        value_name = "ADDRESS",
        default_value = MAIL_FROM
    )]
    pub(super) mail_from: String,
    /// Where links in mails lead: the application that people use [default: http:// and what --listen says]
    #[arg(long, global = true, env = "SHOWCALLER_APP_URL", value_name = "URL")]
    pub(super) app_url: Option<String>,
    /// What the application is called in mails and authenticator applications
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_APP_NAME",
        value_name = "NAME",
        default_value = APP_NAME
    )]
    pub(super) app_name: String,
    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    pub(super) listen: Option<String>,
    /// With which certificate (PEM, the server's own first) HTTP is served; without one, in plain text
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_TLS_CERTIFICATE",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(super) tls_certificate: Option<PathBuf>,
    /// The certificate's private key (PEM); both are read again when they change
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_TLS_KEY",
        value_name = "FILE",
        requires = "tls_certificate"
    )]
    pub(super) tls_key: Option<PathBuf>,
    /// Serves one role only; without it, all of them in one process
    #[arg(long, global = true, env = "SHOWCALLER_ROLE", value_enum)]
    pub(super) role: Option<Role>,
    /// Where --role event-store serves the log to EventStoreDB's clients [default: 127.0.0.1:2113]
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENT_STORE_LISTEN",
        value_name = "ADDRESS:PORT"
    )]
    pub(super) event_store_listen: Option<String>,
    /// With which certificate (PEM) the log is served; needed beyond this machine
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENT_STORE_CERTIFICATE",
        value_name = "FILE",
        requires = "event_store_key"
    )]
    pub(super) event_store_certificate: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_EVENT_STORE_KEY",
        value_name = "FILE",
        requires = "event_store_certificate"
    )]
    pub(super) event_store_key: Option<PathBuf>,
    /// Lets everybody read the served log and append to it, without credentials; on this machine only
    #[arg(long, global = true, env = "SHOWCALLER_INSECURE")]
    pub(super) insecure: bool,
    /// The issuer and audience of access tokens [default: showcaller]
    #[arg(long, global = true, env = "SHOWCALLER_ISSUER", value_name = "NAME")]
    pub(super) issuer: Option<String>,
    /// Memory for hot rows and lists of the query API, in MiB; 0: none
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_QUERY_CACHE_MB",
        value_name = "MIB",
        default_value_t = QUERY_CACHE_MB
    )]
    pub(super) query_cache_mb: u32,
    /// How a verb prints its data: a table for people, or one JSON object a line
    #[arg(long, global = true, env = "SHOWCALLER_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
    /// How long to go on serving after SIGTERM while /health/ready says 503: as long as routers take to notice
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=300)
    )]
    pub(super) drain_seconds: u16,
    #[command(flatten)]
    pub(super) watching: Watching,
    /// What to log, like info or projector=debug
    #[arg(
        long,
        global = true,
        env = "SHOWCALLER_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub(super) log: String,
    /// How log lines look
    #[arg(long, global = true, env = "SHOWCALLER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Human)]
    pub(super) log_format: LogFormat,
}
