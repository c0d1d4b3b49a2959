//! Commits: all or nothing, fenced by the checkpoint, whatever else happens.

use std::task::Poll;

use events::{Partition, Position, StreamId};
use read_models::{Commit, CommitError, Parked, RowWrites};

use crate::database::{
    Database, account, accounts, at, deletes, id, log, on_every, prepared, row, upserts,
};

on_every!(
    rows_and_checkpoint_are_written_together,
    a_commit_from_another_checkpoint_is_fenced_and_writes_nothing,
    two_workers_on_one_partition_double_nothing,
    thousands_of_rows_go_in_change_and_come_out_again,
    rows_that_cannot_be_stored_are_refused_and_nothing_is_written,
    a_row_of_another_partition_is_never_overwritten,
    a_commit_that_is_dropped_half_way_leaves_nothing,
    parked_streams_are_kept_with_their_first_reason,
    partitions_commit_beside_each_other,
    commits_made_together_are_each_what_they_are_alone,
);

async fn rows_and_checkpoint_are_written_together(database: Database) {
    let p = prepared(database, accounts()).await;
    p.commit(
        0,
        3,
        &upserts([account(1, 2, "open"), account(2, 3, "open")]),
    )
    .await
    .unwrap();
    p.commit(
        3,
        5,
        &RowWrites {
            deletes: vec![id(1)],
            ..upserts([account(2, 5, "closed")])
        },
    )
    .await
    .unwrap();
    assert_eq!(
        p.stored(0, &[id(1), id(2), id(3)]).await,
        [account(2, 5, "closed")]
    );
    assert_eq!(p.checkpoint(0).await, at(5));
    assert_eq!(p.checkpoint(1).await, at(0));
    p.commit(5, 6, &RowWrites::default()).await.unwrap();
    assert_eq!(p.checkpoint(0).await, at(6));
}

async fn a_commit_from_another_checkpoint_is_fenced_and_writes_nothing(database: Database) {
    let p = prepared(database, accounts()).await;
    p.commit(0, 3, &upserts([account(1, 3, "open")]))
        .await
        .unwrap();
    let wrong_position = p.commit(2, 4, &upserts([account(1, 4, "x")])).await;
    assert!(matches!(wrong_position, Err(CommitError::Fenced)));
    let mut wrong_digest = at(3);
    wrong_digest.digest = at(9).digest;
    let refused = p
        .store
        .commit(Commit {
            model: &p.model,
            generation: &p.generation,
            partition: Partition(0),
            from: wrong_digest,
            to: at(4),
            writes: &deletes([id(1)]),
        })
        .await;
    assert!(matches!(refused, Err(CommitError::Fenced)));
    assert_eq!(p.stored(0, &[id(1)]).await, [account(1, 3, "open")]);
}

/// Both load the checkpoint, one is paused, the other commits; then the first wakes up.
async fn two_workers_on_one_partition_double_nothing(database: Database) {
    let p = prepared(database, accounts()).await;
    let successor = p.database.open().await;
    let writes = |who: &str| upserts([account(1, 7, who)]);
    successor
        .commit(Commit {
            model: &p.model,
            generation: &p.generation,
            partition: Partition(0),
            from: at(0),
            to: at(7),
            writes: &writes("successor"),
        })
        .await
        .unwrap();
    assert!(matches!(
        p.commit(0, 7, &writes("paused")).await,
        Err(CommitError::Fenced)
    ));

    // And at the same moment, many times over: exactly one of them gets each step.
    let nothing = RowWrites::default();
    for step in 7..27 {
        let (one, other) = tokio::join!(
            p.commit(step, step + 1, &nothing),
            successor.commit(Commit {
                model: &p.model,
                generation: &p.generation,
                partition: Partition(0),
                from: at(step),
                to: at(step + 1),
                writes: &nothing
            }),
        );
        let fenced = [&one, &other]
            .iter()
            .filter(|r| matches!(r, Err(CommitError::Fenced)))
            .count();
        assert!(
            fenced == 1 && (one.is_ok() || other.is_ok()),
            "{one:?} {other:?}"
        );
    }
    assert_eq!(p.stored(0, &[id(1)]).await, [account(1, 7, "successor")]);
}

