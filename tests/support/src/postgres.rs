//! A private PostgreSQL server, durable as PostgreSQL is by default (fsync and synchronous_commit stay on).
//!
//! Refuses: to run without the real server, to listen beyond loopback, and to share a database between tests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::certificates::{Authority, Certificate};
use crate::guard::Guard;
use crate::owner::Owner;
use crate::ports::free_port;
use crate::wait::{becomes_true, blocking, succeeds};

const USER: &str = "showcaller";
const INSTALL: &str =
    "PostgreSQL is not installed, and the tests need it: apt-get install -y postgresql";
const START_WITHIN: Duration = Duration::from_mins(1);
const STOP_WITHIN: Duration = Duration::from_mins(1);

static SHARED: OnceLock<Postgres> = OnceLock::new();

/// A running server. Clones are the same server; it goes with the last one.
#[derive(Clone, Debug)]
pub struct Postgres(Arc<Server>);

#[derive(Debug)]
struct Server {
    guard: Guard,
    port: u16,
    databases: AtomicU32,
}

impl Postgres {
    /// The one server of this test process, started by the first test that asks. Nobody stops or restarts it.
    pub async fn shared() -> &'static Self {
        blocking(|| SHARED.get_or_init(|| Self(Arc::new(Server::start())))).await
    }

    /// A server of one's own, to stop, kill and restart.
    pub async fn start() -> Self {
        blocking(|| Self(Arc::new(Server::start()))).await
    }

    /// A server of one's own, set up as PostgreSQL's image does it: the superuser `postgres` with the password in this
    /// file, of whom everybody who connects is asked a password, and started with these arguments.
    pub async fn start_with_password(password: &Path, arguments: &[String]) -> Self {
        let password = fs::read_to_string(password).expect("the password can be read");
        let arguments = arguments.to_vec();
        let start = move || {
            Self(Arc::new(Server::start_as(
                "postgres",
                Some(&password),
                &arguments,
                None,
            )))
        };
        blocking(start).await
    }

    /// A server of one's own that speaks TLS to whoever wants it, with a certificate of this authority.
    pub async fn start_with_tls(authority: &'static Authority) -> Self {
        let start = move || {
            let certificate = authority.issue("postgres");
            Self(Arc::new(Server::start_as(
                USER,
                None,
                &[],
                Some(&certificate),
            )))
        };
        blocking(start).await
    }

    /// The folder of this server's own programs: `psql`, `pg_isready` and others.
    pub fn programs() -> PathBuf {
        binaries()
    }

    /// The URL of a new, empty database, whose owner is a superuser.
    pub async fn fresh_database(&self) -> String {
        let name = format!(
            "test_{}",
            self.0.databases.fetch_add(1, Ordering::Relaxed) + 1
        );
        psql(&self.url("postgres"), &format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// The URL of a database by its name; `postgres` always exists.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.0.port)
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Where its files are, to look for bytes that must not be there.
    pub fn folder(&self) -> &Path {
        self.0.guard.folder()
    }

    /// Stops it in order, cutting its clients off (PostgreSQL's fast shutdown). The data stays.
    pub async fn stop(&self) {
        self.run(|server| _ = server.guard.stop("INT", STOP_WITHIN))
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
            server.guard.stop("INT", STOP_WITHIN);
            server.run();
        })
        .await;
    }

    /// Cuts every client's connection off; the server goes on.
    pub async fn drop_connections(&self) {
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        psql(&self.url("postgres"), others).await;
    }

    async fn run(&self, work: impl FnOnce(&Server) + Send + 'static) {
        let server = Arc::clone(&self.0);
        blocking(move || work(&server)).await;
    }
}

/// Runs SQL with `psql`, and gives what it prints: rows unaligned, columns parted by `|`.
///
/// # Panics
/// When the SQL fails.
pub async fn psql(url: &str, sql: &str) -> String {
    let mut command = Command::new(binaries().join("psql"));
    command.args([
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        url,
        "-c",
        sql,
    ]);
    blocking(move || succeeds(command)).await
}

impl Server {
    fn start() -> Self {
        let arguments = ["-c".to_owned(), "max_connections=300".to_owned()];
        Self::start_as(USER, None, &arguments, None)
    }

    fn start_as(
        superuser: &str,
        password: Option<&str>,
        arguments: &[String],
        certificate: Option<&Certificate>,
    ) -> Self {
        let (port, owner) = (free_port(), Owner::find("postgres"));
        let guard = Guard::new("postgres", "QUIT", |folder| {
            let mut command = owner.command(&binaries().join("postgres"), folder);
            command
                .arg("-D")
                .arg(folder.join("data"))
                .args(["-p", &port.to_string()])
                .args(arguments);
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "log_min_messages=warning",
            ] {
                command.args(["-c", setting]);
            }
            if let Some(certificate) = certificate {
                let own = folder.join("tls");
                fs::create_dir(&own).expect("the server's folder is ours");
                command.args(["-c", "ssl=on"]);
                for (setting, file) in [
                    ("ssl_cert_file", &certificate.chain),
                    ("ssl_key_file", &certificate.key),
                ] {
                    let copy = own.join(setting);
                    fs::copy(file, &copy).expect("the certificate can be read");
                    let mine_alone = fs::Permissions::from_mode(0o600);
                    fs::set_permissions(&copy, mine_alone).expect("the copy is ours");
                    command.args(["-c", &format!("{setting}={}", copy.display())]);
                }
                owner.take_all(&own);
            }
            command
        });
        owner.take(guard.folder());
        let mut initdb = owner.command(&binaries().join("initdb"), guard.folder());
        initdb.args([
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username",
            superuser,
        ]);
        match password {
            None => initdb.arg("--auth=trust"),
            Some(password) => {
                let file = guard.folder().join("password");
                fs::write(&file, password).expect("the server's folder is ours");
                initdb.args(["--auth=scram-sha-256", "--pwfile"]).arg(file)
            }
        };
        initdb.arg("--pgdata").arg(guard.folder().join("data"));
        succeeds(initdb);
        let server = Self {
            guard,
            port,
            databases: AtomicU32::new(0),
        };
        server.run();
        server
    }

    /// Starts it and waits until it takes connections. A server that was killed may leave workers that hold its
    /// memory for a moment, and the next one refuses to start beside them; then this tries again.
    fn run(&self) {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline {
            let pid = self.guard.start().to_string();
            becomes_true(START_WITHIN, || {
                !self.guard.is_running() || self.is_ready(&pid)
            });
            if self.guard.is_running() {
                return;
            }
        }
        panic!(
            "PostgreSQL did not start within {START_WITHIN:?}\n{}",
            self.guard.log_tail()
        );
    }

    /// As `pg_ctl` asks: the first line of postmaster.pid names the process, the last one its state.
    fn is_ready(&self, pid: &str) -> bool {
        let file =
            fs::read_to_string(self.guard.folder().join("data/postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines().map(str::trim);
        lines.next() == Some(pid) && lines.next_back() == Some("ready")
    }
}

/// The folder of the newest installed release's programs.
fn binaries() -> PathBuf {
    let releases = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let numbered = releases.filter_map(|entry| {
        Some((
            entry.file_name().to_str()?.parse::<u32>().ok()?,
            entry.path(),
        ))
    });
    let installed = numbered
        .filter(|(_, path)| path.join("bin/initdb").exists() && path.join("bin/psql").exists());
    installed.max().expect(INSTALL).1.join("bin")
}
