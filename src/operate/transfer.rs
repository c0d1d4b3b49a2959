//! `showcaller export` and `showcaller import`: events as CloudEvents in lines, out of one log and into another, of
//! whichever kind.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};
use command_api::{Clock, SystemClock};
use event_store::{ImportError, Imported, Options};
use events::{Digest, Position, partition_of};
use futures::stream;
use serde_json::json;

use super::exit::{Exit, refused};
use super::ndjson::{self, Messages, Writer};
use super::out::Out;
use super::progress::Progress;
use super::select::Select;
use crate::config::Settings;
use crate::open;

/// Writes the selected events to a file, or to standard output (`-`).
pub async fn export(settings: &Settings, select: &Select, to: &Path) -> Result<Exit> {
    let store = open::events_to_read(settings).await?;
    let on_stdout = to == Path::new("-");
    let mut out: Writer<Box<dyn Write>> = if on_stdout {
        Writer::new(Box::new(std::io::stdout()))
    } else {
        if to.exists() {
            return Err(refused(format!("{} is there already", to.display())));
        }
        Writer::new(Box::new(File::create_new(to)?))
    };
    let mut messages = Messages::new(&*store, None);
    let mut reader = select
        .clone()
        .at(SystemClock.now())
        .read(&*store, Position::ZERO)
        .await?;
    let mut progress = Progress::new("events exported", None);
    let mut digest = Digest::ZERO;
    while let Some(events) = reader.next().await? {
        for event in events {
            digest = digest.then(&event.hash);
            out.line(&messages.next(event).to_json()?)?;
        }
        progress.at(out.lines);
    }
    out.flush()?;
    if !on_stdout {
        File::open(to)?.sync_all()?;
    }
    let head = reader.end();
    store.close().await;
    progress.finish();
    if !on_stdout {
        let object = json!({
            "file": to, "events": out.lines, "bytes": out.bytes, "through": head, "digest": digest,
        });
        let mut said = Out::new(settings.output);
        said.record(&object, || {
            format!(
                "{} events up to position {head} in {}, digest {digest}",
                out.lines,
                to.display()
            )
        })?;
        said.finish()?;
    }
    Ok(Exit::Done)
}

/// Brings events from a file, or from standard input (`-`), into an empty log.
pub async fn import(settings: &Settings, from: &Path, partitions: Option<u16>) -> Result<Exit> {
    let defaults = Options::default();
    let options = Options {
        partitions: partitions.unwrap_or(defaults.partitions),
        ..defaults
    };
    let brought = bring(settings, from, options, None).await?;
    let store = open::events_with(settings, Options::default()).await?;
    event_store::complete(&*store).await?;
    store.close().await;
    let Imported {
        events,
        moved,
        head,
        digest,
    } = brought;
    let mut out = Out::new(settings.output);
    let object = json!({"events": events, "moved": moved, "head": head, "digest": digest});
    out.record(&object, || {
        format!("{events} events up to position {head}, digest {digest}")
    })?;
    out.finish()?;
    tell_of_positions(&brought);
    Ok(Exit::Done)
}

/// Says what has become of positions.
pub fn tell_of_positions(brought: &Imported) {
    if brought.moved == 0 {
        eprintln!("every event stands at its old position");
    } else {
        eprintln!(
            "{} of {} events stand at another position than before: what remembered positions (consumers of one's own) starts anew",
            brought.moved, brought.events
        );
    }
}

/// Appends what a file holds to an empty log, which counts as half-filled from then on: say when it is complete.
pub async fn bring(
    settings: &Settings,
    from: &Path,
    options: Options,
    total: Option<u64>,
) -> Result<Imported> {
    let messages = ndjson::messages(from)?;
    let store = open::events_with(settings, options).await?;
    let count = store.identity().partitions;
    let mut other_partitions = false;
    let mut progress = Progress::new("events imported", total);
    let events = messages.map(|message| {
        let message = message?;
        other_partitions |= message.partition != partition_of(&message.event.stream, count);
        Ok::<_, anyhow::Error>(message.event)
    });
    let brought = event_store::import(&*store, stream::iter(events), &mut |n| progress.at(n)).await;
    store.close().await;
    let brought = brought.map_err(|error| match error {
        ImportError::NotEmpty => refused(
            "the event store is not empty: name an empty one with --events, so that nothing is mixed or overwritten",
        ),
        ImportError::Source(error) => error,
        other => anyhow::Error::from(other)
            .context("the import stopped; remove the half-filled log before another try"),
    })?;
    progress.finish();
    if other_partitions {
        eprintln!(
            "the log that this comes from had another number of partitions than {count}: the order within partitions differs"
        );
    }
    if brought.events == 0 {
        bail!("{} holds no events", from.display());
    }
    Ok(brought)
}
