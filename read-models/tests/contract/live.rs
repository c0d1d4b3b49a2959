//! The live generation: what readers see of it, before, at and after a switch, and how soon.

use std::time::Duration;

use events::{LogIdentity, Partition, Position, StreamId, Version};
use read_models::{
    Acted, ColumnType, Commit, CommitError, Error, Filter, OperatedStore, Parked, Query, ReadModel,
    RowWrites, Wish,
};
use test_support::eventually;
use uuid::Uuid;

use crate::database::{
    Database, Prepared, account, accounts, at, id, log, on_both, prepared_to_read, row, upserts,
};

on_both!(
    a_changed_definition_is_served_by_the_old_table_where_that_can_be,
    rows_of_another_log_are_not_shown,
    a_switch_is_seen_by_readers_at_once_and_can_be_taken_back,
    a_view_follows_the_live_table_whatever_its_columns,
    status_tells_everything_of_the_live_generation,
    an_index_is_made_when_it_is_declared_and_no_row_is_built_anew,
    waiters_hear_of_a_commit,
    what_an_operator_did_to_the_tables_is_a_refusal_or_a_fault,
    a_generation_that_is_gone_is_told,
);

async fn a_changed_definition_is_served_by_the_old_table_where_that_can_be(database: Database) {
    let old = prepared_to_read(database, accounts()).await;
    old.commit(0, 1, &upserts([account(1, 1, "old")]))
        .await
        .unwrap();
    let new = prepared_to_read(old.database.share(), accounts().revision(2)).await;
    // Whoever reads with the new definition is served by the old table too: its columns are there.
    assert_eq!(new.get(&id(1)).await.unwrap()[1], "old".into());
    // Where they are not, the answer is "not built yet" and no guess.
    let more = accounts().column("city", ColumnType::Text);
    let refused = old.store.get(&more, &id(1)).await;
    assert!(matches!(refused, Err(Error::Unavailable(problem)) if problem.contains("city")));
}

async fn rows_of_another_log_are_not_shown(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(0, 7, &upserts([account(1, 7, "restored away")]))
        .await
        .unwrap();
    let restored = LogIdentity {
        epoch: Uuid::from_u128(77),
        ..log(1)
    };
    p.store.prepare(&accounts(), restored).await.unwrap();
    assert_eq!(p.get(&id(1)).await, None);
    p.store.prepare(&accounts(), log(1)).await.unwrap();
    assert_eq!(p.get(&id(1)).await.unwrap()[1], "restored away".into());
}

async fn a_switch_is_seen_by_readers_at_once_and_can_be_taken_back(database: Database) {
    let old = prepared_to_read(database, accounts()).await;
    let reader = old.database.open_read_only().await;
    assert!(old.store.swap(&old.generation).await.unwrap());
    let new = another(&old, 1).await;
    old.commit(0, 1, &upserts([account(1, 1, "old")]))
        .await
        .unwrap();
    new.commit(0, 1, &upserts([account(1, 1, "new")]))
        .await
        .unwrap();
    let back = async |version| {
        let version = Version::new(version);
        let acted = old.store.act(&old.model, log(1), version, &Wish::RollBack);
        acted.await.unwrap() == Acted::Done
    };
    for (step, generation, shown) in [
        (1, &old.generation, "old"),
        (2, &new.generation, "new"),
        (3, &old.generation, "old"),
        (4, &new.generation, "new"),
    ] {
        assert!(match step {
            1 => true,
            2 => old.store.swap(generation).await.unwrap(),
            version => back(version).await,
        });
        assert_eq!(
            reader.get(&accounts(), &id(1)).await.unwrap().unwrap()[1],
            shown.into()
        );
        let status = reader.status(&accounts()).await.unwrap().unwrap();
        assert_eq!(status.generation, *generation);
        let query = Query::new(&accounts(), Filter::ALL, 9);
        let list = reader.list(&accounts(), &query).await.unwrap().rows;
        assert_eq!(list[0][1], shown.into());
    }
    assert_eq!(reader.get(&accounts(), &id(2)).await.unwrap(), None);
}

/// Another build of the same definition, asked for by the event at this version.
async fn another(old: &Prepared<dyn OperatedStore>, version: u64) -> Prepared<dyn OperatedStore> {
    let (version, wish) = (Version::new(version), Wish::Build { compare: false });
    let acted = old.store.act(&old.model, log(1), version, &wish).await;
    assert_eq!(acted.unwrap(), Acted::Done);
    let builds = old.store.builds(&old.model.name, log(1)).await.unwrap();
    Prepared {
        database: old.database.share(),
        store: old.store.clone(),
        model: old.model.clone(),
        generation: builds.last().unwrap().generation.clone(),
    }
}

