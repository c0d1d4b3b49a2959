//! `showcaller events …`: the log as a whole, and how one event leads to another.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use command_api::{Clock, SystemClock};
use event_store::EventStore;
use events::{EventId, Position, RecordedEvent};
use uuid::Uuid;

use super::exit::Exit;
use super::out::Out;
use super::reveal;
use super::select::{Filters, Select};
use super::shown::{Eyes, line};
use super::streams::tail;
use crate::config::Settings;
use crate::open;
use crate::verbs::look::EventsVerb;

/// How many events of one request are shown.
const FAMILY: usize = 1_000;

/// Does it.
pub async fn act(settings: &Settings, verb: &EventsVerb) -> Result<Exit> {
    let store = open::events_to_read(settings).await?;
    let done = match verb {
        EventsVerb::List {
            select,
            limit,
            reveal_personal,
        } => {
            let subject = serde_json::to_string(select)?;
            let eyes = reveal::eyes(settings, *reveal_personal, "events list", &subject).await?;
            list(settings, &*store, &eyes, select.clone(), *limit).await
        }
        EventsVerb::Tail {
            select,
            reveal_personal,
        } => {
            let subject = serde_json::to_string(select)?;
            let eyes = reveal::eyes(settings, *reveal_personal, "events tail", &subject).await?;
            let after = match select.from_position {
                Some(from) => before(&*store, from).await?,
                None => store.head().await?,
            };
            let selection = select.clone().at(SystemClock.now());
            tail(settings, &store, &eyes, selection, after).await
        }
        EventsVerb::Show {
            event,
            reveal_personal,
        } => {
            let eyes = reveal::eyes(settings, *reveal_personal, "events show", event).await?;
            show(settings, &*store, &eyes, event).await
        }
    };
    store.close().await;
    done
}

/// A position before `from` and not before the event before it, where the store can tell.
async fn before(store: &dyn EventStore, from: u64) -> Result<Position> {
    let head = store.head().await?;
    Ok(if store.gapless() {
        head.min(Position::new(from.saturating_sub(1)))
    } else {
        Position::ZERO
    })
}

async fn list(
    settings: &Settings,
    store: &dyn EventStore,
    eyes: &Eyes,
    select: Select,
    limit: usize,
) -> Result<Exit> {
    let mut out = Out::new(settings.output);
    let mut left = limit;
    let mut reader = select
        .at(SystemClock.now())
        .read(store, Position::ZERO)
        .await?;
    while let Some(mut events) = reader.next().await? {
        let more = events.len() > left;
        events.truncate(left);
        left -= events.len();
        eyes.print(&mut out, &events).await?;
        if let (true, Some(last)) = (more, events.last()) {
            out.finish()?;
            eprintln!("there are more after position {}", last.position);
            return Ok(Exit::Done);
        }
    }
    out.finish()?;
    if left == limit {
        eprintln!("there are no such events");
        return Ok(Exit::Wrong);
    }
    Ok(Exit::Done)
}

async fn show(
    settings: &Settings,
    store: &dyn EventStore,
    eyes: &Eyes,
    name: &str,
) -> Result<Exit> {
    let Some(event) = find(store, name).await? else {
        eprintln!("there is no event {name}");
        return Ok(Exit::Wrong);
    };
    let family = match event.parse_metadata() {
        Ok(metadata) => family(store, metadata.correlation_id).await?,
        Err(_) => vec![event.clone()],
    };
    let objects = eyes.look(&family).await?;
    let mut out = Out::new(settings.output);
    for Place { index, depth } in tree(&family) {
        let mut object = objects[index].clone();
        let asked = family[index].id == event.id;
        object["depth"] = depth.into();
        object["asked_for"] = asked.into();
        out.record(&object, || {
            let indent = "    ".repeat(depth);
            let text = line(&family[index], &object);
            let mark = if asked { "▶" } else { " " };
            let lines: Vec<_> = text
                .lines()
                .map(|line| format!("{mark} {indent}{line}"))
                .collect();
            lines.join("\n")
        })?;
    }
    out.finish()?;
    if family.len() >= FAMILY {
        eprintln!("the first {FAMILY} events of this request are shown");
    }
    Ok(Exit::Done)
}

