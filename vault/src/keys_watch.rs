//! When to look at the keys file again, and whether it is another file than before. Whoever uses keys looks, at most once a
//! second: so no task is needed, and a process that uses none looks at nothing.
//!
//! Refuses: to look more often, whatever strangers send.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the file is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What tells one state of a file from another. A mounted secret is switched by a symlink, so its inode changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Stamp {
    /// Of the file at a path; `None` if it cannot be seen.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::from)
    }
}

/// A keys file that is looked at again and again.
pub(crate) struct Watch {
    pub(crate) path: PathBuf,
    began: Instant,
    /// When the next look is due, in milliseconds after `began`.
    due_ms: AtomicU64,
    seen: Mutex<Seen>,
}

/// What was seen of the file. Held while somebody looks.
pub(crate) struct Seen {
    /// The state whose keys are in use.
    pub(crate) loaded: Stamp,
    /// Why a changed file cannot be used, as it was told.
    pub(crate) complaint: Option<String>,
    urged: Option<Instant>,
}

impl Watch {
    pub(crate) fn new(path: &Path, loaded: Stamp) -> Self {
        Self {
            path: path.to_owned(),
            began: Instant::now(),
            due_ms: AtomicU64::new(EVERY.as_millis() as u64),
            seen: Mutex::new(Seen {
                loaded,
                complaint: None,
                urged: None,
            }),
        }
    }

    /// Once a second, to one caller, the right to look.
    pub(crate) fn due(&self) -> Option<MutexGuard<'_, Seen>> {
        let now = self.began.elapsed().as_millis() as u64;
        let due = self.due_ms.load(Ordering::Relaxed);
        let next = now + EVERY.as_millis() as u64;
        let mine = now >= due
            && (self.due_ms)
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        mine.then(|| self.lock())
    }

    /// The right to look before it is due, also at most once a second. Everybody else waits for the one who looks.
    pub(crate) fn urged(&self) -> Option<MutexGuard<'_, Seen>> {
        let mut seen = self.lock();
        let now = Instant::now();
        if seen.urged.is_some_and(|at| now - at < EVERY) {
            return None;
        }
        seen.urged = Some(now);
        Some(seen)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
