//! Readers see the log in the order of its positions, whole, whatever is slow to commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use event_store::{EventStore, Filter, Page, follow};
use events::{Partition, Position, partition_of};
use futures::StreamExt;
use futures::future::{FutureExt, join_all};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::log::{Log, append, exactly, stream, verified};

const WRITERS: u64 = 16;
const APPENDS: u64 = 60;
const TOTAL: u64 = WRITERS * APPENDS * 2;
const PATIENCE: Duration = Duration::from_mins(2);

/// Makes some commits slow: in PostgreSQL after everything is written and before it is visible; in SQLite by another
/// process that takes the write lock and lets go again.
async fn slow_commits(log: &Log, background: &mut JoinSet<()>, over: &Arc<AtomicBool>) {
    if !log.is_sqlite() && !log.is_named() {
        log.execute(
            "",
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(0.03); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON showcaller_events.events \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.position % 37 = 0) EXECUTE FUNCTION slow()",
        )
        .await;
    }
    let (log, over) = (Log::beside(log), Arc::clone(over));
    background.spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let held = log.hold().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            held.release().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// Where the log ends; `None` before everything is appended.
type End = watch::Receiver<Option<Position>>;

/// Reads pages as fast as it can and gives the positions it saw.
async fn read_all(store: Arc<dyn EventStore>, filter: Filter, limit: usize, end: End) -> Vec<u64> {
    let (mut at, mut seen) = (Position::ZERO, vec![]);
    while *end.borrow() != Some(at) {
        let page = store.read_all(at, &filter, limit).await.unwrap();
        take(&page, &mut at, &mut seen);
        if page.events.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    seen
}

async fn follow_all(
    store: Arc<dyn EventStore>,
    filter: Filter,
    limit: usize,
    mut end: End,
) -> Vec<u64> {
    let (mut at, mut seen) = (Position::ZERO, vec![]);
    let mut pages = std::pin::pin!(follow(store, Position::ZERO, filter, limit));
    loop {
        let page = tokio::select! {
            page = pages.next() => page.expect("it never ends").unwrap(),
            _ = end.wait_for(|end| *end == Some(at)) => return seen,
        };
        assert!(page.through > at, "every page moves on");
        take(&page, &mut at, &mut seen);
    }
}

fn take(page: &Page, at: &mut Position, seen: &mut Vec<u64>) {
    assert!(page.through >= *at);
    assert!(
        page.events
            .iter()
            .all(|event| event.position <= page.through)
    );
    seen.extend(page.events.iter().map(|event| event.position.get()));
    *at = page.through;
}

pub async fn readers_skip_nothing_while_sixteen_writers_append_and_some_commits_are_slow(log: Log) {
    let stores = [
        log.open().await,
        log.open().await,
        log.open().await,
        log.open().await,
    ];
    let over = Arc::new(AtomicBool::new(false));
    let mut background = JoinSet::new();
    slow_commits(&log, &mut background, &over).await;

    let (ended, end) = watch::channel(None);
    let mut readers = JoinSet::new();
    for (index, store) in stores.iter().enumerate() {
        for partition in [None, Some(Partition(index as u16))] {
            let filter = Filter {
                partition,
                ..Filter::default()
            };
            let (one, two) = (Arc::clone(store), Arc::clone(store));
            let (copy, first, second) = (filter.clone(), end.clone(), end.clone());
            readers.spawn(async move {
                let seen = read_all(one, copy, 1 + 10 * index, first).await;
                (partition, seen)
            });
            readers.spawn(async move {
                let seen = follow_all(two, filter, 1 + 30 * index, second).await;
                (partition, seen)
            });
        }
    }
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&stores[(writer % 4) as usize]);
        tokio::spawn(async move {
            for i in 0..APPENDS {
                let thing = stream(&format!("thing-{writer}-{}", i % 5));
                store
                    .append(append(&thing, exactly(i / 5 * 2), 2))
                    .await
                    .unwrap();
            }
        })
    });
    for writer in join_all(writers).await {
        writer.unwrap();
    }
    let events = verified(&*stores[0]).await;
    assert_eq!(events.len() as u64, TOTAL);
    ended.send_replace(events.last().map(|event| event.position));
    while let Some(reader) = tokio::time::timeout(PATIENCE, readers.join_next())
        .await
        .expect("readers arrive")
    {
        let (partition, seen) = reader.unwrap();
        let expected: Vec<u64> = events
            .iter()
            .filter(|event| {
                partition.is_none_or(|partition| partition_of(&event.stream, 8) == partition)
            })
            .map(|event| event.position.get())
            .collect();
        assert_eq!(
            seen, expected,
            "each event once, in order, in partition {partition:?}"
        );
    }
    over.store(true, Ordering::Relaxed);
    background.join_all().await;
}

pub async fn a_page_never_passes_an_append_that_is_not_committed(log: Log) {
    let (writer, reader) = (log.open().await, log.open().await);
    writer
        .append(append(&stream("thing-1"), exactly(0), 1))
        .await
        .unwrap();
    let held = log.hold().await;
    let thing = stream("thing-2");
    let mut waiting = Box::pin(writer.append(append(&thing, exactly(0), 1)));
    assert!((&mut waiting).now_or_never().is_none(), "it waits");
    let (reads, at) = (AtomicU64::new(0), reader.head().await.unwrap());
    while reads.fetch_add(1, Ordering::Relaxed) < 50 {
        let page = reader.read_all(at, &Filter::default(), 10).await.unwrap();
        assert_eq!((page.events.len(), page.through), (0, at));
    }
    held.release().await;
    let position = waiting.await.unwrap().position;
    let page = reader.read_all(at, &Filter::default(), 10).await.unwrap();
    assert_eq!(
        (page.events.len(), page.through),
        (1, position),
        "an answered append is there for everybody"
    );
}

pub async fn filters_leave_out_the_rest_and_still_move_on(log: Log) {
    let store = log.open().await;
    let names = [
        "account-1",
        "session-1",
        "account-2",
        "audit-1",
        "account-3",
        "accounting-1",
    ];
    for name in names {
        store
            .append(append(&stream(name), exactly(0), 2))
            .await
            .unwrap();
    }
    let all = verified(&*store).await;
    let check = |filter: Filter, limit: usize| {
        let (store, all) = (Arc::clone(&store), &all);
        async move {
            let (mut at, mut seen) = (Position::ZERO, vec![]);
            while at < all[11].position {
                let page = store.read_all(at, &filter, limit).await.unwrap();
                assert!(page.through > at && page.events.len() <= limit);
                take(&page, &mut at, &mut seen);
            }
            let expected: Vec<u64> = all
                .iter()
                .filter(|e| {
                    filter.categories.is_empty()
                        || filter.categories.iter().any(|c| c == e.stream.category())
                })
                .filter(|e| {
                    filter
                        .partition
                        .is_none_or(|partition| partition_of(&e.stream, 8) == partition)
                })
                .map(|e| e.position.get())
                .collect();
            assert_eq!(seen, expected, "{filter:?} by {limit}");
        }
    };
    for limit in [1, 3, 100] {
        for partition in (0..8).map(|n| Some(Partition(n))).chain([None]) {
            for categories in [
                vec![],
                vec!["account"],
                vec!["session", "audit"],
                vec!["'; --"],
                vec!["acc"],
            ] {
                let categories = categories.into_iter().map(String::from).collect();
                check(
                    Filter {
                        partition,
                        categories,
                    },
                    limit,
                )
                .await;
            }
        }
    }
}
