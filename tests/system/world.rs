//! What the tests drive: the embedded server, and the four roles as four processes. It refuses to share data between
//! tests, except for the one embedded server of tests that only add to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use event_store::{Filter, Options};
use events::{Position, RecordedEvent};
use test_support::{Finished, Launch, Postgres, Showcaller, TempDir, temp_dir};
use tokio::sync::OnceCell;

use crate::client::Client;
use crate::mailbox::Mailbox;

/// How many events are read at a time.
const PAGE: usize = 5_000;

/// The real binary, not started yet.
pub fn launch() -> Launch {
    Showcaller::launch(env!("CARGO_BIN_EXE_showcaller"))
}

/// Every role in one process on the embedded defaults, with a data folder that outlives the process.
#[derive(Debug)]
pub struct Embedded {
    pub server: Showcaller,
    folder: TempDir,
}

impl Embedded {
    pub async fn start() -> Self {
        Self::start_in(temp_dir()).await
    }

    /// On the data that stand in this folder already.
    pub async fn start_in(folder: TempDir) -> Self {
        let server = launch().folder(folder.path()).start().await;
        Self { server, folder }
    }

    /// One server for all tests that only add accounts of their own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Embedded> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    pub fn client(&self) -> Client {
        Client::new(&self.server.url())
    }

    /// The working folder; data stand under `data/`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The mails that the server has written.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox::of(self.folder())
    }

    /// Makes an operator with the verb, as whoever runs the system does, and gives the URI for the authenticator.
    pub async fn make_operator(&self, email: &str, password: &str) -> String {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_showcaller"))
            .args(["operator", "create", "--password-stdin", "--email", email])
            .current_dir(self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is there");
        let line = format!("{password}\n");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(line.as_bytes()).expect("it reads");
        drop(stdin);
        let done = tokio::task::spawn_blocking(move || child.wait_with_output());
        let done = done.await.expect("it ran").expect("it ends");
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{told}");
        let printed = String::from_utf8(done.stdout).expect("UTF-8");
        printed.trim().to_owned()
    }

    pub fn events_url(&self) -> String {
        format!("sqlite:{}", self.folder().join("data/events.db").display())
    }

    /// Runs a verb on the same data.
    pub async fn verb(&self, arguments: &[&str]) -> Finished {
        launch()
            .folder(self.folder())
            .args(arguments)
            .finish()
            .await
    }

    /// `verify --rows` finds nothing wrong.
    pub async fn verify(&self) {
        assert_clean(&self.verb(&["verify", "--rows"]).await);
    }
}

/// The settings of a cluster: three databases, a broker, a keys file.
#[derive(Debug)]
pub struct Settings {
    folder: TempDir,
    pub events: String,
    pub vault: String,
    pub database: String,
    pub broker: String,
    /// What is logged.
    pub log: &'static str,
}

impl Settings {
    /// New databases on this server, and a keys file made with the verb.
    pub async fn new(postgres: &Postgres, broker: &str) -> Self {
        let folder = temp_dir();
        let made = launch()
            .folder(folder.path())
            .args(["keys", "create", "keys.json"])
            .finish()
            .await;
        assert_eq!(made.status, 0, "{}", made.stderr);
        let events = postgres.fresh_database().await;
        let vault = postgres.fresh_database().await;
        let database = postgres.fresh_database().await;
        Self {
            folder,
            events,
            vault,
            database,
            broker: broker.to_owned(),
            log: "info",
        }
    }

    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    /// A process with these settings; those that may hold passwords come by the environment.
    pub fn launch(&self) -> Launch {
        launch()
            .env("SHOWCALLER_EVENTS", &self.events)
            .env("SHOWCALLER_VAULT", &self.vault)
            .env("SHOWCALLER_DATABASE", &self.database)
            .env("SHOWCALLER_BROKER", &self.broker)
            .env("SHOWCALLER_LOG", self.log)
            .env("SHOWCALLER_KEYS", self.keys())
    }

    /// A process that plays one role.
    pub fn role(&self, role: &str) -> Launch {
        self.launch().args(["--role", role])
    }

    /// `verify --rows` finds nothing wrong.
    pub async fn verify(&self) {
        assert_clean(&self.launch().args(["verify", "--rows"]).finish().await);
    }
}

/// The four roles, one process each.
#[derive(Debug)]
pub struct Cluster {
    pub command_api: Showcaller,
    pub relay: Showcaller,
    pub projector: Showcaller,
    pub query_api: Showcaller,
}

impl Cluster {
    /// Starts all four at once, in no order, and waits until all are ready.
    pub async fn start(settings: &Settings) -> Self {
        let (command_api, relay, projector, query_api) = tokio::join!(
            settings.role("command-api").start(),
            settings.role("relay").start(),
            settings.role("projector").start(),
            settings.role("query-api").start(),
        );
        Self {
            command_api,
            relay,
            projector,
            query_api,
        }
    }

    /// A client with a router in front of the two APIs.
    pub fn client(&self) -> Client {
        Client::apart(&self.command_api.url(), &self.query_api.url())
    }

    /// Each role's process, by the role's name.
    pub fn processes(&self) -> [(&'static str, &Showcaller); 4] {
        [
            ("command-api", &self.command_api),
            ("relay", &self.relay),
            ("projector", &self.projector),
            ("query-api", &self.query_api),
        ]
    }
}

/// The verb's report says that nothing is wrong.
#[track_caller]
pub fn assert_clean(verified: &Finished) {
    assert_eq!(verified.status, 0, "{}{}", verified.stdout, verified.stderr);
}

/// Every event of a log, in its order.
pub async fn read_log(url: &str) -> Vec<RecordedEvent> {
    let log = event_store::open(url, Options::read_only())
        .await
        .expect("the log can be read");
    let head = log.head().await.expect("the log can be read");
    let (mut found, mut through) = (Vec::new(), Position::ZERO);
    while through < head {
        let page = log
            .read_all(through, &Filter::default(), PAGE)
            .await
            .expect("the log can be read");
        found.extend(page.events);
        through = page.through;
    }
    log.close().await;
    found
}