async fn thousands_of_rows_go_in_change_and_come_out_again(database: Database) {
    // The MongoDB-compatible server takes milliseconds a row.
    let count: u128 = if database.is_mongodb() { 2_500 } else { 10_000 };
    let p = prepared(database, accounts()).await;
    let rows = |position, status: &str| {
        (0..count)
            .map(|n| account(n, position, status))
            .collect::<Vec<_>>()
    };
    p.commit(0, 1, &upserts(rows(1, "open"))).await.unwrap();
    p.commit(1, 2, &upserts(rows(2, "closed"))).await.unwrap();
    let keys: Vec<_> = (0..=count).map(id).collect();
    assert_eq!(p.stored(0, &keys).await, rows(2, "closed"));
    p.commit(
        2,
        3,
        &deletes(keys.iter().take(count as usize - 1).cloned()),
    )
    .await
    .unwrap();
    assert_eq!(
        p.stored(0, &keys).await,
        rows(2, "closed")[count as usize - 1..]
    );
}

async fn rows_that_cannot_be_stored_are_refused_and_nothing_is_written(database: Database) {
    let p = prepared(database, accounts()).await;
    let nul = upserts([account(1, 1, "fine"), account(2, 1, "a\0b")]);
    assert!(matches!(
        p.commit(0, 1, &nul).await,
        Err(CommitError::Refused(_))
    ));
    let wrong_type = upserts([(id(1), row(0, 1, [1.into(), 1.into(), 1.into()]))]);
    assert!(matches!(
        p.commit(0, 1, &wrong_type).await,
        Err(CommitError::Refused(_))
    ));
    let too_few = upserts([(id(1), row(0, 1, []))]);
    assert!(matches!(
        p.commit(0, 1, &too_few).await,
        Err(CommitError::Refused(_))
    ));
    assert_eq!(p.stored(0, &[id(1), id(2)]).await, []);
    assert_eq!(p.checkpoint(0).await, at(0));
}

async fn a_row_of_another_partition_is_never_overwritten(database: Database) {
    let p = prepared(database, accounts()).await;
    p.commit_to(0, 0, 1, &upserts([account(1, 1, "zero")]))
        .await
        .unwrap();
    let stolen = p
        .commit_to(
            1,
            0,
            2,
            &upserts([account(2, 2, "one"), account(1, 2, "one")]),
        )
        .await;
    assert!(
        matches!(stolen, Err(CommitError::Refused(problem)) if problem.contains("another partition"))
    );
    p.commit_to(1, 0, 2, &deletes([id(1)])).await.unwrap();
    assert_eq!(p.stored(0, &[id(1), id(2)]).await, [account(1, 1, "zero")]);
}

async fn a_commit_that_is_dropped_half_way_leaves_nothing(database: Database) {
    let count = if database.is_mongodb() { 1_000 } else { 5_000 };
    let p = prepared(database, accounts()).await;
    // Where every answer is there before it is asked for, as on a busy machine, nothing is cut off: then once more.
    for from in 0..10_u64 {
        let (to, before) = (from + 1, u128::from(from) * count);
        let writes = upserts((0..count).map(|n| account(before + n, to, "half")));
        let mut cut = 0;
        // By steps, not by time: the first one only asks the database, on a machine of whatever speed.
        for steps in [1, 2, 3, 5, 8, 13, 40, 120] {
            let mut commit = Box::pin(p.commit(from, to, &writes));
            let mut left = steps;
            let ended = std::future::poll_fn(|context| {
                let polled = commit.as_mut().poll(context);
                left -= 1;
                match polled {
                    Poll::Pending if left > 0 => Poll::Pending,
                    polled => Poll::Ready(polled.is_ready()),
                }
            });
            if ended.await {
                break;
            }
            drop(commit);
            cut += 1;
            let (checkpoint, rows) = p.scanned(0).await;
            if checkpoint == at(to) {
                // It was cut off after the commit was sent: then all of it is there.
                assert_eq!(rows.len() as u128, before + count);
                return;
            }
            assert_eq!((checkpoint, rows.len() as u128), (at(from), before));
        }
        _ = p.commit(from, to, &writes).await;
        assert_eq!(p.scanned(0).await.1.len() as u128, before + count);
        if cut > 0 {
            return;
        }
    }
    panic!("nothing was cut off");
}

