//! Generations: made once, live one at a time, switched without going back.

use events::LogIdentity;
use read_models::{ColumnType, Error, ReadModel, RowWrites};
use uuid::Uuid;

use crate::database::{
    Database, Prepared, account, accounts, at, id, log, on_both, prepared, upserts,
};

on_both!(
    preparing_again_gives_the_same_generation,
    many_processes_prepare_at_once,
    a_definition_that_is_wrong_is_refused,
    a_changed_definition_is_built_beside_the_live_one,
    a_swap_waits_until_every_partition_has_caught_up,
    a_switch_is_seen_by_readers_at_once_and_can_be_taken_back,
    another_log_or_epoch_gets_a_generation_of_its_own,
    a_view_follows_the_live_table_whatever_its_columns,
    status_tells_everything_of_the_live_generation,
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
        let url = database.url.clone();
        processes.spawn(async move {
            // Opening migrates, so the first migration is raced for as well.
            let store = read_models::open(&url, read_models::Options::default())
                .await
                .unwrap();
            store.prepare(&accounts(), log(1)).await.unwrap()
        });
    }
    let generations = processes.join_all().await;
    assert!(generations.iter().all(|g| *g == generations[0]));
    assert_eq!(database.number("SELECT COUNT(*) FROM generations").await, 1);
    assert_eq!(database.number("SELECT COUNT(*) FROM checkpoints").await, 4);
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

/// The same read model with one more revision; `first` keeps the live table.
async fn next(first: &Prepared) -> Prepared {
    let model = accounts().revision(2);
    let store = first.database.open().await;
    let generation = store.prepare(&model, log(1)).await.unwrap();
    let database = Database::sqlite();
    Prepared {
        database,
        store,
        model,
        generation,
    }
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
    // Whoever reads with the new definition is served by the old table too: its columns are there.
    assert_eq!(new.get(&id(1)).await.unwrap()[1], "old".into());
    // Where they are not, the answer is "not built yet" and no guess.
    let more = accounts().column("city", ColumnType::Text);
    let refused = old.store.get(&more, &id(1)).await;
    assert!(matches!(refused, Err(Error::Unavailable(problem)) if problem.contains("city")));
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

async fn a_switch_is_seen_by_readers_at_once_and_can_be_taken_back(database: Database) {
    let old = prepared(database, accounts()).await;
    let reader = old.database.open_read_only().await;
    let new = next(&old).await;
    old.commit(0, 1, &upserts([account(1, 1, "old")]))
        .await
        .unwrap();
    new.commit(0, 1, &upserts([account(1, 1, "new")]))
        .await
        .unwrap();
    for (generation, shown) in [
        (&old.generation, "old"),
        (&new.generation, "new"),
        (&old.generation, "old"),
    ] {
        assert!(old.store.swap(generation).await.unwrap());
        assert_eq!(
            reader.get(&accounts(), &id(1)).await.unwrap().unwrap()[1],
            shown.into()
        );
        let status = reader.status("accounts").await.unwrap().unwrap();
        assert_eq!(status.generation, *generation);
        let list = reader
            .list(
                &accounts(),
                &read_models::ListQuery {
                    limit: 9,
                    ..Default::default()
                },
            )
            .await
            .unwrap();
        assert_eq!(list[0][1], shown.into());
    }
    assert_eq!(reader.get(&accounts(), &id(2)).await.unwrap(), None);
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
        assert_eq!(
            p.get(&id(1)).await,
            None,
            "rows of another log are not shown"
        );
    }
    // The first log's table is still there, and cannot be swapped in by its positions.
    assert_eq!(p.checkpoint(0).await, at(7));
    assert!(!p.store.swap(&p.generation).await.unwrap());
    assert_eq!(
        p.store.prepare(&accounts(), log(1)).await.unwrap(),
        p.generation
    );
    assert_eq!(p.get(&id(1)).await.unwrap()[1], "restored away".into());
}

async fn a_view_follows_the_live_table_whatever_its_columns(database: Database) {
    let p = prepared(database, accounts()).await;
    p.commit(0, 1, &upserts([account(1, 1, "open")]))
        .await
        .unwrap();
    assert_eq!(
        p.database
            .number("SELECT COUNT(*) FROM {view}accounts WHERE _position = 1")
            .await,
        1
    );
    let changed = ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("visits", ColumnType::Integer);
    let generation = p.store.prepare(&changed, log(1)).await.unwrap();
    p.store
        .commit(
            &changed,
            &generation,
            events::Partition(0),
            at(0),
            at(1),
            &upserts([(id(1), crate::database::row(0, 1, [41.into()]))]),
        )
        .await
        .unwrap();
    assert!(p.store.swap(&generation).await.unwrap());
    assert_eq!(
        p.database
            .number("SELECT visits + 1 FROM {view}accounts")
            .await,
        42
    );
    assert!(p.store.swap(&p.generation).await.unwrap());
    assert_eq!(
        p.database.number("SELECT logins FROM {view}accounts").await,
        1
    );
}

async fn status_tells_everything_of_the_live_generation(database: Database) {
    let p = prepared(database, accounts()).await;
    p.commit_to(2, 0, 5, &RowWrites::default()).await.unwrap();
    let status = p.store.status("accounts").await.unwrap().unwrap();
    assert_eq!(
        (status.generation, status.log),
        (p.generation.clone(), log(1))
    );
    assert_eq!(
        (status.checkpoints, status.parked),
        (vec![at(0), at(0), at(5), at(0)], vec![])
    );
    assert!(p.store.status("nothing").await.unwrap().is_none());
}
