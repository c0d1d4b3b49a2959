//! What goes in, in which order, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use event_store::{Append, AppendError, Error, Expected, Options};
use events::{RecordedEvent, StreamId, Version};
use futures::future::{FutureExt, join_all};
use test_support::eventually;

use super::log::{Log, append, command, event, exactly, is_nth, seen, stream, verified};

pub async fn events_come_back_in_order_and_byte_for_byte(log: Log) {
    let store = log.open().await;
    let (one, two) = (stream("thing-1"), stream("other-1"));
    let id = command();
    // EventStoreDB's client takes no data with spaces around it.
    let spaced = if log.is_eventstore() { "[ ]" } else { " [ ] " };
    let mut odd = event(
        id,
        1,
        "OddThing",
        "{\"b\": 1.10,\t\"a\":\"\\u00fc ü 🎭\", \"n\":9007199254740993}",
    );
    odd.schema_version = u16::MAX;
    let events = vec![
        event(id, 0, "ThingDone", spaced),
        odd.clone(),
        event(id, 2, "ThingDone", "null"),
    ];
    let first = Append {
        stream: one.clone(),
        expected: exactly(0),
        command_id: id,
        events,
    };
    let answer = store.append(first).await.unwrap();
    assert_eq!(seen(&answer), (1, 3, false));
    assert!(is_nth(&*store, answer.position, 3));
    let answer = store.append(append(&two, exactly(0), 1)).await.unwrap();
    assert_eq!(seen(&answer), (1, 1, false));
    assert!(is_nth(&*store, answer.position, 4));
    let answer = store.append(append(&one, exactly(3), 2)).await.unwrap();
    assert_eq!(seen(&answer), (4, 5, false));
    assert!(is_nth(&*store, answer.position, 6));

    let log = verified(&*store).await;
    assert_eq!(log[1].data, odd.data);
    assert_eq!(
        (log[1].metadata.as_str(), log[1].schema_version),
        (odd.metadata.as_str(), u16::MAX)
    );
    assert_eq!((log[1].id, log[1].type_name.as_str()), (odd.id, "OddThing"));
    assert_eq!(log[5].hash, answer.hash);
    let read = store.read_stream(&one, Version::ZERO, 10).await.unwrap();
    let expected: Vec<RecordedEvent> = log.iter().filter(|e| e.stream == one).cloned().collect();
    assert_eq!(read, expected);
    assert_eq!(
        store.read_stream(&one, Version::new(2), 2).await.unwrap(),
        expected[2..4]
    );
    assert!(
        store
            .read_stream(&stream("thing-2"), Version::ZERO, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn an_exact_version_lets_one_of_many_in(log: Log) {
    let stores = [log.open().await, log.open().await];
    let thing = stream("thing-1");
    for version in 0..10 {
        let racers = (0..40).map(|i| stores[i % 2].append(append(&thing, exactly(version), 1)));
        let mut winners = 0;
        for answer in join_all(racers).await {
            match answer {
                Ok(answer) => {
                    assert_eq!(seen(&answer), (version + 1, version + 1, false));
                    winners += 1;
                }
                Err(AppendError::WrongVersion { actual }) => assert_eq!(actual.get(), version + 1),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(winners, 1, "at version {version}");
    }
    let early = stores[0]
        .append(append(&thing, exactly(11), 1))
        .await
        .unwrap_err();
    assert!(
        matches!(early, AppendError::WrongVersion { actual } if actual.get() == 10),
        "{early}"
    );
    let begun = stores[1]
        .append(append(&thing, exactly(0), 1))
        .await
        .unwrap_err();
    assert!(
        matches!(begun, AppendError::WrongVersion { actual } if actual.get() == 10),
        "{begun}"
    );
    assert_eq!(verified(&*stores[0]).await.len(), 10);
}

pub async fn any_and_exists_append_to_whatever_is_there(log: Log) {
    let (one, two) = (log.open().await, log.open().await);
    let thing = stream("thing-1");
    let refused = one
        .append(append(&thing, Expected::Exists, 1))
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            AppendError::WrongVersion {
                actual: Version::ZERO
            }
        ),
        "{refused}"
    );
    assert_eq!(
        seen(&one.append(append(&thing, Expected::Any, 2)).await.unwrap()),
        (1, 2, false)
    );
    // Each knows an old tail of the stream in turn.
    for round in 0..10 {
        let store = if round % 2 == 0 { &two } else { &one };
        let expected = if round % 3 == 0 {
            Expected::Any
        } else {
            Expected::Exists
        };
        assert_eq!(
            seen(&store.append(append(&thing, expected, 1)).await.unwrap()).0,
            3 + round
        );
    }
    let both = (0..100)
        .map(|i| if i % 2 == 0 { &one } else { &two }.append(append(&thing, Expected::Any, 1)));
    for answer in join_all(both).await {
        answer.unwrap();
    }
    assert_eq!(verified(&*one).await.len(), 112);
}

pub async fn appends_to_one_stream_go_into_one_batch_one_after_another(log: Log) {
    let store = log.open().await;
    let thing = stream("thing-1");
    store
        .append(append(&stream("thing-2"), exactly(0), 1))
        .await
        .unwrap();
    // While the lock is held everything waits, so that it makes few batches.
    let held = log.hold().await;
    let mut waiting = vec![];
    for version in 0..20 {
        for count in [1, 1, 2] {
            // The second is stale by the time it is its turn; the third follows both.
            let expected = if count == 1 {
                exactly(version * 3)
            } else {
                exactly(version * 3 + 1)
            };
            let mut append = Box::pin(store.append(append(&thing, expected, count)));
            assert!((&mut append).now_or_never().is_none(), "it waits");
            waiting.push(append);
        }
    }
    held.release().await;
    for (index, answer) in join_all(waiting).await.into_iter().enumerate() {
        match (index % 3, answer) {
            (0 | 2, Ok(_)) | (1, Err(AppendError::WrongVersion { .. })) => {}
            (_, answer) => panic!("append {index}: {answer:?}"),
        }
    }
    assert_eq!(verified(&*store).await.len(), 61);
}

pub async fn what_waits_behind_an_append_that_came_too_late_is_chained_to_what_is_there(log: Log) {
    let (one, two) = (log.open().await, log.open().await);
    let thing = stream("thing-1");
    one.append(append(&thing, exactly(0), 1)).await.unwrap();
    for round in 1..=5 {
        // One knows an old end of the stream, and plans three in a row on it.
        let began = 1 + (round - 1) * 4;
        two.append(append(&thing, exactly(began), 1)).await.unwrap();
        let late = (0..3).map(|_| append(&thing, Expected::Any, 1)).collect();
        for (answer, version) in one.append_all(late).await.into_iter().zip(began + 2..) {
            assert_eq!(seen(&answer.unwrap()), (version, version, false));
        }
    }
    assert_eq!(verified(&*two).await.len(), 21);
}

pub async fn one_bad_append_among_many_is_refused_alone(log: Log) {
    if log.is_named() {
        println!("not shown: nothing is known that such a server refuses alone");
        return;
    }
    let store = log.open().await;
    log.execute(
        "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.type = 'Poison' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END",
        "ALTER TABLE showcaller_events.events ADD CONSTRAINT poison CHECK (type <> 'Poison')",
    )
    .await;
    store
        .append(append(&stream("stale-1"), exactly(0), 1))
        .await
        .unwrap();
    let held = log.hold().await;
    let mut waiting = vec![];
    for i in 0..200 {
        let mut one = append(&stream(&format!("thing-{i}")), exactly(0), 1);
        if i == 77 || i == 140 {
            one.events[0].type_name = "Poison".into();
        }
        if i == 99 {
            one.stream = stream("stale-1");
        }
        let mut one = Box::pin(store.append(one));
        assert!((&mut one).now_or_never().is_none(), "it waits");
        waiting.push(one);
    }
    held.release().await;
    for (index, answer) in join_all(waiting).await.into_iter().enumerate() {
        match (index, answer) {
            (77 | 140, Err(AppendError::Fault(Error::Invalid(_)))) => {}
            (99, Err(AppendError::WrongVersion { actual })) => assert_eq!(actual.get(), 1),
            (77 | 99 | 140, answer) => panic!("append {index}: {answer:?}"),
            (_, answer) => assert_eq!(seen(&answer.unwrap()), (1, 1, false)),
        }
    }
    assert_eq!(verified(&*store).await.len(), 198);
}

pub async fn what_could_not_be_read_back_is_refused_before_it_is_written(log: Log) {
    let store = log.open().await;
    let good = append(&stream("thing-1"), Expected::Any, 1);
    let mut not_json = good.clone();
    not_json.events[0].data = "{".into();
    let mut zero_byte = good.clone();
    zero_byte.events[0].metadata = "\"\u{0}\"".into();
    let mut routing = good.clone();
    routing.events[0].type_name = "Thing.Done".into();
    let none = Append {
        events: vec![],
        ..good.clone()
    };
    let many = append(&good.stream, Expected::Any, 1_001);
    for bad in [not_json, zero_byte, routing, none, many] {
        let refused = store.append(bad).await.unwrap_err();
        assert!(
            matches!(refused, AppendError::Fault(Error::Invalid(_))),
            "{refused}"
        );
    }
    assert!(verified(&*store).await.is_empty());
}

pub async fn hostile_and_unicode_stream_ids_are_only_names(log: Log) {
    let store = log.open().await;
    // A log's name stands before its streams' on a server with several.
    let longest = format!(
        "thing-{}",
        "長".repeat(if log.is_eventstore() { 60 } else { 81 })
    );
    let names = [
        "thing-'; DROP TABLE events; --",
        "thing-\"; DROP TABLE showcaller_events.events; --",
        "thing-$1 ?1 :name @x",
        "thing-\\'\\\\x00",
        "thing-{\"a\":[1,2]}",
        "thing-{NULL,\"x\"}",
        "thing-NULL",
        "thing-%_*",
        "thing-🎭👩‍🚀",
        "thing-מזהה‏عربي",
        "thing-é",
        "thing-e\u{301}",
        "thing-É",
        "THING-é",
        "thing- x ",
        "thing- x",
        "数-值",
        longest.as_str(),
    ];
    for (index, name) in names.iter().enumerate() {
        let answer = store
            .append(append(&stream(name), exactly(0), 2))
            .await
            .unwrap();
        assert!(
            is_nth(&*store, answer.position, 2 * index as u64 + 2),
            "{name}"
        );
    }
    let again = log.open().await;
    for name in names {
        let read = again
            .read_stream(&stream(name), Version::ZERO, 10)
            .await
            .unwrap();
        assert_eq!(read.len(), 2, "{name}");
        assert!(read.iter().all(|event| event.stream.as_str() == name));
        again
            .append(append(&stream(name), exactly(2), 1))
            .await
            .unwrap();
    }
    assert_eq!(verified(&*store).await.len(), 3 * names.len());
}

pub async fn a_stream_of_100_000_events_is_read_back_in_pages(log: Log) {
    // A server that others use is not filled.
    let events: u64 = if log.is_named() { 10_000 } else { 100_000 };
    let store = log.open().await;
    let thing = stream("thing-long");
    for version in (0..events).step_by(1_000) {
        store
            .append(append(&thing, exactly(version), 1_000))
            .await
            .unwrap();
    }
    let (mut at, mut read) = (Version::ZERO, 0);
    loop {
        let page = store.read_stream(&thing, at, 5_000).await.unwrap();
        let Some(last) = page.last() else { break };
        for event in &page {
            read += 1;
            assert_eq!(event.version.get(), read);
        }
        at = last.version;
    }
    assert_eq!(read, events);
    // Another process appends to its end without having read it.
    let other = log.open().await;
    assert_eq!(
        seen(
            &other
                .append(append(&thing, exactly(events), 1))
                .await
                .unwrap()
        )
        .0,
        events + 1
    );
    assert_eq!(verified(&*store).await.len() as u64, events + 1);
}

pub async fn dropping_an_append_does_not_undo_it(log: Log) {
    let store = log.open().await;
    let held = log.hold().await;
    for i in 0..50 {
        let append = store.append(append(&stream(&format!("thing-{i}")), exactly(0), 1));
        assert!(
            append.now_or_never().is_none(),
            "it was handed over and waits"
        );
    }
    held.release().await;
    store.close().await;
    assert_eq!(verified(&*log.open().await).await.len(), 50);
    let late = store
        .append(append(&stream("thing-late"), exactly(0), 1))
        .await
        .unwrap_err();
    assert!(
        matches!(late, AppendError::Fault(Error::Unavailable(_))),
        "{late}"
    );
}

pub async fn a_full_queue_refuses_instead_of_growing(log: Log) {
    let store = log
        .open_with(Options {
            queue: 4,
            max_batch: 4,
            ..Options::default()
        })
        .await;
    let held = log.hold().await;
    let names: Vec<StreamId> = (0..20).map(|i| stream(&format!("thing-{i}"))).collect();
    let appends: Vec<_> = names
        .iter()
        .map(|name| {
            let (store, append) = (Arc::clone(&store), append(name, exactly(0), 1));
            tokio::spawn(async move { store.append(append).await })
        })
        .collect();
    eventually(Duration::from_secs(10), || async {
        appends.iter().any(tokio::task::JoinHandle::is_finished)
    })
    .await;
    held.release().await;
    let mut taken = 0;
    for append in appends {
        match append.await.unwrap() {
            Ok(_) => taken += 1,
            Err(AppendError::Fault(Error::Unavailable(why))) => {
                assert!(why.contains("waiting"), "{why}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((4..20).contains(&taken), "{taken} were taken");
    assert_eq!(verified(&*store).await.len(), taken);
}
