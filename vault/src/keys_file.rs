//! The keys file: JSON, readable by its owner alone.
//!
//! Refuses: to overwrite a file, to read one that others may read, and to repeat any of its text in an error.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::Error;
use crate::random::{random_bytes, random_uuid};

/// The form that this program writes, and the newest it reads.
const FORMAT: u32 = 1;
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
    pub(crate) keys: BTreeMap<String, Secret>,
}

impl Ring {
    fn generate() -> Self {
        let id = random_uuid().simple().to_string()[..12].to_owned();
        Self {
            keys: BTreeMap::from([(id.clone(), Secret::generate())]),
            current: id,
        }
    }
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
            format: FORMAT,
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

pub(crate) fn load(path: &Path) -> Result<KeysFile, Error> {
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
            "{shown} is not a keys file of format {FORMAT}: see line {line}, column {column}"
        ))
    };
    let format = serde_json::from_str::<FormatOnly>(&text)
        .map_err(|error| malformed(&error))?
        .format;
    if format != FORMAT {
        return Err(Error::Invalid(format!(
            "the keys file {shown} has format {format}, this program reads format {FORMAT}: \
             use a showcaller that reads keys format {format}"
        )));
    }
    serde_json::from_str(&text).map_err(|error| malformed(&error))
}

pub(crate) fn create(path: &Path, keys: &KeysFile) -> Result<(), Error> {
    let shown = path.display();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => Error::Invalid(format!(
            "{shown} is there already, and keys are never overwritten: what they encrypted would be lost"
        )),
        _ => Error::Invalid(format!("the keys file {shown} can't be written: {error}")),
    };
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    serde_json::to_writer_pretty(&mut *text, keys).expect("keys are JSON");
    text.push(b'\n');

    fs::create_dir_all(folder).map_err(failed)?;
    // Written whole under another name, then linked: the link refuses an existing file, and nobody sees half a file.
    let draft = folder.join(format!(".keys-{}", random_uuid().simple()));
    let written = write_durably(&draft, &text).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    written.map_err(failed)?;
    removed.map_err(failed)?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
