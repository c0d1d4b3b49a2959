//! A private MongoDB-compatible server with transactions (`secantusdb` from PyPI: MongoDB itself is in no registry of
//! packages); or, where `SHOWCALLER_TEST_MONGODB` names one, a real replica set.
//!
//! Refuses: to run without a server, and to share a database between tests.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::guard::Guard;
use crate::ports::free_port;
use crate::wait::{becomes_true, blocking};

/// `mongodb://HOST:PORT/?replicaSet=…`: the tests then run against that one.
const REAL: &str = "SHOWCALLER_TEST_MONGODB";
const INSTALL: &str = "the MongoDB-compatible server is not installed, and the tests need it: run ./test, or tests/clients/secantusdb/install";
const START_WITHIN: Duration = Duration::from_mins(2);
const STOP_WITHIN: Duration = Duration::from_mins(1);

static SHARED: OnceLock<MongoDb> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(1);

/// A running server. Clones are the same server; it goes with the last one.
#[derive(Clone, Debug)]
pub struct MongoDb(Arc<Server>);

#[derive(Debug)]
enum Server {
    /// The URL of somebody else's.
    Real(String),
    Private {
        guard: Guard,
        port: u16,
    },
}

impl MongoDb {
    /// The one server of this test process, started by the first test that asks. Nobody stops or restarts it.
    pub async fn shared() -> &'static Self {
        blocking(|| {
            SHARED.get_or_init(|| {
                Self(Arc::new(match std::env::var(REAL) {
                    Ok(url) => Server::Real(url),
                    Err(_) => Server::start(false),
                }))
            })
        })
        .await
    }

    /// A server of one's own, to stop, kill and restart; never the real one.
    pub async fn start() -> Self {
        blocking(|| Self(Arc::new(Server::start(false)))).await
    }

    /// A server that is no replica set, so that it has no transactions.
    pub async fn standalone() -> Self {
        blocking(|| Self(Arc::new(Server::start(true)))).await
    }

    /// The URL of a new, empty database.
    pub fn fresh_database(&self) -> String {
        let number = DATABASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        match &*self.0 {
            Server::Private { port, .. } => format!("mongodb://127.0.0.1:{port}/{name}"),
            Server::Real(url) => {
                let (hosts, options) = url
                    .split_once("/?")
                    .unwrap_or((url.trim_end_matches('/'), ""));
                format!("{hosts}/{name}?{options}")
            }
        }
    }

    /// Kills it with SIGKILL, as a power cut would.
    pub async fn kill(&self) {
        self.run(|guard, _| _ = guard.stop("KILL", STOP_WITHIN))
            .await;
    }

    /// Starts it again on the same port and data; kills it first if it runs.
    pub async fn restart(&self) {
        self.run(|guard, port| {
            guard.stop("KILL", STOP_WITHIN);
            run(guard, port);
        })
        .await;
    }

    async fn run(&self, work: impl FnOnce(&Guard, u16) + Send + 'static) {
        let server = Arc::clone(&self.0);
        blocking(move || match &*server {
            Server::Private { guard, port } => work(guard, *port),
            Server::Real(_) => panic!("nobody stops somebody else's server"),
        })
        .await;
    }
}

impl Server {
    fn start(standalone: bool) -> Self {
        let port = free_port();
        let guard = Guard::new("mongodb", "KILL", |folder| {
            let mut command = Command::new(program());
            command
                .args(["--host", "127.0.0.1", "--port", &port.to_string()])
                .args(["--cache-size", "128M", "--log-level", "WARNING"])
                .arg("--storage-path")
                .arg(folder.join("data"));
            if standalone {
                command.arg("--standalone");
            }
            command
        });
        run(&guard, port);
        Self::Private { guard, port }
    }
}

/// Starts it and waits until it takes connections.
fn run(guard: &Guard, port: u16) {
    let deadline = Instant::now() + START_WITHIN;
    while Instant::now() < deadline {
        guard.start();
        becomes_true(START_WITHIN, || {
            !guard.is_running() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        if guard.is_running() {
            return;
        }
    }
    panic!(
        "the MongoDB-compatible server did not start within {START_WITHIN:?}\n{}",
        guard.log_tail()
    );
}

fn program() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/clients/secantusdb/venv/bin/secantusd-py");
    assert!(installed.exists(), "{INSTALL}");
    installed
}
