//! The real `showcaller` binary as a process: started, waited for, killed, paused and restarted like any server.
//!
//! Refuses: to look for the binary (tests of the root package know it: `env!("CARGO_BIN_EXE_showcaller")`), and to pass
//! settings of the surrounding environment on.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::guard::Guard;
use crate::http;
use crate::ports::free_port;
use crate::wait::{becomes_true, blocking};

const READY_WITHIN: Duration = Duration::from_mins(1);
const VERB_WITHIN: Duration = Duration::from_mins(5);
const STOP_WITHIN: Duration = Duration::from_mins(1);
const PREFIX: &str = "SHOWCALLER_";

/// How to start a process; see [`Showcaller::launch`].
#[derive(Clone, Debug)]
pub struct Launch {
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    folder: Option<PathBuf>,
    port: Option<u16>,
    within: Option<Duration>,
}

/// A running server. Clones are the same process; it goes with the last one.
#[derive(Clone, Debug)]
pub struct Showcaller(Arc<Process>);

#[derive(Debug)]
struct Process {
    guard: Guard,
    port: u16,
    within: Duration,
}

/// A verb that has run to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status; 128 and the signal's number when a signal ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it printed for the operator.
    pub stderr: String,
}

impl Showcaller {
    /// A process of `binary`, not started yet. Without arguments it serves every role.
    pub fn launch(binary: impl Into<PathBuf>) -> Launch {
        Launch {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            folder: None,
            port: None,
            within: None,
        }
    }

    /// Starts a server with these arguments and `--listen`, in a folder of its own, and waits until it is ready.
    pub async fn start<A: AsRef<OsStr>>(binary: impl Into<PathBuf>, arguments: &[A]) -> Self {
        Self::launch(binary).args(arguments).start().await
    }

    /// Where it listens: `http://127.0.0.1:port`, also after a restart.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The folder of what it prints, and its working folder unless [`Launch::folder`] named another.
    pub fn folder(&self) -> &Path {
        self.0.guard.folder()
    }

    /// Whether the process is there.
    pub fn is_running(&self) -> bool {
        self.0.guard.is_running()
    }

    /// The process's id, if it is there.
    pub fn pid(&self) -> Option<u32> {
        self.0.guard.pid()
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub async fn kill(&self) {
        self.run(|process| _ = process.guard.stop("KILL", STOP_WITHIN))
            .await;
    }

    /// Asks it to stop (SIGTERM), waits, and gives its exit status: 0 for an orderly end.
    ///
    /// # Panics
    /// When it was not running, or still runs after a minute.
    pub async fn terminate(&self) -> i32 {
        self.run(|process| process.guard.stop("TERM", STOP_WITHIN))
            .await
            .expect("it was running")
    }

    /// Waits until it ends by itself, and gives its exit status.
    pub async fn ended(&self, within: Duration) -> i32 {
        let status = self.run(move |process| process.guard.ended(within)).await;
        status.unwrap_or_else(|| {
            panic!(
                "it still runs after {within:?}\n{}",
                self.0.guard.log_tail()
            )
        })
    }

    /// Stops it in its tracks (SIGSTOP), as a long pause of the machine would.
    pub fn pause(&self) {
        self.0.guard.signal("STOP");
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.0.guard.signal("CONT");
    }

    /// Starts it again with the same arguments, port and folder, and waits until it is ready; kills it first if it runs.
    pub async fn restart(&self) {
        self.run(|process| {
            process.guard.stop("KILL", STOP_WITHIN);
            process.guard.start();
            process.wait_until_ready();
        })
        .await;
    }

    /// All that it has printed, restarts included: standard output, then standard error.
    pub fn logs(&self) -> String {
        self.stdout() + &self.stderr()
    }

    /// All that it has printed to standard output.
    pub fn stdout(&self) -> String {
        self.0.guard.stdout()
    }

    /// All that it has printed to standard error.
    pub fn stderr(&self) -> String {
        self.0.guard.stderr()
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Process) -> T + Send + 'static) -> T {
        let process = Arc::clone(&self.0);
        blocking(move || work(&process)).await
    }
}

impl Launch {
    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, variable: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.environment.push((variable.into(), value.into()));
        self
    }

    /// The working folder, which stays when the process goes. Without one, it gets its own.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The port for `--listen`. Without one, a free one is taken.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// How long it may take to become ready (else a minute), or a verb to end (else five).
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Starts a server and waits until `GET /health/ready` answers 200.
    ///
    /// # Panics
    /// With the last lines that it printed, when it ends first or is not ready in time.
    pub async fn start(self) -> Showcaller {
        let server = self.spawn().await;
        server.run(Process::wait_until_ready).await;
        server
    }

    /// Starts a server and does not wait: for one that is meant not to become ready.
    pub async fn spawn(mut self) -> Showcaller {
        blocking(move || {
            let port = self.port.unwrap_or_else(free_port);
            self.arguments
                .extend(["--listen".into(), format!("127.0.0.1:{port}").into()]);
            let guard = self.guard();
            guard.start();
            Showcaller(Arc::new(Process {
                guard,
                port,
                within: self.within.unwrap_or(READY_WITHIN),
            }))
        })
        .await
    }

    /// Runs a verb (`verify`, `streams show`, …) to its end.
    ///
    /// # Panics
    /// When it has not ended in time.
    pub async fn finish(self) -> Finished {
        blocking(move || {
            let guard = self.guard();
            guard.start();
            let within = self.within.unwrap_or(VERB_WITHIN);
            let Some(status) = guard.ended(within) else {
                panic!(
                    "{:?} has not ended within {within:?}\n{}",
                    self.arguments,
                    guard.log_tail()
                )
            };
            Finished {
                status,
                stdout: guard.stdout(),
                stderr: guard.stderr(),
            }
        })
        .await
    }

    fn guard(&self) -> Guard {
        Guard::new("showcaller", "KILL", |folder| {
            let mut command = without_settings(Command::new(&self.binary));
            command
                .args(&self.arguments)
                .envs(self.environment.iter().map(|(name, value)| (name, value)));
            command.current_dir(self.folder.as_deref().unwrap_or(folder));
            command
        })
    }
}

/// Takes the settings of the surrounding environment away.
pub(crate) fn without_settings(mut command: Command) -> Command {
    for (variable, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(PREFIX))
    {
        command.env_remove(variable);
    }
    command
}

impl Process {
    fn wait_until_ready(&self) {
        let ready = || http::status(self.port, "/health/ready").is_ok_and(|status| status == 200);
        let answered = becomes_true(self.within, || !self.guard.is_running() || ready());
        let tail = || self.guard.log_tail();
        assert!(
            self.guard.is_running(),
            "it ended before it was ready\n{}",
            tail()
        );
        assert!(
            answered,
            "it was not ready within {:?}\n{}",
            self.within,
            tail()
        );
    }
}
