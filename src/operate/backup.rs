//! `showcaller backup`: log, vault and ledger while everything serves. It refuses to overwrite, and to put the keys beside
//! what they open.
//!
//! The order makes it consistent. The log is read up to the head it has at the beginning. Whoever stands in it got their
//! data key before their first event was appended, so the vault, copied later in one snapshot, has the key, or the
//! tombstone of an erasure. An erasure is in the ledger before it touches the vault, so the ledger, copied last, names
//! everybody whom the vault has forgotten. The other way round there would be events that nobody can open, and people
//! forgotten whom no ledger names.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use chrono::DateTime;
use command_api::{Clock, SystemClock};
use event_store::EventStore;
use events::Position;
use serde_json::json;
use vault::{ErasureLedger, Vault};

use super::exit::{Exit, refused};
use super::manifest::{FileEntry, LEDGER, LOG, Manifest, VAULT};
use super::ndjson::{Messages, Writer};
use super::out::Out;
use super::progress::Progress;
use super::select::Select;
use crate::config::Settings;
use crate::open;

/// How many entries of the ledger are read at once.
const ENTRIES: u32 = 1_000;

/// Writes a backup into a new folder.
pub async fn back_up(settings: &Settings, to: &Path, keys_to: Option<&Path>) -> Result<Exit> {
    check(settings, to, keys_to)?;
    let log = open::events_to_read(settings).await?;
    let keys = open::keys(settings)?;
    let vault = open::vault(settings, &keys).await?;
    let ledger = open::ledger(settings).await?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(to)
        .with_context(|| format!("the folder {} cannot be made", to.display()))?;
    let mut manifest = Manifest::new(log.identity(), SystemClock.now());
    back_up_log(&*log, to, &mut manifest).await?;
    log.close().await;
    back_up_vault(&vault, to, &mut manifest).await?;
    back_up_ledger(&ledger, to, &mut manifest).await?;
    let mut object = json!(manifest);
    object["folder"] = json!(to);
    let text = format!(
        "{} events up to position {}, {} rows of the vault, {} erasures in {}\ndigest {}",
        manifest.events,
        manifest.head,
        manifest.files[1].lines,
        manifest.erasures,
        to.display(),
        manifest.digest
    );
    manifest.write(to, &keys)?;
    match keys_to {
        Some(file) => {
            copy_keys(&settings.keys, file)?;
            eprintln!(
                "wrote a copy of the keys to {}: keep it apart from the backup",
                file.display()
            );
        }
        None => eprintln!(
            "THE KEYS ARE NOT IN THIS BACKUP, and without them nobody can open what is personal in it: keep a copy of {} in another place",
            settings.keys.display()
        ),
    }
    let mut out = Out::new(settings.output);
    out.record(&object, || text)?;
    out.finish()?;
    Ok(Exit::Done)
}

fn check(settings: &Settings, to: &Path, keys_to: Option<&Path>) -> Result<()> {
    let holds_something =
        |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if to.exists() && (!to.is_dir() || holds_something(to)) {
        return Err(refused(format!(
            "{} is there already: name a new folder, or an empty one",
            to.display()
        )));
    }
    for (name, path) in [
        ("keys file", Some(settings.keys.clone())),
        ("vault", settings.vault.sqlite_path()),
        ("erasure ledger", settings.erasure_ledger.sqlite_path()),
    ] {
        if let Some(path) = path.filter(|path| !path.exists()) {
            return Err(refused(format!("there is no {name} {}", path.display())));
        }
    }
    if let Some(file) = keys_to {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if absolute(file).starts_with(absolute(to)) {
            return Err(refused(
                "the keys do not belong beside what they open: name another place with --keys-to",
            ));
        }
        if file.exists() {
            return Err(refused(format!("{} is there already", file.display())));
        }
    }
    Ok(())
}

async fn back_up_log(log: &dyn EventStore, to: &Path, manifest: &mut Manifest) -> Result<()> {
    let mut file = Writer::create(&to.join(LOG))?;
    let mut messages = Messages::new(log, None);
    let everything = Select::default().at(DateTime::UNIX_EPOCH);
    let mut reader = everything.read(log, Position::ZERO).await?;
    let total = log.gapless().then(|| reader.end().get());
    let mut progress = Progress::new("events", total);
    while let Some(events) = reader.next().await? {
        for event in events {
            manifest.digest = manifest.digest.then(&event.hash);
            manifest.head = event.position;
            manifest.events += 1;
            file.line(&messages.next(event).to_json()?)?;
        }
        progress.at(manifest.events);
    }
    progress.finish();
    enter(manifest, LOG, file)
}

async fn back_up_vault(vault: &Vault, to: &Path, manifest: &mut Manifest) -> Result<()> {
    let mut file = Writer::create(&to.join(VAULT))?;
    let write = |row: serde_json::Value| -> Result<()> { file.line(&serde_json::to_vec(&row)?) };
    vault.copy_out(write).await?;
    enter(manifest, VAULT, file)
}

async fn back_up_ledger(ledger: &ErasureLedger, to: &Path, manifest: &mut Manifest) -> Result<()> {
    let mut file = Writer::create(&to.join(LEDGER))?;
    loop {
        let entries = ledger.entries(manifest.erasures, ENTRIES).await?;
        let Some(last) = entries.last() else { break };
        manifest.erasures = last.seq;
        for entry in &entries {
            let line = json!({"seq": entry.seq, "account": entry.account, "recorded_at": entry.recorded_at});
            file.line(&serde_json::to_vec(&line)?)?;
        }
    }
    enter(manifest, LEDGER, file)
}

fn enter(manifest: &mut Manifest, name: &str, file: Writer<std::fs::File>) -> Result<()> {
    manifest.files.push(FileEntry {
        name: name.into(),
        lines: file.lines,
        bytes: file.bytes,
        sha256: file.finish()?,
    });
    Ok(())
}

fn copy_keys(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("the keys cannot be copied to {}", to.display());
    let bytes = zeroize::Zeroizing::new(std::fs::read(from).with_context(failed)?);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(failed)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    Ok(())
}
