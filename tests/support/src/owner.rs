//! The account that a server runs under: those that refuse to run as root are handed to another one.
//!
//! Refuses: to make accounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::wait::succeeds;

/// An account for a server: `None` is whoever runs the tests.
pub(crate) struct Owner(Option<(u32, u32)>);

impl Owner {
    /// As root, this account or else `nobody`.
    pub(crate) fn find(name: &str) -> Self {
        if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            return Self(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
        let account = |name: &str| {
            let mut fields = accounts
                .lines()
                .map(|line| line.split(':'))
                .find(|line| line.clone().next() == Some(name))?;
            Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let found = account(name).or_else(|| account("nobody"));
        Self(Some(found.unwrap_or_else(|| {
            panic!("as root, the server needs an account {name} or nobody to run under")
        })))
    }

    /// Hands the folder to the account, and lets nobody else in.
    pub(crate) fn take(&self, folder: &Path) {
        if let Some((user, group)) = self.0 {
            chown(folder, Some(user), Some(group)).expect("root may hand a folder over");
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("the folder is ours");
    }

    /// Hands the folder with everything in it to the account.
    pub(crate) fn take_all(&self, folder: &Path) {
        if let Some((user, group)) = self.0 {
            let mut command = Command::new("chown");
            command.args(["-R", &format!("{user}:{group}")]).arg(folder);
            succeeds(command);
        }
    }

    /// The program, run by the account in the folder.
    pub(crate) fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = match self.0 {
            None => Command::new(program),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={user}"), format!("--regid={group}")])
                    .arg("--clear-groups");
                command.arg(program);
                command
            }
        };
        command.current_dir(folder).env("LC_ALL", "C.UTF-8");
        command
    }
}
