//! `showcaller parked …`: streams whose events wait behind one that could not be projected.

use anyhow::Result;
use clap::{Args, Subcommand};
use command_api::operation::Command;
use events::{Position, StreamId};
use read_models::{ReadModel, Waiting};
use serde_json::{Value, json};

use super::confirm::Consent;
use super::desk::{Desk, named};
use super::exit::{Exit, refused};
use super::out::Out;
use crate::config::Settings;
use crate::open;

/// How many parked streams are looked at.
const STREAMS: u32 = 100_000;

/// Looks after parked streams.
#[derive(Debug, Subcommand)]
pub enum ParkedVerb {
    /// Lists parked streams: where each waits, why, and how many events.
    #[command(
        after_help = "Examples:\n  showcaller parked list\n  showcaller parked list --output json\n\nExits with 1 when there are none."
    )]
    List,
    /// Shows all that is known of one parked stream.
    #[command(
        after_help = "Example:\n  showcaller parked show account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a"
    )]
    Show {
        /// The stream.
        #[arg(value_parser = stream)]
        stream: StreamId,
    },
    /// Tries parked streams again, in order: one, those of one cause, or all of a read model.
    #[command(
        after_help = "Examples:\n  showcaller parked retry accounts --stream account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a\n  showcaller parked retry accounts --cause \"missing field\"\n  showcaller parked retry accounts\n\nExits with 1 when some of them are parked still."
    )]
    Retry {
        /// The read model.
        name: String,
        #[command(flatten)]
        which: Which,
    },
    /// Leaves one event out for good, so that those behind it go in. Only what cannot be projected is left out.
    #[command(
        after_help = "Example:\n  showcaller parked discard accounts --stream account-5f0e4b4e-8f0c-8d5e-9b1f-0a4e3c1d2b3a --reason \"made by a defect\" --yes"
    )]
    Discard {
        /// The read model.
        name: String,
        /// The stream; its first event that waits is left out.
        #[arg(long, value_parser = stream)]
        stream: StreamId,
        /// Why, for those who ask later.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Which parked streams.
#[derive(Debug, Args)]
pub struct Which {
    /// This stream alone.
    #[arg(long, value_parser = stream, conflicts_with = "cause")]
    stream: Option<StreamId>,
    /// Those whose error holds this text.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
}

fn stream(text: &str) -> Result<StreamId, String> {
    StreamId::parse(text).map_err(|error| error.to_string())
}

/// Does it.
pub async fn act(models: &[ReadModel], settings: &Settings, verb: &ParkedVerb) -> Result<Exit> {
    match verb {
        ParkedVerb::List => list(settings).await,
        ParkedVerb::Show { stream } => show(settings, stream).await,
        ParkedVerb::Retry { name, which } => retry(models, settings, name, which).await,
        ParkedVerb::Discard {
            name,
            stream,
            reason,
            consent,
        } => discard(models, settings, (name, stream, reason), *consent).await,
    }
}

async fn list(settings: &Settings) -> Result<Exit> {
    let store = open::read_models(settings, true).await?;
    let waiting: Vec<Value> = store.waiting(STREAMS).await?.iter().map(object).collect();
    let mut out = Out::new(settings.output);
    out.table(
        &[
            ("read_model", "read model"),
            ("stream", "stream"),
            ("position", "position"),
            ("events", "events"),
            ("parked_at", "parked"),
            ("retries", "retries"),
            ("error", "error"),
        ],
        &waiting,
    )?;
    out.finish()?;
    Ok(if waiting.is_empty() {
        Exit::Wrong
    } else {
        Exit::Done
    })
}

async fn show(settings: &Settings, stream: &StreamId) -> Result<Exit> {
    let store = open::read_models(settings, true).await?;
    let found = store.waiting(STREAMS).await?;
    let found: Vec<Waiting> = found
        .into_iter()
        .filter(|waiting| waiting.parked.stream == *stream)
        .collect();
    let mut out = Out::new(settings.output);
    for waiting in &found {
        out.record(&object(waiting), || text(waiting))?;
    }
    out.finish()?;
    if found.is_empty() {
        eprintln!("{stream} is not parked");
        return Ok(Exit::Wrong);
    }
    Ok(Exit::Done)
}

async fn retry(
    models: &[ReadModel],
    settings: &Settings,
    name: &str,
    which: &Which,
) -> Result<Exit> {
    let models = named(models, &[name.to_owned()])?;
    let desk = Desk::open(settings, "parked retry").await?;
    let command = Command::RetryParked {
        stream: which.stream.clone(),
        cause: which.cause.clone(),
    };
    let before: Vec<Waiting> = chosen(&desk, name, which).await?;
    let left = carry_out(&desk, models[0], &command, &before).await?;
    let mut out = Out::new(settings.output);
    for waiting in &before {
        let still = left
            .iter()
            .find(|other| other.parked.stream == waiting.parked.stream);
        let told = json!({
            "read_model": name,
            "stream": waiting.parked.stream,
            "parked": still.is_some(),
            "position": still.map(|still| still.parked.position),
            "error": still.map(|still| &still.parked.error),
        });
        let stream = &waiting.parked.stream;
        out.record(&told, || match still {
            None => format!("{stream} goes on"),
            Some(still) => format!(
                "{stream} is parked at position {}: {}",
                still.parked.position, still.parked.error
            ),
        })?;
    }
    out.finish()?;
    desk.close().await;
    if before.is_empty() {
        eprintln!("nothing of {name} is parked there");
    }
    Ok(if left.is_empty() && !before.is_empty() {
        Exit::Done
    } else {
        Exit::Wrong
    })
}

async fn discard(
    models: &[ReadModel],
    settings: &Settings,
    (name, stream, reason): (&str, &StreamId, &str),
    consent: Consent,
) -> Result<Exit> {
    let models = named(models, &[name.to_owned()])?;
    let desk = Desk::open(settings, "parked discard").await?;
    let which = Which {
        stream: Some(stream.clone()),
        cause: None,
    };
    let before = chosen(&desk, name, &which).await?;
    let Some(waiting) = before.first() else {
        desk.close().await;
        return Err(refused(format!("{stream} is not parked in {name}")));
    };
    let position: Position = waiting.parked.position;
    let plan = format!(
        "leaves the event at position {position} of {stream} out of {name}, in every later build too: {}",
        waiting.parked.error
    );
    if !consent.to(&plan, stream.as_str())? {
        desk.close().await;
        return Ok(Exit::Done);
    }
    let command = Command::DiscardParked {
        stream: stream.clone(),
        position,
        reason: reason.to_owned(),
    };
    let left = carry_out(&desk, models[0], &command, &before).await?;
    desk.close().await;
    match left.first() {
        None => eprintln!("{stream} goes on"),
        Some(next) => eprintln!(
            "{stream} is parked at position {}: {}",
            next.parked.position, next.parked.error
        ),
    }
    Ok(Exit::Done)
}

/// Asks for it, waits until it was tried, and gives what is parked still of what was before.
async fn carry_out(
    desk: &Desk,
    model: &ReadModel,
    command: &Command,
    before: &[Waiting],
) -> Result<Vec<Waiting>> {
    let of_before = |waiting: &Waiting| {
        before.iter().any(|one| {
            one.parked.stream == waiting.parked.stream && one.generation == waiting.generation
        }) && waiting.model == model.name
    };
    let asked = [desk.ask(model, command).await?];
    let mut left = Vec::new();
    desk.wait(&asked, async || {
        left = desk.store.waiting(STREAMS).await?;
        left.retain(of_before);
        Ok(!left.iter().any(|waiting| waiting.retrying))
    })
    .await?;
    Ok(left)
}

/// The parked streams of what readers see that are meant.
async fn chosen(desk: &Desk, name: &str, which: &Which) -> Result<Vec<Waiting>> {
    let mut waiting = desk.store.waiting(STREAMS).await?;
    waiting.retain(|one| {
        one.model == name
            && which
                .stream
                .as_ref()
                .is_none_or(|stream| one.parked.stream == *stream)
            && which
                .cause
                .as_ref()
                .is_none_or(|cause| one.parked.error.contains(cause))
    });
    Ok(waiting)
}

fn object(waiting: &Waiting) -> Value {
    let parked = &waiting.parked;
    json!({
        "read_model": waiting.model,
        "generation": waiting.generation,
        "stream": parked.stream,
        "partition": parked.partition,
        "position": parked.position,
        "events": waiting.events,
        "error": parked.error,
        "parked_at": waiting.parked_at.to_rfc3339(),
        "retries": waiting.retries,
        "retried_at": waiting.retried_at.map(|at| at.to_rfc3339()),
        "retried_by": waiting.retried_by,
        "retrying": waiting.retrying,
    })
}

fn text(waiting: &Waiting) -> String {
    let Waiting {
        model,
        parked,
        events,
        parked_at,
        retries,
        ..
    } = waiting;
    let again = match (&waiting.retried_at, &waiting.retried_by) {
        (Some(at), Some(by)) => format!(", the last time {} by {by}", at.to_rfc3339()),
        _ => String::new(),
    };
    format!(
        "{} in {model}\n  {events} events wait from position {} on, since {}\n  {}\n  tried again {retries} times{again}",
        parked.stream,
        parked.position,
        parked_at.to_rfc3339(),
        parked.error,
    )
}
