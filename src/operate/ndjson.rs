//! Events as lines: CloudEvents 1.0 in structured JSON, one a line, as the relay sends them. Files are written whole and
//! reach the disk before anybody hears of them.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use event_store::EventStore;
use events::{LogIdentity, Message, Position, RecordedEvent, partition_of};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The longest line that is read: an event may have 4 MiB, and JSON may need several characters for a byte of metadata.
const LINE: u64 = 64 << 20;

/// Makes messages of events in the order of the log. `previous` chains what was selected: it passes over what was not.
pub struct Messages {
    log: LogIdentity,
    replay: Option<Uuid>,
    previous: Vec<Position>,
}

impl Messages {
    /// Of this log; of a replay of it, if that is what they are for.
    pub fn new(store: &dyn EventStore, replay: Option<Uuid>) -> Self {
        let log = store.identity();
        Self {
            log,
            replay,
            previous: vec![Position::ZERO; usize::from(log.partitions)],
        }
    }

    /// The next one.
    pub fn next(&mut self, event: RecordedEvent) -> Message {
        let partition = partition_of(&event.stream, self.log.partitions);
        let previous = &mut self.previous[usize::from(partition.0)];
        Message {
            log: self.log.log,
            epoch: self.log.epoch,
            partition,
            previous: std::mem::replace(previous, event.position),
            event,
            replay: self.replay,
        }
    }
}

/// A file of a backup while it is written: counted and hashed.
pub struct Writer<W: Write> {
    out: BufWriter<W>,
    hash: Sha256,
    /// How many lines.
    pub lines: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Writer<File> {
    /// A new file, for its owner's eyes; one that is there is never overwritten.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self::new(file))
    }

    /// Everything is on disk; gives the SHA-256 of it, in hex.
    pub fn finish(self) -> Result<String> {
        let file = self
            .out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(hex(&self.hash.finalize()))
    }
}

impl<W: Write> Writer<W> {
    /// Writes to this.
    pub fn new(out: W) -> Self {
        Self {
            out: BufWriter::new(out),
            hash: Sha256::new(),
            lines: 0,
            bytes: 0,
        }
    }

    /// One line.
    pub fn line(&mut self, json: &[u8]) -> Result<()> {
        self.out.write_all(json)?;
        self.out.write_all(b"\n")?;
        self.hash.update(json);
        self.hash.update(b"\n");
        self.lines += 1;
        self.bytes += json.len() as u64 + 1;
        Ok(())
    }

    /// What was written is handed on.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// The lines of a file; `-` is standard input.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Vec<u8>>> + use<>> {
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("{} cannot be read", path.display()))?)
    };
    let mut reader = BufReader::new(reader);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                if line.ends_with(b"\n") {
                    line.pop();
                }
                Some(Ok(line))
            }
            Err(error) => Some(Err(error.into())),
        }
    }))
}

/// The events of a file, each with what it was sent as.
pub fn messages(path: &Path) -> Result<impl Iterator<Item = Result<Message>> + use<>> {
    let shown = path.display().to_string();
    Ok((1..).zip(lines(path)?).map(move |(number, line)| {
        Message::from_json(&line?).with_context(|| format!("line {number} of {shown}"))
    }))
}

/// The SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file =
        File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
