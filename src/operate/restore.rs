//! `showcaller restore`: a backup into empty stores, of whichever kind, with everybody whom the ledger names erased again.
//! It refuses stores that hold anything, a backup that is not what its manifest says, and a ledger that has forgotten
//! erasures; it never overwrites a ledger.

use std::path::Path;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use command_api::{Clock, SystemClock};
use event_store::Options;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;
use vault::{Entry, ErasureLedger};

use super::exit::{Exit, refused};
use super::manifest::{LEDGER, LOG, Manifest, VAULT};
use super::ndjson;
use super::out::Out;
use super::transfer::{bring, tell_of_positions};
use crate::config::Settings;
use crate::open;

/// How many entries of the ledger are read at once.
const ENTRIES: u32 = 1_000;

/// An erasure as a backup holds it.
#[derive(Deserialize, PartialEq, Eq)]
struct Line {
    seq: i64,
    account: Uuid,
    recorded_at: DateTime<Utc>,
}

/// Restores; a dry run only checks the backup and says what it would do.
pub async fn restore(settings: &Settings, from: &Path, dry_run: bool) -> Result<Exit> {
    if !settings.keys.exists() {
        return Err(refused(format!(
            "there is no keys file {}: put the copy back that belongs to the backup, or name it with --keys",
            settings.keys.display()
        )));
    }
    let keys = open::keys(settings)?;
    let (manifest, folder) = Manifest::read(from, Some(&keys))?;
    manifest.check_files(&folder)?;
    eprintln!(
        "the backup of {} is whole: {} events up to position {}, {} erasures",
        manifest.made_at.format("%Y-%m-%d %H:%M:%S UTC"),
        manifest.events,
        manifest.head,
        manifest.erasures
    );
    if dry_run {
        eprintln!("nothing was restored: this is a dry run");
        return Ok(Exit::Done);
    }
    // What can be refused is refused before anything is written.
    let ledger = open::ledger(settings).await?;
    let missing = ledger_lacks(&ledger, &folder.join(LEDGER)).await?;
    let vault = open::vault(settings, &keys).await?;
    if !vault.is_empty().await? {
        return Err(refused(
            "the vault is not empty: name an empty one with --vault, so that nothing is mixed or overwritten",
        ));
    }
    let options = Options {
        log: Some(manifest.log.log),
        partitions: manifest.log.partitions,
        ..Options::default()
    };
    let brought = bring(settings, &folder.join(LOG), options, Some(manifest.events)).await?;
    if (brought.events, brought.digest) != (manifest.events, manifest.digest) {
        bail!("what arrived in the log is not what the manifest says");
    }
    for line in missing {
        ledger.record(line.account, line.recorded_at).await?;
    }
    let rows = ndjson::lines(&folder.join(VAULT))?
        .map(|line| Ok::<Value, anyhow::Error>(serde_json::from_slice(&line?)?));
    let rows = vault.copy_in(rows).await.context("the vault's rows")?;
    let erased = vault.apply_ledger(&ledger, SystemClock.now()).await?;
    let store = open::events_with(settings, Options::default()).await?;
    let wrong = manifest.compare(&*store).await?;
    let epoch = store.identity().epoch;
    if let Some(wrong) = wrong {
        bail!("{wrong}");
    }
    event_store::complete(&*store).await?;
    store.close().await;
    tell_of_positions(&brought);
    let mut out = Out::new(settings.output);
    let object = json!({
        "events": brought.events, "moved": brought.moved, "head": brought.head, "digest": brought.digest,
        "epoch": epoch, "vault_rows": rows, "erased_again": erased.len(),
    });
    out.record(&object, || {
        format!(
            "{} events with the digest of the backup, {rows} rows of the vault; {} people were erased since, and are erased again",
            brought.events,
            erased.len()
        )
    })?;
    out.finish()?;
    eprintln!(
        "the log has a new epoch, so read models are built anew: name an empty database with --database, or drop the old tables; then start, and run `showcaller verify`"
    );
    Ok(Exit::Done)
}

/// What the backup's ledger has and this one lacks: everything, if this one is empty, else nothing, or it is refused.
async fn ledger_lacks(ledger: &ErasureLedger, file: &Path) -> Result<Vec<Line>> {
    let head = ledger.head().await?;
    let (mut page, mut next): (Vec<Entry>, usize) = (vec![], 0);
    let mut missing = Vec::new();
    for line in ndjson::lines(file)? {
        let line: Line = serde_json::from_slice(&line?)?;
        if head == 0 {
            missing.push(line);
            continue;
        }
        if next >= page.len() {
            page = ledger.entries(line.seq - 1, ENTRIES).await?;
            next = 0;
        }
        let stands = page
            .get(next)
            .is_some_and(|entry| entry.seq == line.seq && entry.account == line.account);
        if !stands {
            return Err(refused(
                "the erasure ledger lacks erasures that the backup has: it is older, or another one. Name the newest with --erasure-ledger",
            ));
        }
        next += 1;
    }
    Ok(missing)
}
