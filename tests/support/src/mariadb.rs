//! A private MariaDB server, durable as MariaDB is by default, and set up as carelessly as servers are found: no strict mode,
//! another time zone, another character set.
//!
//! Refuses: to run without the real server, to listen beyond loopback, and to share a database between tests.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::guard::Guard;
use crate::owner::Owner;
use crate::ports::free_port;
use crate::wait::{becomes_true, blocking, succeeds};

const USER: &str = "showcaller";
/// Also what tests look for where no password may be.
const PASSWORD: &str = "mariadb-secret";
const INSTALL: &str = "MariaDB is not installed, and the tests need it: apt-get install -y --no-install-recommends mariadb-server";
/// Small, so that a data directory is quickly copied.
const REDO_LOG: &str = "--innodb-log-file-size=32M";
const START_WITHIN: Duration = Duration::from_mins(2);
const STOP_WITHIN: Duration = Duration::from_mins(1);

static SHARED: OnceLock<MariaDb> = OnceLock::new();

/// A running server. Clones are the same server; it goes with the last one.
#[derive(Clone, Debug)]
pub struct MariaDb(Arc<Server>);

#[derive(Debug)]
struct Server {
    guard: Guard,
    port: u16,
    databases: AtomicU32,
}

impl MariaDb {
    /// The one server of this test process, started by the first test that asks. Nobody stops or restarts it.
    pub async fn shared() -> &'static Self {
        blocking(|| SHARED.get_or_init(|| Self(Arc::new(Server::start())))).await
    }

    /// A server of one's own, to stop, kill and restart.
    pub async fn start() -> Self {
        blocking(|| Self(Arc::new(Server::start()))).await
    }

    /// The URL of a new, empty database, whose owner may do everything.
    pub async fn fresh_database(&self) -> String {
        let name = format!(
            "test_{}",
            self.0.databases.fetch_add(1, Ordering::Relaxed) + 1
        );
        mariadb(&self.url("mysql"), &format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// The URL of a database by its name; `mysql` always exists.
    pub fn url(&self, database: &str) -> String {
        format!(
            "mysql://{USER}:{PASSWORD}@127.0.0.1:{}/{database}",
            self.0.port
        )
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Where its files are, to look for bytes that must not be there.
    pub fn folder(&self) -> &Path {
        self.0.guard.folder()
    }

    /// Stops it in order. The data stays.
    pub async fn stop(&self) {
        self.run(|server| _ = server.guard.stop("TERM", STOP_WITHIN))
            .await;
    }

    /// Kills it with SIGKILL, as a power cut would. What was committed stays.
    pub async fn kill(&self) {
        self.run(|server| _ = server.guard.stop("KILL", STOP_WITHIN))
            .await;
    }

    /// Starts it again on the same port and data; stops it first if it runs.
    pub async fn restart(&self) {
        self.run(|server| {
            server.guard.stop("TERM", STOP_WITHIN);
            server.run();
        })
        .await;
    }

    async fn run(&self, work: impl FnOnce(&Server) + Send + 'static) {
        let server = Arc::clone(&self.0);
        blocking(move || work(&server)).await;
    }
}

/// Runs SQL with MariaDB's client, and gives what it prints: rows a line, columns parted by tabs.
///
/// # Panics
/// When the SQL fails.
pub async fn mariadb(url: &str, sql: &str) -> String {
    let (port, database) = url
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split_once('/'))
        .expect("a URL of MariaDb::url");
    let command = client(port, database, sql);
    blocking(move || succeeds(command)).await
}

fn client(port: &str, database: &str, sql: &str) -> Command {
    let mut command = Command::new(program("mariadb"));
    command
        .args([
            "--no-defaults",
            "--protocol=TCP",
            "--host=127.0.0.1",
            "--batch",
            "--raw",
            "-N",
        ])
        .arg(format!("--port={port}"))
        .arg(format!("--user={USER}"))
        .arg(format!("--password={PASSWORD}"))
        .arg("--default-character-set=utf8mb4")
        .args(["--connect-timeout=5", "--execute", sql, database]);
    command
}

impl Server {
    fn start() -> Self {
        let (port, owner) = (free_port(), Owner::find("mysql"));
        let guard = Guard::new("mariadb", "TERM", |folder| {
            let mut command = owner.command(&program("mariadbd"), folder);
            command.arg("--no-defaults");
            for (setting, value) in [
                ("datadir", "data"),
                ("socket", "s"),
                ("init-file", "init.sql"),
            ] {
                command.arg(format!("--{setting}={}", folder.join(value).display()));
            }
            command.args([
                &format!("--port={port}"),
                "--bind-address=127.0.0.1",
                REDO_LOG,
                "--skip-name-resolve",
                "--max-connections=400",
                "--innodb-buffer-pool-size=64M",
                "--sql-mode=",
                "--default-time-zone=+05:30",
                "--character-set-server=latin1",
                "--transaction-isolation=SERIALIZABLE",
            ]);
            command
        });
        let init = format!(
            "CREATE USER IF NOT EXISTS {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO {USER}@'127.0.0.1' WITH GRANT OPTION;\n"
        );
        fs::write(guard.folder().join("init.sql"), init).expect("the folder is ours");
        owner.take(guard.folder());
        make_data(&owner, guard.folder());
        let server = Self {
            guard,
            port,
            databases: AtomicU32::new(0),
        };
        server.run();
        server
    }

    /// Starts it and waits until it takes connections.
    fn run(&self) {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline {
            self.guard.start();
            becomes_true(START_WITHIN, || !self.guard.is_running() || self.is_ready());
            if self.guard.is_running() {
                return;
            }
        }
        panic!(
            "MariaDB did not start within {START_WITHIN:?}\n{}",
            self.guard.log_tail()
        );
    }

    fn is_ready(&self) -> bool {
        client(&self.port.to_string(), "mysql", "SELECT 1")
            .output()
            .is_ok_and(|answer| answer.status.success())
    }
}

/// Fills the data directory of a new server. Making one takes seconds, and copying one does not: the first test process that
/// needs one leaves a copy to all others, also to those of the next run.
fn make_data(owner: &Owner, folder: &Path) {
    let (data, prepared) = (folder.join("data"), prepared());
    if prepared.exists() {
        copy(&prepared, &data);
        owner.take_all(&data);
        return;
    }
    let mut install = owner.command(&program("mariadb-install-db"), folder);
    install.args(["--no-defaults", "--skip-test-db", "--skip-name-resolve"]);
    install.args([REDO_LOG, &format!("--datadir={}", data.display())]);
    succeeds(install);
    // Whoever comes second keeps what is there.
    let ours = prepared.with_extension(std::process::id().to_string());
    copy(&data, &ours);
    if fs::rename(&ours, &prepared).is_err() {
        fs::remove_dir_all(&ours).expect("the copy is ours");
    }
}

/// Where the copy of a new data directory is, made by the very program that is installed.
fn prepared() -> PathBuf {
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers");
    fs::create_dir_all(&servers).expect("target can be written");
    let built = fs::metadata(program("mariadbd")).map_or(0, |found| found.mtime());
    servers.join(format!("mariadb-{built}"))
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.arg("-r").arg(from).arg(to);
    succeeds(command);
}

fn program(name: &str) -> PathBuf {
    let places = ["/usr/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(name));
    places
        .into_iter()
        .find(|path| path.exists())
        .expect(INSTALL)
}