async fn parked_streams_are_kept_with_their_first_reason(database: Database) {
    let p = prepared(database, accounts()).await;
    let parked = |name: &str, position, error: &str| Parked {
        stream: StreamId::parse(name).unwrap(),
        partition: Partition(0),
        position: Position::new(position),
        error: error.into(),
    };
    let park = |streams: Vec<Parked>| RowWrites {
        park: streams,
        ..RowWrites::default()
    };
    p.commit(
        0,
        1,
        &park(vec![parked("account-ü'\"", 1, "no\0 such \u{1f600}")]),
    )
    .await
    .unwrap();
    p.commit(
        1,
        9,
        &park(vec![
            parked("account-ü'\"", 9, "later"),
            parked("account-2", 8, &"x".repeat(9_999)),
        ]),
    )
    .await
    .unwrap();
    let kept = p.store.parked(&p.generation).await.unwrap();
    assert_eq!(
        kept[0],
        parked("account-ü'\"", 1, "no\u{fffd} such \u{1f600}")
    );
    assert_eq!((kept.len(), kept[1].error.len()), (2, 2_000));
}

async fn partitions_commit_beside_each_other(database: Database) {
    let p = prepared(database, accounts()).await;
    let other = p.database.open().await;
    let rows = |partition: u16, step: u64| {
        let key = id(u128::from(partition) * 1000 + u128::from(step));
        upserts([(
            key,
            row(
                partition,
                step + 1,
                ["x".into(), None::<String>.into(), 1.into()],
            ),
        )])
    };
    let run = async |partition: u16| {
        let store = if partition.is_multiple_of(2) {
            &p.store
        } else {
            &other
        };
        for step in 0..50 {
            let writes = rows(partition, step);
            store
                .commit(Commit {
                    model: &p.model,
                    generation: &p.generation,
                    partition: Partition(partition),
                    from: at(step),
                    to: at(step + 1),
                    writes: &writes,
                })
                .await
                .unwrap();
        }
    };
    tokio::join!(run(0), run(1), run(2), run(3));
    for partition in 0..4 {
        let (checkpoint, rows) = p.scanned(partition).await;
        assert_eq!((checkpoint, rows.len()), (at(50), 50));
    }
}

async fn commits_made_together_are_each_what_they_are_alone(database: Database) {
    let p = prepared(database, accounts()).await;
    let mut generations = Vec::new();
    let models = ["first", "second", "third"].map(|name| read_models::ReadModel {
        name: name.into(),
        ..accounts()
    });
    for model in &models {
        generations.push(p.store.prepare(model, log(1)).await.unwrap());
    }
    let together = async |from: [u64; 3], to: u64, writes: &[RowWrites; 3]| {
        let commits: Vec<Commit<'_>> = (0..3)
            .map(|n| Commit {
                model: &models[n],
                generation: &generations[n],
                partition: Partition(0),
                from: at(from[n]),
                to: at(to),
                writes: &writes[n],
            })
            .collect();
        p.store.commit_together(&commits).await
    };
    let stored = async |n: usize| {
        let (checkpoint, rows) = p
            .store
            .scan(&models[n], &generations[n], Partition(0), None, 10)
            .await
            .unwrap();
        (checkpoint, rows)
    };

    let all = [
        upserts([account(1, 1, "open"), account(2, 1, "open")]),
        RowWrites::default(),
        upserts([account(3, 1, "open")]),
    ];
    let answers = together([0, 0, 0], 1, &all).await;
    assert!(answers.len() == 3 && answers.iter().all(Result::is_ok));

    // One is fenced, and the others go in; a row is removed beside.
    let some = [
        RowWrites {
            deletes: vec![id(1)],
            ..upserts([account(2, 2, "closed")])
        },
        upserts([account(4, 2, "open")]),
        upserts([account(3, 2, "closed")]),
    ];
    let answers = together([1, 0, 1], 2, &some).await;
    assert!(matches!(
        answers[..],
        [Ok(()), Err(CommitError::Fenced), Ok(())]
    ));
    assert_eq!(stored(0).await, (at(2), vec![account(2, 2, "closed")]));
    assert_eq!(stored(1).await, (at(1), vec![]));

    // One is refused, since its row stands for another partition; the others go in all the same.
    let elsewhere = upserts([account(9, 1, "open")]);
    p.store
        .commit(Commit {
            model: &models[2],
            generation: &generations[2],
            partition: Partition(1),
            from: at(0),
            to: at(1),
            writes: &elsewhere,
        })
        .await
        .unwrap();
    let last = [
        upserts([account(5, 3, "open")]),
        upserts([account(5, 3, "open")]),
        upserts([account(9, 3, "taken")]),
    ];
    let answers = together([2, 1, 2], 3, &last).await;
    assert!(matches!(
        answers[..],
        [Ok(()), Ok(()), Err(CommitError::Refused(_))]
    ));
    assert_eq!(stored(1).await, (at(3), vec![account(5, 3, "open")]));
    assert_eq!(stored(2).await, (at(2), vec![account(3, 2, "closed")]));
}
