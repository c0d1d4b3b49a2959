//! The whole of a log: which streams it has, and moving it into a log of another kind.

use std::convert::Infallible;

use event_store::{
    Append, EventStore, Expected, ImportError, Imported, Options, complete, import, is_half_filled,
};
use events::{Digest, EventId, Position, RecordedEvent};
use futures::stream::iter;
use uuid::Uuid;

use super::log::{Log, append, command, event, exactly, stream, verified};

/// A log with streams of two categories, of one event and of many, by commands of one event and of several.
async fn written(store: &dyn EventStore) -> Vec<RecordedEvent> {
    for n in 0..40_u64 {
        let name = stream(&format!("{}-{}", ["door", "room"][n as usize % 2], n % 7));
        let appended = store
            .append(append(&name, Expected::Any, 1 + n as usize % 3))
            .await;
        appended.expect("it is appended");
    }
    verified(store).await
}

async fn imported(
    store: &dyn EventStore,
    events: Vec<RecordedEvent>,
) -> Result<Imported, ImportError<Infallible>> {
    import(store, iter(events.into_iter().map(Ok)), &mut |_| {}).await
}

pub async fn streams_are_listed_by_name_and_events_found_by_id(log: Log) {
    let store = log.open().await;
    assert!(
        store
            .last_of_streams(None, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    let events = written(&*store).await;
    let mut names: Vec<_> = events.iter().map(|event| event.stream.clone()).collect();
    names.sort();
    names.dedup();
    let last = |name| events.iter().rfind(|event| event.stream == name).cloned();
    let expected: Vec<_> = names.into_iter().filter_map(last).collect();
    assert_eq!(
        store.last_of_streams(None, None, 100).await.unwrap(),
        expected
    );
    let rooms: Vec<_> = expected
        .iter()
        .filter(|event| event.stream.category() == "room")
        .cloned()
        .collect();
    assert!(rooms.len() > 3);
    let (first, rest) = rooms.split_at(2);
    let page = store.last_of_streams(Some("room"), None, 2).await.unwrap();
    assert_eq!(page, first);
    let after = Some(&first[1].stream);
    assert_eq!(
        store
            .last_of_streams(Some("room"), after, 100)
            .await
            .unwrap(),
        rest
    );
    assert!(
        store
            .last_of_streams(Some("roo"), None, 1)
            .await
            .unwrap()
            .is_empty()
    );
    for event in [&events[0], &events[events.len() - 1]] {
        let found = store.find_event(event.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(event));
    }
    let unknown = EventId(Uuid::from_u128(1));
    assert_eq!(store.find_event(unknown).await.unwrap(), None);
}

pub async fn a_log_moves_whole_into_an_empty_one_of_each_kind(log: Log) {
    let source = log.open().await;
    // More appends than are on their way at once.
    let many = (0..1_500).map(|n| append(&stream(&format!("many-{}", n % 40)), Expected::Any, 1));
    for answer in source.append_all(many.collect()).await {
        answer.expect("it is appended");
    }
    let events = written(&*source).await;
    let target = Log::sqlite();
    let id = Uuid::from_u128(77);
    let options = Options {
        log: Some(id),
        partitions: 5,
        ..Options::default()
    };
    let moved = target.open_with(options).await;
    assert_eq!((moved.identity().log, moved.identity().partitions), (id, 5));
    let done = imported(&*moved, events.clone())
        .await
        .expect("it is imported");
    let arrived = verified(&*moved).await;
    let digest = events
        .iter()
        .fold(Digest::ZERO, |digest, event| digest.then(&event.hash));
    assert_eq!((done.events, done.digest), (events.len() as u64, digest));
    assert_eq!(done.head, Position::new(events.len() as u64));
    assert_eq!(done.moved, if source.gapless() { 0 } else { done.events });
    for (n, (before, after)) in (1..).zip(events.iter().zip(&arrived)) {
        let expected = RecordedEvent {
            position: Position::new(n),
            ..before.clone()
        };
        assert_eq!(*after, expected);
    }
    // A command that was carried out in the old log is known in the new one.
    let first = &events[0];
    let again = Append {
        stream: first.stream.clone(),
        expected: exactly(0),
        command_id:
            serde_json::from_str::<serde_json::Value>(&first.metadata).unwrap()["command_id"]
                .as_str()
                .map(|id| events::CommandId(id.parse().unwrap()))
                .expect("it names its command"),
        events: vec![event(command(), 0, "ThingDone", "{}")],
    };
    assert!(moved.append(again).await.expect("it is known").repeated);
    assert!(matches!(
        imported(&*moved, events).await,
        Err(ImportError::NotEmpty)
    ));
}

pub async fn what_is_no_whole_log_is_not_imported(log: Log) {
    let source = Log::sqlite();
    let events = written(&*source.open().await).await;
    let mut changed = events.clone();
    changed[5].data = r#"{"n": 9}"#.into();
    let store = log.open().await;
    let broken = import(&*store, iter([Err("broken")]), &mut |_| {}).await;
    assert!(matches!(broken, Err(ImportError::Source("broken"))));
    let half_filled = async || is_half_filled(&*store).await.unwrap();
    assert!(!half_filled().await, "nothing was brought");
    let error = imported(&*store, changed).await.unwrap_err().to_string();
    assert!(error.contains("the source was changed"), "{error}");
    // Until somebody says that all is there, every process takes it for a part.
    let other = log.open().await;
    assert!(is_half_filled(&*other).await.unwrap());
    complete(&*other).await.unwrap();
    assert!(!half_filled().await);
    let mut holes = events;
    // The second event of its stream: the third cannot follow the first.
    let second = holes.iter().position(|event| event.version.get() == 2);
    holes.remove(second.expect("streams have several events"));
    let other = Log::sqlite();
    let error = imported(&*other.open().await, holes)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("whole streams alone"), "{error}");
}
