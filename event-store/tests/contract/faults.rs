//! Connections and servers that fail in the middle of an append: what was answered is there once, and what was not may
//! be tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_store::{AppendError, EventStore, Expected};
use events::CommandId;
use futures::future::join_all;
use sqlx::{Connection, PgConnection};
use test_support::Postgres;

use super::log::{Log, append, exactly, seen, stream, verified, verified_once};
use super::proxy::{Loss, Proxy};

/// 64 tasks append to streams of their own; every append must be answered. Gives their commands.
pub async fn storm(store: &Arc<dyn EventStore>, appends: u64) -> Vec<CommandId> {
    let tasks = (0..64).map(|task| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let thing = stream(&format!("thing-{task}"));
            let mut commands = vec![];
            for version in 0..appends {
                let append = append(&thing, exactly(version), 1);
                commands.push(append.command_id);
                let answer = store.append(append.clone()).await.unwrap();
                assert_eq!(seen(&answer), (version + 1, version + 1, false));
                if version % 5 == 0 {
                    let again = store.append(append).await.unwrap();
                    assert_eq!((again.position, again.hash), (answer.position, answer.hash));
                }
            }
            commands
        })
    });
    join_all(tasks)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect()
}

pub async fn appends_wait_for_a_lock_that_is_held_long(log: Log) {
    let store = log.open().await;
    let held = log.hold().await;
    let release = async {
        // Longer than one try for the lock waits on SQLite and on PostgreSQL.
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        held.release().await;
    };
    let things: Vec<_> = (0..20).map(|i| stream(&format!("thing-{i}"))).collect();
    let appends = join_all(
        things
            .iter()
            .map(|thing| store.append(append(thing, exactly(0), 1))),
    );
    let (answers, ()) = tokio::join!(appends, release);
    for answer in answers {
        assert_eq!(seen(&answer.unwrap()), (1, 1, false));
    }
    assert_eq!(verified(&*store).await.len(), 20);
}

pub async fn what_was_answered_is_there_after_reopening(log: Log) {
    let store = log.open().await;
    let identity = store.identity();
    let commands = storm(&store, 10).await;
    // Not closed: as if the process had died.
    drop(store);
    let reopened = log.open().await;
    assert_eq!(reopened.identity(), identity);
    verified_once(&*reopened, &commands).await;
    assert_eq!(
        seen(
            &reopened
                .append(append(&stream("thing-0"), exactly(10), 1))
                .await
                .unwrap()
        ),
        (11, 11, false)
    );
}

pub async fn killed_connections_lose_and_repeat_nothing(log: Log) {
    let store = log.open().await;
    let over = Arc::new(AtomicBool::new(false));
    let killer = tokio::spawn({
        let (url, over) = (log.url.clone(), Arc::clone(&over));
        async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let mut killed = 0;
            while !over.load(Ordering::Relaxed) {
                // Whoever waits or works for an append right now.
                let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = \
                            current_database() AND query LIKE '%append_v1%' AND pid <> pg_backend_pid()";
                killed += sqlx::query_scalar::<_, i64>(kill)
                    .fetch_one(&mut connection)
                    .await
                    .unwrap();
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
            killed
        }
    });
    let commands = storm(&store, 40).await;
    over.store(true, Ordering::Relaxed);
    assert!(killer.await.unwrap() > 0, "connections were killed");
    assert_eq!(commands.len(), 64 * 40);
    verified_once(&*store, &commands).await;
}

pub async fn a_commit_whose_answer_is_lost_is_found_and_not_repeated(log: Log) {
    let direct = log.open().await;
    let proxy = Proxy::start(&log.url).await;
    let store = event_store::open(&proxy.url, event_store::Options::default())
        .await
        .unwrap();
    store
        .append(append(&stream("thing-0"), exactly(0), 1))
        .await
        .unwrap();
    for round in 1..=5 {
        proxy.lose(Loss::Answer, round as usize);
        let thing = stream(&format!("thing-{round}"));
        let mut appends: Vec<_> = (0..30).map(|_| append(&thing, Expected::Any, 1)).collect();
        appends[17].events[0].type_name = Proxy::MARK.into();
        let answers = join_all(appends.iter().map(|append| store.append(append.clone()))).await;
        for answer in answers {
            assert!(
                !answer.unwrap().repeated,
                "to its caller it is the first answer"
            );
        }
        let commands: Vec<CommandId> = appends.iter().map(|append| append.command_id).collect();
        verified_once(&*direct, &commands).await;
        assert_eq!(
            proxy.lost(),
            round as usize * (round as usize + 1) / 2,
            "answers were lost"
        );
    }
    // A conflict behind an unknown commit is still a conflict.
    proxy.lose(Loss::Answer, 1);
    let mut winner = append(&stream("thing-0"), exactly(1), 1);
    winner.events[0].type_name = Proxy::MARK.into();
    let (won, lost) = tokio::join!(
        store.append(winner),
        store.append(append(&stream("thing-0"), exactly(1), 1))
    );
    assert_eq!(seen(&won.unwrap()), (2, 2, false));
    assert!(
        matches!(lost, Err(AppendError::WrongVersion { actual }) if actual.get() == 2),
        "{lost:?}"
    );
}

pub async fn a_batch_that_never_arrived_is_sent_again(log: Log) {
    let proxy = Proxy::start(&log.url).await;
    let store = event_store::open(&proxy.url, event_store::Options::default())
        .await
        .unwrap();
    proxy.lose(Loss::Request, 3);
    let mut one = append(&stream("thing-1"), exactly(0), 1);
    one.events[0].type_name = Proxy::MARK.into();
    assert_eq!(seen(&store.append(one).await.unwrap()), (1, 1, false));
    assert_eq!(proxy.lost(), 3);
    assert_eq!(verified(&*store).await.len(), 1);
}

pub async fn appends_outlive_a_crash_of_the_server() {
    let server = Postgres::start().await;
    let url = server.fresh_database().await;
    let store = event_store::open(&url, event_store::Options::default())
        .await
        .unwrap();
    let crash = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.kill().await;
        server.restart().await;
    };
    let (commands, ()) = tokio::join!(storm(&store, 60), crash);
    verified_once(&*store, &commands).await;
    // Down for longer than anybody waits: an error, and the same command later is appended once.
    server.stop().await;
    let late = append(&stream("thing-late"), exactly(0), 1);
    let refused = store.append(late.clone()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            AppendError::Fault(event_store::Error::Unavailable(_))
        ),
        "{refused}"
    );
    server.restart().await;
    store.append(late.clone()).await.unwrap();
    assert!(store.append(late).await.unwrap().repeated);
    assert_eq!(verified(&*store).await.len(), 64 * 60 + 1);
}

/// As after a failover to a replica that had not received everything.
pub async fn a_server_that_was_set_back_is_noticed(log: Log) {
    let store = log.open().await;
    let thing = stream("thing-1");
    for version in 0..3 {
        store
            .append(append(&thing, exactly(version), 1))
            .await
            .unwrap();
    }
    log.execute(
        "",
        "DELETE FROM showcaller_events.events WHERE position = 3; \
         UPDATE showcaller_events.head SET position = 2; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'showcaller-events' AND datname = current_database()",
    )
    .await;
    let ahead = store
        .append(append(&thing, exactly(3), 1))
        .await
        .unwrap_err();
    assert!(
        matches!(ahead, AppendError::WrongVersion { actual } if actual.get() == 2),
        "{ahead}"
    );
    store
        .append(append(&thing, Expected::Exists, 1))
        .await
        .unwrap();
    assert_eq!(verified(&*store).await.len(), 3);
}
