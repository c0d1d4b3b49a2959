//! A backup's manifest: what is in it, how it can be told to be whole, and a signature under the keys file. It refuses what
//! it does not know.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use event_store::{EventStore, Filter};
use events::{Digest, LogIdentity, Position};
use serde::{Deserialize, Serialize};
use vault::Keys;

use super::exit::refused;
use super::ndjson;

/// The manifest's name in a backup's folder.
pub const NAME: &str = "manifest.json";
/// The events.
pub const LOG: &str = "log.ndjson";
/// The vault's rows.
pub const VAULT: &str = "vault.ndjson";
/// The erasures.
pub const LEDGER: &str = "erasure-ledger.ndjson";

const FORMAT: u32 = 1;
/// Events read at once.
const PAGE: usize = 5_000;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the backup.
    pub format: u32,
    /// Which release made it.
    pub made_by: String,
    /// When it was begun.
    pub made_at: DateTime<Utc>,
    /// Which log it is of.
    pub log: LogIdentity,
    /// The position of the last event in it.
    pub head: Position,
    /// How many events.
    pub events: u64,
    /// The running digest of all of them, in the order of the log. It says nothing of positions, so it holds wherever they
    /// are brought.
    pub digest: Digest,
    /// The number of the last erasure in it.
    pub erasures: i64,
    /// The files.
    pub files: Vec<FileEntry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name in the folder.
    pub name: String,
    /// How many lines.
    pub lines: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The SHA-256 of the whole, in hex.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Signed {
    manifest: Manifest,
    /// HMAC-SHA256 over the manifest's JSON without spaces, base64url.
    signature: String,
}

impl Manifest {
    /// One of this form.
    pub fn new(log: LogIdentity, made_at: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT,
            made_by: env!("CARGO_PKG_VERSION").into(),
            made_at,
            log,
            head: Position::ZERO,
            events: 0,
            digest: Digest::ZERO,
            erasures: 0,
            files: vec![],
        }
    }

    /// Writes it, signed. The last file of a backup: without it there is none.
    pub fn write(self, folder: &Path, keys: &Keys) -> Result<()> {
        let signature = URL_SAFE_NO_PAD.encode(keys.manifest_mac(&serde_json::to_vec(&self)?));
        let signed = Signed {
            manifest: self,
            signature,
        };
        let mut file = ndjson::Writer::create(&folder.join(NAME))?;
        file.line(&serde_json::to_vec_pretty(&signed)?)?;
        file.finish()?;
        std::fs::File::open(folder)?.sync_all()?;
        Ok(())
    }

    /// Reads it, and checks who signed it where there are keys. `at` is its file or its folder.
    pub fn read(at: &Path, keys: Option<&Keys>) -> Result<(Self, PathBuf)> {
        let file = if at.is_dir() {
            at.join(NAME)
        } else {
            at.to_owned()
        };
        let text = std::fs::read(&file).with_context(|| {
            format!(
                "{} cannot be read: without its manifest a backup is not whole",
                file.display()
            )
        })?;
        let format: serde_json::Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no manifest", file.display()))?;
        let format = &format["manifest"]["format"];
        if *format != FORMAT {
            bail!("the backup has format {format}, this program knows format {FORMAT}");
        }
        let signed: Signed = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no manifest", file.display()))?;
        let Signed {
            manifest,
            signature,
        } = signed;
        if let Some(keys) = keys {
            let tag = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
            if !keys.verify_manifest_mac(&serde_json::to_vec(&manifest)?, &tag) {
                return Err(refused(format!(
                    "{} was not signed with these keys, or was changed since: name the keys file of that day with --keys",
                    file.display()
                )));
            }
        }
        let folder = file.parent().map_or_else(PathBuf::new, Path::to_owned);
        Ok((manifest, folder))
    }

    /// Checks that every file is what it was.
    pub fn check_files(&self, folder: &Path) -> Result<()> {
        for name in [LOG, VAULT, LEDGER] {
            let entry = self.files.iter().find(|entry| entry.name == name);
            let entry = entry.with_context(|| format!("the manifest names no {name}"))?;
            if ndjson::sha256(&folder.join(name))? != entry.sha256 {
                bail!("{name} is not what the manifest says: the backup was changed or is damaged");
            }
        }
        Ok(())
    }

    /// Compares a log with the backup: its first events must be those. `None`: they are; else what is wrong.
    pub async fn compare(&self, store: &dyn EventStore) -> Result<Option<String>> {
        let (mut count, mut digest, mut position) = (0, Digest::ZERO, Position::ZERO);
        let mut last = Position::ZERO;
        while count < self.events {
            let page = store.read_all(position, &Filter::default(), PAGE).await?;
            let left = usize::try_from(self.events - count).unwrap_or(usize::MAX);
            for event in page.events.iter().take(left) {
                digest = digest.then(&event.hash);
                last = event.position;
                count += 1;
            }
            if page.through <= position {
                break;
            }
            position = page.through;
        }
        let same_epoch = store.identity().epoch == self.log.epoch;
        Ok(if store.identity().log != self.log.log {
            Some("the log is another one".into())
        } else if count < self.events {
            Some(format!(
                "the log has {count} events, the backup {}",
                self.events
            ))
        } else if digest != self.digest {
            Some(format!(
                "the first {count} events of the log are not those of the backup"
            ))
        } else if same_epoch && last != self.head {
            Some(format!(
                "event {count} stands at position {last}, in the backup at {}",
                self.head
            ))
        } else {
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_manifest_that_was_changed_or_signed_by_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogIdentity {
            log: Uuid::from_u128(1),
            epoch: Uuid::from_u128(2),
            partitions: 8,
        };
        let keys = Keys::generate();
        let manifest = Manifest::new(log, DateTime::UNIX_EPOCH);
        manifest.clone().write(folder.path(), &keys).unwrap();
        let (read, _) = Manifest::read(folder.path(), Some(&keys)).unwrap();
        assert_eq!(read, manifest);
        assert!(Manifest::read(folder.path(), Some(&Keys::generate())).is_err());
        let file = folder.path().join(NAME);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"events\": 0", "\"events\": 1")).unwrap();
        assert!(Manifest::read(&file, Some(&keys)).is_err());
        assert!(
            Manifest::read(&file, None).is_ok(),
            "nobody is there to tell"
        );
    }
}
