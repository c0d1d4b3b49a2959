//! Temporary folders, and looking for bytes in the files under one.
//!
//! Refuses: to leave a folder behind, even when the test process is killed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::guard::Guard;

/// A folder of one test's own; it goes with the handle, or with the test process.
#[derive(Debug)]
pub struct TempDir(Guard);

impl TempDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.folder()
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

/// A new, empty folder.
pub fn temp_dir() -> TempDir {
    TempDir(Guard::new("folder", "KILL", |_| {
        std::process::Command::new("true")
    }))
}

/// The files under `folder` that hold `needle`, byte for byte; for proving that personal data was written nowhere.
pub fn files_containing(folder: impl AsRef<Path>, needle: impl AsRef<[u8]>) -> Vec<PathBuf> {
    let (needle, mut found, mut left) = (
        needle.as_ref(),
        Vec::new(),
        vec![folder.as_ref().to_owned()],
    );
    assert!(!needle.is_empty(), "an empty needle is in every file");
    while let Some(path) = left.pop() {
        // A running server removes files of its own while this looks.
        let Ok(kind) = fs::symlink_metadata(&path).map(|found| found.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        } else if kind.is_file() && fs::read(&path).is_ok_and(|bytes| holds(&bytes, needle)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}