/// By position, or by id.
async fn find(store: &dyn EventStore, name: &str) -> Result<Option<RecordedEvent>> {
    if let Ok(id) = name.parse::<Uuid>() {
        return Ok(store.find_event(EventId(id)).await?);
    }
    let Ok(position) = name.parse::<u64>() else {
        bail!("{name:?} is neither the id of an event nor a position");
    };
    let select = Select {
        from_position: Some(position),
        to_position: Some(position),
        ..Select::default()
    };
    let mut reader = select
        .at(SystemClock.now())
        .read(store, Position::ZERO)
        .await?;
    while let Some(events) = reader.next().await? {
        let found = events.into_iter().next();
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// All that followed from one request, in the order of the log.
async fn family(store: &dyn EventStore, correlation_id: Uuid) -> Result<Vec<RecordedEvent>> {
    let select = Select {
        filters: Filters {
            correlation_id: Some(correlation_id),
            ..Filters::default()
        },
        ..Select::default()
    };
    let mut reader = select
        .at(SystemClock.now())
        .read(store, Position::ZERO)
        .await?;
    let mut found = Vec::new();
    while let Some(events) = reader.next().await? {
        found.extend(events);
        if found.len() >= FAMILY {
            found.truncate(FAMILY);
            break;
        }
    }
    Ok(found)
}

/// Where an event stands in its family.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    index: usize,
    depth: usize,
}

/// Each event below the one that caused it: the event it names, or the first event of the command that it names, if that
/// is another command than its own. Others are roots.
fn tree(family: &[RecordedEvent]) -> Vec<Place> {
    let mut named: BTreeMap<Uuid, usize> = BTreeMap::new();
    let links: Vec<Option<(Uuid, Uuid)>> = family
        .iter()
        .map(|event| {
            let metadata = event.parse_metadata().ok()?;
            Some((metadata.command_id.0, metadata.causation_id))
        })
        .collect();
    for (index, (event, link)) in family.iter().zip(&links).enumerate() {
        named.insert(event.id.0, index);
        if let Some((command, _)) = link {
            named.entry(*command).or_insert(index);
        }
    }
    let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (index, link) in links.iter().enumerate() {
        let cause = link
            .filter(|(command, cause)| command != cause)
            .and_then(|(_, cause)| named.get(&cause).copied())
            // An effect stands after its cause: so there are no circles.
            .filter(|cause| *cause < index);
        children.entry(cause).or_default().push(index);
    }
    let mut places = Vec::new();
    let mut waiting: Vec<(usize, usize)> = of(&children, None, 0);
    while let Some((index, depth)) = waiting.pop() {
        places.push(Place { index, depth });
        waiting.extend(of(&children, Some(index), depth + 1));
    }
    places
}

/// The children of a node, the last first.
fn of(
    children: &BTreeMap<Option<usize>, Vec<usize>>,
    node: Option<usize>,
    depth: usize,
) -> Vec<(usize, usize)> {
    let indexes = children.get(&node).map(Vec::as_slice).unwrap_or_default();
    indexes.iter().rev().map(|index| (*index, depth)).collect()
}

#[cfg(test)]
mod tests {
    use events::{EventId, Hash, StreamId, Version};
    use serde_json::json;

    use super::*;

    fn event(id: u128, command: u128, cause: u128) -> RecordedEvent {
        let metadata = json!({
            "command_id": Uuid::from_u128(command), "correlation_id": Uuid::from_u128(1),
            "causation_id": Uuid::from_u128(cause), "actor": "anonymous", "recorded_at": "2026-11-23T00:00:00Z",
        });
        RecordedEvent {
            position: Position::new(id as u64),
            stream: StreamId::parse("door-1").unwrap(),
            version: Version::new(1),
            id: EventId(Uuid::from_u128(id)),
            type_name: "Opened".into(),
            schema_version: 1,
            data: "{}".into(),
            metadata: metadata.to_string(),
            hash: Hash::ZERO,
        }
    }

    #[test]
    fn effects_stand_below_their_causes_in_the_order_of_the_log() {
        // 10 and 11 by command 1; 20 caused by event 10, 21 by event 20; 30 caused by command 1.
        let family = [
            event(10, 1, 1),
            event(11, 1, 1),
            event(20, 2, 10),
            event(21, 3, 20),
            event(30, 4, 1),
        ];
        let shape: Vec<_> = tree(&family)
            .iter()
            .map(|place| (family[place.index].position.get(), place.depth))
            .collect();
        assert_eq!(shape, [(10, 0), (20, 1), (21, 2), (30, 1), (11, 0)]);
    }
}
