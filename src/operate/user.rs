//! Who runs an operator's verb: what the kernel says. It refuses to ask the environment, where anybody writes any name.

use std::fmt;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};

/// What the kernel writes where nobody logged in.
const NO_LOGIN: u32 = u32::MAX;

/// Who runs this process.
pub struct User {
    /// The name, or `uid` and the number where it has none.
    pub name: String,
    pub uid: u32,
    /// Who logged in, where that is another, as behind `sudo`.
    pub login_uid: Option<u32>,
    login: Option<String>,
}

impl User {
    /// Asks the system.
    pub fn current() -> Result<Self> {
        let uid = std::fs::metadata("/proc/self")
            .context("the system does not say who runs this (/proc is missing)")?
            .uid();
        let login_uid = std::fs::read_to_string("/proc/self/loginuid")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .filter(|login| *login != NO_LOGIN && *login != uid);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = |uid: u32| {
            passwd
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(uid)))
                .and_then(|fields| fields.first().map(|&name| name.to_owned()))
                .unwrap_or_else(|| format!("uid {uid}"))
        };
        Ok(Self {
            name: name(uid),
            uid,
            login_uid,
            login: login_uid.map(name),
        })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.login {
            Some(login) => write!(f, ", logged in as {login}"),
            None => Ok(()),
        }
    }
}
