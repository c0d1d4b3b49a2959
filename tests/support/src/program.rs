//! Any other program as a process: started, signalled, waited for. It goes with its handle, or with the test process.
//!
//! Refuses: to pass settings of Showcaller from the surrounding environment on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::guard::Guard;
use crate::showcaller::without_settings;
use crate::wait::blocking;

/// A program that may run. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Program(Arc<Guard>);

impl Program {
    /// This program with these arguments and variables, not started yet; it works in the folder, or in one of its own.
    pub fn new<A: AsRef<OsStr>>(
        path: impl Into<PathBuf>,
        arguments: &[A],
        variables: &[(String, String)],
        folder: Option<&Path>,
    ) -> Self {
        let path = path.into();
        Self(Arc::new(Guard::new("program", "KILL", |own| {
            let mut command = without_settings(Command::new(path));
            command
                .args(arguments)
                .envs(variables.iter().map(|(name, value)| (name, value)))
                .current_dir(folder.unwrap_or(own));
            command
        })))
    }

    /// Starts it; it may have run and ended before.
    pub async fn start(&self) {
        self.run(|guard| _ = guard.start()).await;
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub async fn kill(&self) {
        self.run(|guard| _ = guard.stop("KILL", Duration::from_mins(1)))
            .await;
    }

    /// Sends a signal (`TERM`, `INT`, …) and waits for the end; gives its exit status.
    ///
    /// # Panics
    /// When it was not running, or still runs after `within`.
    pub async fn stop(&self, signal: &'static str, within: Duration) -> i32 {
        let status = self.run(move |guard| guard.stop(signal, within)).await;
        status.expect("it was running")
    }

    /// Whether the process is there.
    pub fn is_running(&self) -> bool {
        self.0.is_running()
    }

    /// All that it has printed: standard output, then standard error.
    pub fn logs(&self) -> String {
        self.0.stdout() + &self.0.stderr()
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Guard) -> T + Send + 'static) -> T {
        let guard = Arc::clone(&self.0);
        blocking(move || work(&guard)).await
    }
}
