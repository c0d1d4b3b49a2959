//! `showcaller streams …`: which streams there are, what happened in one, and what state that leaves it in.

use std::sync::Arc;

use anyhow::Result;
use command_api::{Clock, SystemClock};
use event_store::{EventStore, follow};
use events::{Position, RecordedEvent, StreamId, Version};
use futures::StreamExt;
use read_models::ReadModel;
use serde_json::{Value, json};

use super::exit::Exit;
use super::out::Out;
use super::reveal;
use super::select::{PAGE, Select, Selection};
use super::shown::Eyes;
use super::state::{self, States};
use crate::config::Settings;
use crate::open;
use crate::verbs::look::{StreamArgs, StreamsVerb};

/// How many events `tail` shows before it waits for news.
const LAST: u64 = 10;

/// Does it.
pub async fn act(
    settings: &Settings,
    states: &States,
    models: &[ReadModel],
    verb: &StreamsVerb,
) -> Result<Exit> {
    let store = open::events_to_read(settings).await?;
    let done = match verb {
        StreamsVerb::List {
            category,
            after,
            limit,
        } => {
            list(
                settings,
                &*store,
                category.as_deref(),
                after.as_ref(),
                *limit,
            )
            .await
        }
        StreamsVerb::Categories => categories(settings, &*store, states).await,
        StreamsVerb::Show(args) => show(settings, &*store, args).await,
        StreamsVerb::Tail {
            stream,
            filters,
            reveal_personal,
        } => {
            let eyes =
                reveal::eyes(settings, *reveal_personal, "streams tail", stream.as_str()).await?;
            let version = store.stream_version(stream).await?;
            let from = Version::new(version.get().saturating_sub(LAST));
            let before = store.read_stream(stream, from, 1).await?;
            // The first of them is shown, and what comes after its position is followed.
            let mut out = Out::new(settings.output).live();
            let selection = Select::stream(stream.clone(), filters.clone()).at(SystemClock.now());
            let first: Vec<_> = before
                .iter()
                .filter(|event| selection.takes(event))
                .cloned()
                .collect();
            eyes.print(&mut out, &first).await?;
            out.finish()?;
            let after = match before.last() {
                Some(event) => event.position,
                None => store.head().await?,
            };
            tail(settings, &store, &eyes, selection, after).await
        }
        StreamsVerb::State {
            stream,
            at,
            reveal_personal,
        } => {
            let eyes =
                reveal::eyes(settings, *reveal_personal, "streams state", stream.as_str()).await?;
            let found = state::at(&*store, states, models, stream, at.map(Version::new)).await?;
            print_state(settings, &eyes, stream, found).await
        }
        StreamsVerb::Diff { stream, from, to } => {
            let versions = (Version::new(*from), Version::new(*to));
            diff(settings, &*store, states, models, stream, versions).await
        }
    };
    store.close().await;
    done
}

async fn list(
    settings: &Settings,
    store: &dyn EventStore,
    category: Option<&str>,
    after: Option<&StreamId>,
    limit: usize,
) -> Result<Exit> {
    // One more tells whether there are more.
    let mut last = store.last_of_streams(category, after, limit + 1).await?;
    let more = last.len() > limit;
    last.truncate(limit);
    let object = |event: &RecordedEvent| {
        let metadata = event.parse_metadata().ok();
        json!({
            "stream": event.stream,
            "version": event.version,
            "position": event.position,
            "last": event.type_name,
            "recorded_at": metadata.map(|metadata| metadata.recorded_at),
        })
    };
    let objects: Vec<Value> = last.iter().map(object).collect();
    let mut out = Out::new(settings.output);
    let columns = [
        ("stream", "stream"),
        ("version", "version"),
        ("position", "position"),
        ("recorded_at", "recorded at"),
        ("last", "last event"),
    ];
    out.table(&columns, &objects)?;
    out.finish()?;
    match last.last() {
        Some(event) if more => eprintln!("there are more: --after {}", event.stream),
        Some(_) => {}
        None => {
            eprintln!("there are no streams");
            return Ok(Exit::Wrong);
        }
    }
    Ok(Exit::Done)
}

