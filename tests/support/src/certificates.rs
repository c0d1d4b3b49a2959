//! A private authority and the certificates that it issues, made for one test process.
//!
//! Refuses: to issue for anything but loopback.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::folder::{TempDir, temp_dir};
use crate::wait::succeeds;

static SHARED: OnceLock<Authority> = OnceLock::new();

/// Whoever trusts its root trusts what it issued.
#[derive(Debug)]
pub struct Authority(TempDir);

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The chain.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// The one whose certificates this test process's servers show.
    pub fn shared() -> &'static Self {
        SHARED.get_or_init(Self::new)
    }

    /// Another one, which nobody trusts.
    pub fn new() -> Self {
        let authority = Self(temp_dir());
        let root = Certificate {
            chain: authority.root(),
            key: authority.file("root.key"),
        };
        make(&root, "test authority", |command| {
            command.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        });
        authority
    }

    /// Its own certificate, as a PEM file: what clients are told to trust.
    pub fn root(&self) -> PathBuf {
        self.file("root.pem")
    }

    /// A certificate for `localhost` and 127.0.0.1, by a name of its own.
    pub fn issue(&self, name: &str) -> Certificate {
        let issued = Certificate {
            chain: self.file(&format!("{name}.pem")),
            key: self.file(&format!("{name}.key")),
        };
        make(&issued, name, |command| {
            let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
            command
                .args(["-addext", names, "-addext", "basicConstraints=CA:FALSE"])
                .arg("-CA")
                .arg(self.root())
                .arg("-CAkey")
                .arg(self.file("root.key"))
        });
        issued
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn make(certificate: &Certificate, name: &str, with: impl FnOnce(&mut Command) -> &mut Command) {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-noenc", "-days", "30"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    command.args(["-subj", &format!("/CN={name}")]);
    command.args(["-keyout", &path(&certificate.key)]);
    command.args(["-out", &path(&certificate.chain)]);
    with(&mut command);
    succeeds(command);
}
