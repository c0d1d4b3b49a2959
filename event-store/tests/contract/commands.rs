//! A command is appended once, for ever, from whichever process.

use event_store::{AppendError, Appended, Expected};
use futures::future::{FutureExt, join_all};

use super::log::{Log, append, exactly, seen, stream, verified, verified_once};

pub async fn a_repeated_command_gets_its_first_answer_from_any_process_and_after_reopening(
    log: Log,
) {
    let store = log.open().await;
    let thing = stream("thing-1");
    let first = append(&thing, exactly(0), 3);
    let answer = store.append(first.clone()).await.unwrap();
    let again = Appended {
        repeated: true,
        ..answer.clone()
    };
    store.append(append(&thing, exactly(3), 1)).await.unwrap();

    assert_eq!(
        store.append(first.clone()).await.unwrap(),
        again,
        "though the version moved on"
    );
    let other = log.open().await;
    assert_eq!(
        other.append(first.clone()).await.unwrap(),
        again,
        "from another process"
    );
    let mut any = first.clone();
    any.expected = Expected::Any;
    assert_eq!(
        other.append(any).await.unwrap(),
        again,
        "whatever is expected"
    );
    assert_eq!(
        other.find_command(first.command_id).await.unwrap(),
        Some((thing.clone(), again.clone()))
    );
    assert_eq!(
        other
            .find_command(append(&thing, exactly(0), 1).command_id)
            .await
            .unwrap(),
        None
    );
    store.close().await;
    other.close().await;
    drop((store, other));
    let reopened = log.open().await;
    assert_eq!(
        reopened.append(first).await.unwrap(),
        again,
        "after reopening"
    );
    assert_eq!(verified(&*reopened).await.len(), 4);
}

pub async fn a_command_twice_in_one_batch_is_appended_once(log: Log) {
    let store = log.open().await;
    let thing = stream("thing-1");
    let twice = append(&thing, exactly(0), 2);
    let mut elsewhere = twice.clone();
    elsewhere.stream = stream("thing-2");
    let held = log.hold().await;
    let batch = [
        &twice,
        &twice,
        &elsewhere,
        &append(&thing, exactly(2), 1),
        &twice,
    ];
    let mut waiting: Vec<_> = batch
        .iter()
        .map(|one| Box::pin(store.append((*one).clone())))
        .collect();
    assert!(
        waiting.iter_mut().all(|one| one.now_or_never().is_none()),
        "they wait"
    );
    held.release().await;
    let answers = join_all(waiting).await;
    let first = answers[0].as_ref().unwrap();
    assert_eq!(seen(first), (1, 2, false));
    for again in [&answers[1], &answers[4]] {
        assert_eq!(
            *again.as_ref().unwrap(),
            Appended {
                repeated: true,
                ..first.clone()
            }
        );
    }
    assert!(
        matches!(answers[2], Err(AppendError::OtherStream)),
        "{:?}",
        answers[2]
    );
    assert_eq!(seen(answers[3].as_ref().unwrap()), (3, 3, false));
    assert_eq!(verified(&*store).await.len(), 3);
}

pub async fn a_command_on_another_stream_is_refused(log: Log) {
    let (store, other) = (log.open().await, log.open().await);
    let first = append(&stream("thing-1"), exactly(0), 1);
    store.append(first.clone()).await.unwrap();
    for (store, expected) in [
        (&store, exactly(0)),
        (&other, Expected::Exists),
        (&other, exactly(7)),
    ] {
        let mut elsewhere = first.clone();
        (elsewhere.stream, elsewhere.expected) = (stream("thing-2"), expected);
        let refused = store.append(elsewhere).await.unwrap_err();
        assert!(matches!(refused, AppendError::OtherStream), "{refused}");
    }
    assert_eq!(verified(&*store).await.len(), 1);
}

pub async fn the_same_commands_raced_by_two_processes_are_appended_once(log: Log) {
    let (one, two) = (log.open().await, log.open().await);
    let appends: Vec<_> = (0..300)
        .map(|i| {
            let thing = stream(&format!("thing-{}", i % 40));
            append(&thing, if i < 40 { exactly(0) } else { Expected::Any }, 1)
        })
        .collect();
    let race = |store| {
        join_all(appends.iter().map(move |append| {
            let store: &dyn event_store::EventStore = store;
            store.append(append.clone())
        }))
    };
    let (left, right) = tokio::join!(race(&*one), race(&*two));
    let mut commands = vec![];
    for ((append, left), right) in appends.iter().zip(left).zip(right) {
        commands.push(append.command_id);
        match (left, right) {
            (Ok(left), Ok(right)) => {
                if one.gapless() {
                    assert_ne!(left.repeated, right.repeated, "one of them was first");
                } else {
                    // EventStoreDB cannot tell the same content sent by two from the same sent twice by one.
                    assert!(!(left.repeated && right.repeated), "one of them was first");
                }
                assert_eq!(left.position, right.position);
                assert_eq!(left.hash, right.hash);
            }
            // The stream was begun by an append to whatever is there that overtook this one.
            (Err(AppendError::WrongVersion { .. }), Err(AppendError::WrongVersion { .. })) => {
                commands.pop();
            }
            answers => panic!("{answers:?}"),
        }
    }
    assert!(commands.len() >= 260);
    verified_once(&*one, &commands).await;
}

pub async fn a_failed_command_may_be_tried_again(log: Log) {
    let store = log.open().await;
    let thing = stream("thing-1");
    let mut later = append(&thing, exactly(1), 1);
    let refused = store.append(later.clone()).await.unwrap_err();
    assert!(
        matches!(refused, AppendError::WrongVersion { .. }),
        "{refused}"
    );
    assert_eq!(store.find_command(later.command_id).await.unwrap(), None);
    later.expected = exactly(0);
    assert_eq!(seen(&store.append(later).await.unwrap()), (1, 1, false));
    assert_eq!(verified(&*store).await.len(), 1);
}