async fn categories(settings: &Settings, store: &dyn EventStore, states: &States) -> Result<Exit> {
    let mut objects = Vec::new();
    let mut after: Option<StreamId> = None;
    while let Some(event) = store.last_of_streams(None, after.as_ref(), 1).await?.pop() {
        let category = event.stream.category();
        objects.push(json!({
            "category": category,
            "aggregate": if states.contains_key(category) { "yes" } else { "no" },
        }));
        // After every name of the category: no id begins with Unicode's last character.
        after = Some(StreamId::new(category, "\u{10FFFF}")?);
    }
    let mut out = Out::new(settings.output);
    let columns = [("category", "category"), ("aggregate", "aggregate")];
    out.table(&columns, &objects)?;
    out.finish()?;
    Ok(Exit::Done)
}

async fn show(settings: &Settings, store: &dyn EventStore, args: &StreamArgs) -> Result<Exit> {
    let stream = &args.stream;
    let eyes = reveal::eyes(
        settings,
        args.reveal_personal,
        "streams show",
        stream.as_str(),
    )
    .await?;
    let selection = Select::stream(stream.clone(), args.filters.clone()).at(SystemClock.now());
    let mut out = Out::new(settings.output);
    let (mut found, mut after) = (
        false,
        Version::new(args.from.unwrap_or(1).saturating_sub(1)),
    );
    loop {
        let mut events = store.read_stream(stream, after, PAGE).await?;
        let ended = events.len() < PAGE;
        after = events.last().map_or(after, |last| last.version);
        let past = |event: &RecordedEvent| args.to.is_some_and(|to| event.version.get() > to);
        let ended = ended || events.iter().any(past);
        events.retain(|event| !past(event) && selection.takes(event));
        found |= !events.is_empty();
        eyes.print(&mut out, &events).await?;
        if ended {
            break;
        }
    }
    out.finish()?;
    if !found {
        eprintln!("{stream} has no such events");
        return Ok(Exit::Wrong);
    }
    Ok(Exit::Done)
}

/// Prints what is selected after a position, then whatever is appended, for ever.
pub(super) async fn tail(
    settings: &Settings,
    store: &Arc<dyn EventStore>,
    eyes: &Eyes,
    selection: Selection,
    after: Position,
) -> Result<Exit> {
    let mut out = Out::new(settings.output).live();
    let mut pages = Box::pin(follow(Arc::clone(store), after, selection.filter(), PAGE));
    while let Some(page) = pages.next().await {
        let mut events = match page {
            Ok(page) => page.events,
            Err(error @ event_store::Error::Unavailable(_)) => {
                eprintln!("{error}; trying again");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        events.retain(|event| selection.takes(event));
        eyes.print(&mut out, &events).await?;
    }
    Ok(Exit::Done)
}

async fn print_state(
    settings: &Settings,
    eyes: &Eyes,
    stream: &StreamId,
    found: Option<Value>,
) -> Result<Exit> {
    let Some(mut state) = found else {
        return Ok(not_so_far(stream));
    };
    if state["state"].is_null() {
        eprintln!(
            "no aggregate makes a state of streams of the category {}: `showcaller streams show {stream}` shows its events",
            stream.category()
        );
    }
    eyes.see(std::slice::from_mut(&mut state)).await?;
    let mut out = Out::new(settings.output);
    out.record(&state, || {
        serde_json::to_string_pretty(&state).unwrap_or_default()
    })?;
    out.finish()?;
    Ok(Exit::Done)
}

async fn diff(
    settings: &Settings,
    store: &dyn EventStore,
    states: &States,
    models: &[ReadModel],
    stream: &StreamId,
    (from, to): (Version, Version),
) -> Result<Exit> {
    let before = match from {
        Version::ZERO => Some(Value::Null),
        from => state::at(store, states, models, stream, Some(from)).await?,
    };
    let after = state::at(store, states, models, stream, Some(to)).await?;
    let (Some(before), Some(after)) = (before, after) else {
        return Ok(not_so_far(stream));
    };
    // Two ciphertexts of one value differ: that something personal changed is seen, what it is is not.
    let mut found = Vec::new();
    for part in ["state", "read_models"] {
        for mut difference in state::differences(&before[part], &after[part]) {
            let path = difference["path"].as_str().unwrap_or_default();
            difference["path"] = format!("/{part}{path}").into();
            found.push(difference);
        }
    }
    Eyes::Masked.see(&mut found).await?;
    let mut out = Out::new(settings.output);
    let columns = [("path", "path"), ("before", "before"), ("after", "after")];
    out.table(&columns, &found)?;
    out.finish()?;
    Ok(Exit::Done)
}

fn not_so_far(stream: &StreamId) -> Exit {
    eprintln!(
        "{stream} has not come so far: `showcaller streams show {stream}` shows its versions"
    );
    Exit::Wrong
}
