//! Generations: made once, live one at a time, switched without going back.

use events::LogIdentity;
use read_models::{Error, ReadModel, RowWrites};
use uuid::Uuid;

use crate::database::{
    Database, Prepared, account, accounts, at, id, log, on_every, prepared, upserts,
};

on_every!(
    preparing_again_gives_the_same_generation,
    many_processes_prepare_at_once,
    a_definition_that_is_wrong_is_refused,
    a_changed_definition_is_built_beside_the_live_one,
    a_swap_waits_until_every_partition_has_caught_up,
    another_log_or_epoch_gets_a_generation_of_its_own,
);

async fn preparing_again_gives_the_same_generation(database: Database) {
    let p = prepared(database, accounts()).await;
    p.commit(0, 1, &upserts([account(1, 1, "open")]))
        .await
        .unwrap();
    let again = p
        .database
        .open()
        .await
        .prepare(&accounts(), log(1))
        .await
        .unwrap();
    assert_eq!(again, p.generation);
    assert_eq!(
        again.table,
        format!("accounts_{}_g1", &accounts().definition_hash()[..8])
    );
    assert_eq!(
        p.store.checkpoints(&again).await.unwrap(),
        (log(1), vec![at(1), at(0), at(0), at(0)])
    );
    assert_eq!(p.store.live("accounts").await.unwrap(), Some(again));
}

async fn many_processes_prepare_at_once(database: Database) {
    let mut processes = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let database = database.share();
        processes.spawn(async move {
            // Opening migrates, so the first migration is raced for as well.
            let store = database.open().await;
            store.prepare(&accounts(), log(1)).await.unwrap()
        });
    }
    let generations = processes.join_all().await;
    assert!(generations.iter().all(|g| *g == generations[0]));
    assert_eq!(generations[0].number, 1);
    let store = database.open().await;
    let (_, checkpoints) = store.checkpoints(&generations[0]).await.unwrap();
    assert_eq!(checkpoints, [at(0); 4]);
}

async fn a_definition_that_is_wrong_is_refused(database: Database) {
    let store = database.open().await;
    let refused = store.prepare(&ReadModel::new("no-key"), log(1)).await;
    assert!(matches!(refused, Err(Error::Invalid(problem)) if problem.contains("no-key")));
    let none = LogIdentity {
        partitions: 0,
        ..log(1)
    };
    assert!(matches!(
        store.prepare(&accounts(), none).await,
        Err(Error::Invalid(_))
    ));
}

async fn next(first: &Prepared) -> Prepared {
    prepared(first.database.share(), accounts().revision(2)).await
}

async fn a_changed_definition_is_built_beside_the_live_one(database: Database) {
    let old = prepared(database, accounts()).await;
    old.commit(0, 1, &upserts([account(1, 1, "old")]))
        .await
        .unwrap();
    let new = next(&old).await;
    assert_eq!((new.generation.number, old.generation.number), (2, 1));
    new.commit(0, 1, &upserts([account(1, 1, "new")]))
        .await
        .unwrap();
    assert_eq!(
        old.store.live("accounts").await.unwrap(),
        Some(old.generation.clone())
    );
    assert_eq!(old.stored(0, &[id(1)]).await, [account(1, 1, "old")]);
    assert_eq!(new.stored(0, &[id(1)]).await, [account(1, 1, "new")]);
}

async fn a_swap_waits_until_every_partition_has_caught_up(database: Database) {
    let old = prepared(database, accounts()).await;
    let new = next(&old).await;
    old.commit_to(2, 0, 5, &RowWrites::default()).await.unwrap();
    new.commit_to(1, 0, 9, &RowWrites::default()).await.unwrap();
    assert!(!new.store.swap(&new.generation).await.unwrap());
    new.commit_to(2, 0, 4, &RowWrites::default()).await.unwrap();
    assert!(!new.store.swap(&new.generation).await.unwrap());
    assert_eq!(
        new.store.live("accounts").await.unwrap(),
        Some(old.generation.clone())
    );
    new.commit_to(2, 4, 5, &RowWrites::default()).await.unwrap();
    assert!(new.store.swap(&new.generation).await.unwrap());
    assert!(
        new.store.swap(&new.generation).await.unwrap(),
        "a swap again is a success again"
    );
    assert_eq!(
        old.store.live("accounts").await.unwrap(),
        Some(new.generation.clone())
    );
}

async fn another_log_or_epoch_gets_a_generation_of_its_own(database: Database) {
    let p = prepared(database, accounts()).await;
    p.commit(0, 7, &upserts([account(1, 7, "restored away")]))
        .await
        .unwrap();
    let restored = LogIdentity {
        epoch: Uuid::from_u128(77),
        ..log(1)
    };
    for (number, log) in [
        (2, restored),
        (3, log(2)),
        (
            4,
            LogIdentity {
                partitions: 8,
                ..log(2)
            },
        ),
    ] {
        let generation = p.store.prepare(&accounts(), log).await.unwrap();
        assert_eq!(generation.number, number);
        assert_eq!(
            p.store.live("accounts").await.unwrap(),
            Some(generation.clone())
        );
        let (stored, checkpoints) = p.store.checkpoints(&generation).await.unwrap();
        assert_eq!(
            (stored, checkpoints),
            (log, vec![at(0); usize::from(log.partitions)])
        );
    }
    // The first log's table is still there, and cannot be swapped in by its positions.
    assert_eq!(p.checkpoint(0).await, at(7));
    assert!(!p.store.swap(&p.generation).await.unwrap());
    assert_eq!(
        p.store.prepare(&accounts(), log(1)).await.unwrap(),
        p.generation
    );
    assert_eq!(
        p.stored(0, &[id(1)]).await,
        [account(1, 7, "restored away")]
    );
}
