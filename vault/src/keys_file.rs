//! The keys file: JSON, readable by its owner alone.
//!
//! Refuses: to overwrite a file with other keys, to read one that others may read, and to repeat any of its text in an error.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tempfile::NamedTempFile;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::Error;
use crate::keys_watch::Stamp;
use crate::random::{random_bytes, random_uuid};

/// The newest form that this program reads. A file is written in the oldest form that can say what it says, so that an
/// older program reads it too: 1, or 2 while a ring has a next key, which programs of format 1 refuse as unknown.
const FORMAT: u32 = 2;
const FORMAT_WITHOUT_NEXT: u32 = 1;
/// The longest keys file read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// 32 secret bytes; base64 in the file.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    fn generate() -> Self {
        Self(random_bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(STANDARD.encode(self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let mut secret = Self([0; 32]);
        match STANDARD.decode_slice(text, &mut secret.0) {
            Ok(32) => Ok(secret),
            _ => Err(de::Error::custom("a key is 32 bytes in base64")),
        }
    }
}

/// Several keys of one kind: one makes new things, all read old ones.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ring {
    pub(crate) current: String,
    /// Which key takes the current one's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<Next>,
    pub(crate) keys: BTreeMap<String, Secret>,
}

/// A key that becomes current at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Next {
    pub(crate) id: String,
    pub(crate) from: DateTime<Utc>,
}

impl Ring {
    fn generate() -> Self {
        let mut keys = BTreeMap::new();
        let current = draw(&mut keys);
        Self {
            current,
            next: None,
            keys,
        }
    }

    /// A new key; its id.
    pub(crate) fn draw(&mut self) -> String {
        draw(&mut self.keys)
    }
}

fn draw(keys: &mut BTreeMap<String, Secret>) -> String {
    let id = random_uuid().simple().to_string()[..12].to_owned();
    keys.insert(id.clone(), Secret::generate());
    id
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeysFile {
    format: u32,
    pub(crate) master: Ring,
    pub(crate) claim: Secret,
    pub(crate) command: Secret,
    pub(crate) token: Secret,
    pub(crate) session: Secret,
    pub(crate) signing: Ring,
}

impl KeysFile {
    pub(crate) fn generate() -> Self {
        Self {
            format: FORMAT_WITHOUT_NEXT,
            master: Ring::generate(),
            claim: Secret::generate(),
            command: Secret::generate(),
            token: Secret::generate(),
            session: Secret::generate(),
            signing: Ring::generate(),
        }
    }
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Where container engines mount secrets: with modes of their own, in a place that is the container's alone.
const MOUNTED_SECRETS: &str = "/run/secrets";

fn is_mounted_secret(path: &Path) -> bool {
    path.parent() == Some(Path::new(MOUNTED_SECRETS))
}

/// What a file holds, with the state of the file it was read from.
pub(crate) fn load(path: &Path) -> Result<(KeysFile, Stamp), Error> {
    let shown = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::Invalid(format!(
            "there is no keys file {shown}: make one with `showcaller keys create {shown}`, or name yours with --keys"
        )),
        _ => Error::Invalid(format!("the keys file {shown} can't be read: {error}")),
    };
    let file = File::open(path).map_err(failed)?;
    // The opened file's own mode, so that nothing can be swapped in between the check and the reading.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 && !is_mounted_secret(path) {
        return Err(Error::Invalid(format!(
            "the keys file {shown} may be read or written by others: write `chmod 600 {shown}`"
        )));
    }
    if metadata.len() > LONGEST {
        return Err(Error::Invalid(format!(
            "{shown} is too long to be a keys file"
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(metadata.len() as usize));
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    // Where it is wrong, never what is there: serde_json's own messages quote the text.
    let malformed = |error: &serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        Error::Invalid(format!(
            "{shown} is not a keys file of format {FORMAT} or older: see line {line}, column {column}"
        ))
    };
    let format = serde_json::from_str::<FormatOnly>(&text)
        .map_err(|error| malformed(&error))?
        .format;
    if !(FORMAT_WITHOUT_NEXT..=FORMAT).contains(&format) {
        return Err(Error::Invalid(format!(
            "the keys file {shown} has format {format}, this program reads formats up to {FORMAT}: \
             use a showcaller that reads keys format {format}"
        )));
    }
    let file = serde_json::from_str(&text).map_err(|error| malformed(&error))?;
    Ok((file, Stamp::from(&metadata)))
}

pub(crate) fn create(path: &Path, keys: &KeysFile) -> Result<(), Error> {
    let shown = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Error::Invalid(format!(
            "{shown} is there already, and keys are never overwritten: what they encrypted would be lost"
        )),
        _ => unwritable(path, &error),
    };
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(failed)?;
    // Written whole under another name first: nobody sees half a file.
    let draft = draft(folder, keys).map_err(failed)?;
    draft.persist_noclobber(path).map_err(|e| failed(e.error))?;
    sync(folder).map_err(failed)
}

/// Changes a file in place: those who read it see the old one or the new one, whole. One changes it at a time.
pub(crate) fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut KeysFile) -> Result<T, Error>,
) -> Result<T, Error> {
    let failed = |error: std::io::Error| unwritable(path, &error);
    // Behind a symlink the file itself is changed, and the link stays.
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        // Reading says best what is wrong with a path.
        Err(error) => return Err(load(path).err().unwrap_or_else(|| failed(error))),
    };
    let folder = folder_of(&target);
    // The folder is locked, since the file itself is another one afterwards.
    let lock = File::open(folder).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let (mut file, _) = load(&target)?;
    let outcome = change(&mut file)?;
    file.format = match (&file.master.next, &file.signing.next) {
        (None, None) => FORMAT_WITHOUT_NEXT,
        _ => FORMAT,
    };
    let draft = draft(folder, &file).map_err(failed)?;
    // The same owner and mode: the processes that read it may run as somebody else than who changes it.
    let before = fs::metadata(&target).map_err(failed)?;
    let owned = draft.as_file().metadata().map_err(failed)?;
    if (before.uid(), before.gid()) != (owned.uid(), owned.gid()) {
        chown(draft.path(), Some(before.uid()), Some(before.gid())).map_err(failed)?;
    }
    draft
        .as_file()
        .set_permissions(before.permissions())
        .and_then(|()| draft.as_file().sync_all())
        .map_err(failed)?;
    draft.persist(&target).map_err(|e| failed(e.error))?;
    sync(folder).map_err(failed)?;
    Ok(outcome)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    let shown = path.display();
    Error::Invalid(format!("the keys file {shown} can't be written: {error}"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A file under a name of its own, readable by its owner alone, which goes unless it is given the name it is for.
fn draft(folder: &Path, keys: &KeysFile) -> std::io::Result<NamedTempFile> {
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer_pretty(&mut *text, keys).expect("keys are JSON");
    text.push(b'\n');
    let mut draft = tempfile::Builder::new()
        .prefix(".keys-")
        .tempfile_in(folder)?;
    draft.write_all(&text)?;
    draft.as_file().sync_all()?;
    Ok(draft)
}
