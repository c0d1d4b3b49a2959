//! The folder adapter: each mail is one `.eml` file, for development and tests.
//!
//! Refuses: to show half a file (it is written aside and renamed), and to let others read one.

use std::fmt;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::letter::Mail;
use crate::{Error, SendError};

/// Mails of this process, so that two of one instant have two names.
static SENT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn open(path: &str) -> Result<Self, Error> {
        if path.is_empty() {
            return Err(Error::Invalid(
                "the mailer folder: names no folder: write folder:PATH".into(),
            ));
        }
        let path = PathBuf::from(path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                Error::Invalid(format!(
                    "the folder for mails {} can't be made: {error}",
                    path.display()
                ))
            })?;
        Ok(Self { path })
    }

    pub(crate) async fn send(
        &self,
        mail: Mail,
        id: Uuid,
        now: DateTime<Utc>,
    ) -> Result<(), SendError> {
        // The time first, so that names sort by it; the count and the process make them unique on this machine, and the
        // mail's id does for machines that share a folder.
        let name = format!(
            "{}-{:06}-{}-{id}",
            now.format("%Y%m%dT%H%M%S%.6fZ"),
            SENT.fetch_add(1, Ordering::Relaxed),
            std::process::id(),
        );
        let (folder, finished) = (self.path.clone(), self.path.join(format!("{name}.eml")));
        tokio::task::spawn_blocking(move || write(&folder, &finished, &mail.bytes))
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the writer stopped")))
            .map_err(|error| {
                SendError::Unavailable(format!("the folder can't be written: {error}"))
            })
    }
}

/// Writes a file that its owner alone can read, whole or not at all.
fn write(folder: &Path, finished: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = tempfile::Builder::new()
        .prefix(".")
        .suffix(".tmp")
        .tempfile_in(folder)?;
    aside.write_all(bytes)?;
    aside.as_file().sync_all()?;
    aside.persist(finished)?;
    Ok(())
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folder:{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use chrono::TimeDelta;

    use crate::{Letter, SendError, open};

    use super::*;

    fn letter(text: &str) -> Letter {
        Letter {
            to: "ada@example.org".into(),
            subject: "Hello".into(),
            text: text.into(),
        }
    }

    fn files(path: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort_unstable();
        files
    }

    #[tokio::test]
    async fn each_mail_is_a_file_of_its_own_for_the_owner_alone_and_names_sort_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/by/open");
        let mailer = open(
            &format!("folder:{}", path.display()),
            "no-reply@example.org",
        )
        .unwrap();
        let id = Uuid::from_u128(7);
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        // Out of order, and two of one instant and one id.
        for (text, later) in [("third", 2), ("first", 0), ("second", 1), ("fourth", 2)] {
            let at = now + TimeDelta::microseconds(later);
            mailer.send(&letter(text), id, at).await.unwrap();
        }
        let files = files(&path);
        let texts: Vec<_> = files
            .iter()
            .map(|file| {
                assert_eq!(file.extension().unwrap(), "eml");
                assert_eq!(
                    fs::metadata(file).unwrap().permissions().mode() & 0o777,
                    0o600
                );
                let mail = fs::read_to_string(file).unwrap();
                mail.split_once("\r\n\r\n").unwrap().1.trim_end().to_owned()
            })
            .collect();
        assert_eq!(texts, ["first", "second", "third", "fourth"]);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_is_a_fault_that_may_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mails");
        let mailer = open(
            &format!("folder:{}", path.display()),
            "no-reply@example.org",
        )
        .unwrap();
        fs::remove_dir(&path).unwrap();
        let sent = mailer
            .send(&letter("One"), Uuid::from_u128(7), DateTime::UNIX_EPOCH)
            .await;
        assert!(matches!(sent, Err(SendError::Unavailable(_))), "{sent:?}");
    }

    #[tokio::test]
    async fn a_mail_that_can_not_be_renamed_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let target = Folder { path: path.clone() };
        // A folder of the finished name stands in the way, whatever the count is by now.
        let now = DateTime::UNIX_EPOCH;
        let count = SENT.load(Ordering::Relaxed);
        for n in count..count + 100 {
            let name = format!(
                "19700101T000000.000000Z-{n:06}-{}-{}.eml",
                std::process::id(),
                Uuid::nil()
            );
            fs::create_dir(path.join(name)).unwrap();
        }
        let mail = letter("One")
            .compose(
                &crate::letter::Sender::parse("a@example.org").unwrap(),
                Uuid::nil(),
                now,
            )
            .unwrap();
        assert!(target.send(mail, Uuid::nil(), now).await.is_err());
        assert!(files(&path).iter().all(|file| file.is_dir()));
    }
}
