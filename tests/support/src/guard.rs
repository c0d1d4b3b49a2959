//! A process under a watchdog: a small `sh` that starts it, signals it, and outlives the test process by one moment.
//!
//! The watchdog takes its orders from a pipe that the test process holds. When the test process ends, however it ends,
//! the kernel closes the pipe; the watchdog then stops its server, deletes the folder, and goes.
//! Refuses: to leave a process or a folder behind, and to know what kind of server it guards.

use std::fmt::{self, Debug};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::wait::becomes_true;

/// Orders, one a line, each answered with one line: `start`, `signal NAME`, `reap`. It leads a process group of its
/// own, so a Ctrl-C at the terminal does not reach it, and whatever a server leaves running goes with the group.
const WATCHDOG: &str = r#"
folder=$1 last=$2 pid=; shift 2
while read -r order signal; do
  case $order in
    start) "$@" </dev/null >>"$folder/stdout" 2>>"$folder/stderr" & pid=$!; echo "$pid" ;;
    signal) kill -s "$signal" "$pid"; echo "$?" ;;
    reap) wait "$pid"; echo "$?"; pid= ;;
  esac
done
[ -z "$pid" ] || { kill -s "$last" "$pid"; kill -s CONT "$pid"; wait "$pid"; }
rm -rf "$folder"
kill -s KILL 0
"#;

const LOG_TAIL_LINES: usize = 40;

/// One guarded process, which may be started and stopped many times, and its folder.
pub(crate) struct Guard {
    folder: PathBuf,
    name: &'static str,
    watchdog: Mutex<Watchdog>,
}

struct Watchdog {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pid: Option<u32>,
}

impl Guard {
    /// Makes the folder and the watchdog; nothing is started yet. `last_signal` is what stops the process when the
    /// handle or the test process goes; `command` is what to start, given the folder.
    pub(crate) fn new(
        name: &'static str,
        last_signal: &str,
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix(&format!("showcaller-test-{name}-"))
            .tempdir();
        let folder = folder.expect("the temporary folder can be written").keep();
        let command = command(&folder);
        let mut watchdog = Command::new("/bin/sh");
        watchdog
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .arg(last_signal);
        watchdog.arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => watchdog.env(variable, value),
                None => watchdog.env_remove(variable),
            };
        }
        watchdog
            .current_dir(command.get_current_dir().unwrap_or(&folder))
            .process_group(0);
        watchdog
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = watchdog.spawn().expect("/bin/sh can be started");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let watchdog = Mutex::new(Watchdog {
            process,
            orders,
            answers,
            pid: None,
        });
        Self {
            folder,
            name,
            watchdog,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the process, and gives its id. One that ended by itself is reaped first.
    pub(crate) fn start(&self) -> u32 {
        let mut watchdog = self.lock();
        if let Some(pid) = watchdog.pid {
            assert!(!runs(pid), "{} is already running", self.name);
            watchdog.reap();
        }
        let pid = watchdog
            .order("start")
            .parse()
            .expect("the watchdog answers with a process id");
        watchdog.pid = Some(pid);
        pid
    }

    /// Sends a signal (`TERM`, `KILL`, `STOP`, …), if the process runs.
    pub(crate) fn signal(&self, name: &str) {
        let mut watchdog = self.lock();
        if watchdog.pid.is_some_and(runs) {
            watchdog.order(&format!("signal {name}"));
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.lock().pid.filter(|pid| runs(*pid))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.lock().pid.is_some_and(runs)
    }

    /// Waits until the process has ended, and gives its exit status as a shell does (128 + the signal's number).
    /// `None` when it still runs after `within`, or was not running at all.
    pub(crate) fn ended(&self, within: Duration) -> Option<i32> {
        let pid = self.lock().pid?;
        if !becomes_true(within, || !runs(pid)) {
            return None;
        }
        Some(self.lock().reap())
    }

    /// Sends a signal and waits for the end; gives the exit status, or `None` if it was not running.
    pub(crate) fn stop(&self, signal: &str, within: Duration) -> Option<i32> {
        self.lock().pid?;
        self.signal(signal);
        let status = self.ended(within);
        assert!(
            status.is_some(),
            "{} still runs {within:?} after SIG{signal}\n{}",
            self.name,
            self.log_tail()
        );
        status
    }

    pub(crate) fn stdout(&self) -> String {
        self.read("stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// The last lines that the process wrote, for a panic's message.
    pub(crate) fn log_tail(&self) -> String {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        let lines: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        format!("--- the last lines of {}:\n{}", self.name, tail.join("\n"))
    }

    fn read(&self, file: &str) -> String {
        let bytes = fs::read(self.folder.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Watchdog> {
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watchdog {
    fn order(&mut self, order: &str) -> String {
        let orders = self
            .orders
            .as_mut()
            .expect("orders are open until the guard is dropped");
        writeln!(orders, "{order}").expect("the watchdog takes orders");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the watchdog answers");
        answer.trim().to_owned()
    }

    fn reap(&mut self) -> i32 {
        if self.pid.take().is_none() {
            return 0;
        }
        self.order("reap")
            .parse()
            .expect("the watchdog answers with a status")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let watchdog = self
            .watchdog
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        drop(watchdog.orders.take());
        let _ = watchdog.process.wait();
    }
}

impl Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.folder.display())
    }
}

/// Whether the process is there and not merely waiting to be reaped by its watchdog.
fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