async fn a_view_follows_the_live_table_whatever_its_columns(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
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
    assert!(p.store.swap(&p.generation).await.unwrap());
    let generation = p.store.prepare(&changed, log(1)).await.unwrap();
    p.store
        .commit(Commit {
            model: &changed,
            generation: &generation,
            partition: Partition(0),
            from: at(0),
            to: at(1),
            writes: &upserts([(id(1), row(0, 1, [41.into()]))]),
        })
        .await
        .unwrap();
    assert!(p.store.swap(&generation).await.unwrap());
    assert_eq!(
        p.database
            .number("SELECT visits + 1 FROM {view}accounts")
            .await,
        42
    );
    let back = p
        .store
        .act(&p.model, log(1), Version::new(1), &Wish::RollBack);
    assert_eq!(back.await.unwrap(), Acted::Done);
    assert_eq!(
        p.database.number("SELECT logins FROM {view}accounts").await,
        1
    );
}

async fn status_tells_everything_of_the_live_generation(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let parked = Parked {
        stream: StreamId::parse("account-1").unwrap(),
        partition: Partition(2),
        position: Position::new(4),
        error: "no".into(),
    };
    let park = RowWrites {
        park: vec![parked.clone()],
        ..RowWrites::default()
    };
    p.commit_to(2, 0, 5, &park).await.unwrap();
    let status = p.store.status(&accounts()).await.unwrap().unwrap();
    assert_eq!(
        (status.generation, status.log),
        (p.generation.clone(), log(1))
    );
    assert_eq!(
        (status.checkpoints, status.parked),
        (vec![at(0), at(0), at(5), at(0)], vec![parked])
    );
    assert!(
        p.store
            .status(&ReadModel::new("nothing"))
            .await
            .unwrap()
            .is_none()
    );
}

async fn an_index_is_made_when_it_is_declared_and_no_row_is_built_anew(database: Database) {
    let longest = format!("a{}", "-b".repeat(17));
    let model = |name: &str| ReadModel {
        name: name.to_owned(),
        ..accounts()
    };
    for name in ["accounts", &longest] {
        let p = prepared_to_read(database.share(), model(name)).await;
        let counted = if p.database.is_sqlite() {
            format!(
                "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = '{}'",
                p.generation.table
            )
        } else {
            format!(
                "SELECT COUNT(*) - 1 FROM pg_indexes WHERE tablename = '{}'",
                p.generation.table
            )
        };
        assert_eq!(p.database.number(&counted).await, 0);
        p.commit(0, 1, &upserts([account(1, 1, "open")]))
            .await
            .unwrap();
        let indexed = model(name)
            .index(&["status"])
            .index(&["status", "logins", "account_id"]);
        for _ in 0..2 {
            let again = p.store.prepare(&indexed, log(1)).await.unwrap();
            assert_eq!(again, p.generation);
            assert_eq!(p.database.number(&counted).await, 2);
        }
        assert_eq!(p.get(&id(1)).await.unwrap()[1], "open".into());
    }
}

async fn waiters_hear_of_a_commit(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let reader = p.database.open_read_only().await;
    let long = Duration::from_secs(20);
    // A listening connection takes a moment; what comes in until then is answered by the database's own pause.
    let mut changes = reader.changes();
    let mut seen = 0;
    for step in 0..5 {
        p.commit(step, step + 1, &RowWrites::default())
            .await
            .unwrap();
        let position = || async {
            let status = reader.status(&accounts()).await.unwrap().unwrap();
            status.checkpoints[0].position.get()
        };
        while position().await <= seen {
            tokio::time::timeout(long, changes.changed(long))
                .await
                .expect("a waiter was left waiting");
        }
        seen = position().await;
    }
    assert_eq!(seen, 5);
    eventually(long, || async {
        reader.wait_for_change(long).await;
        true
    })
    .await;
}

/// What the database itself says of the rows is a refusal too: here an operator's own constraint.
async fn what_an_operator_did_to_the_tables_is_a_refusal_or_a_fault(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.database
        .run(&format!(
            "CREATE UNIQUE INDEX once ON \"{}\" (status)",
            p.generation.table
        ))
        .await;
    let twice = upserts([account(1, 1, "same"), account(2, 1, "same")]);
    assert!(matches!(
        p.commit(0, 1, &twice).await,
        Err(CommitError::Refused(_))
    ));
    // A fault of the database is not.
    p.database
        .run(&format!(
            "DROP TABLE \"{}\"{}",
            p.generation.table,
            if p.database.is_sqlite() {
                ""
            } else {
                " CASCADE"
            }
        ))
        .await;
    assert!(matches!(
        p.commit(0, 1, &upserts([account(1, 1, "x")])).await,
        Err(CommitError::Fault(_))
    ));
}

async fn a_generation_that_is_gone_is_told(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.database.run(&format!("DELETE FROM checkpoints WHERE generation = '{0}'; DELETE FROM generations WHERE table_name = '{0}'", p.generation.table)).await;
    assert!(matches!(
        p.commit(0, 1, &RowWrites::default()).await,
        Err(CommitError::Fenced)
    ));
    assert!(
        p.store
            .checkpoints(&p.generation)
            .await
            .unwrap_err()
            .to_string()
            .contains("not there any more")
    );
}
