//! The journal of changed rows: what changed since a place, in the transaction of the commit, and no part of it.

use std::collections::HashMap;

use events::{Position, StreamId};
use read_models::{
    Access, Changed, Checkpoint, ColumnType, Commit, CommitError, Filter, OperatedStore, Parked,
    Place, Query, ReadModel, Row, RowKey, RowWrites, Value,
};
use uuid::Uuid;

use crate::database::{
    Database, Prepared, account, accounts, at, deletes, id, log, on_both, prepared_to_read, row,
    sign_ups, upserts,
};

on_both!(
    the_keys_of_all_changed_rows_are_told_once,
    a_commit_that_is_fenced_or_refused_leaves_no_entry,
    a_commit_that_changes_nothing_moves_the_place,
    a_commit_of_too_many_rows_leaves_no_entry,
    shared_rows_are_told_by_the_key_that_readers_know,
    removed_rows_are_told_with_their_owners,
    keys_of_every_type_come_back,
    another_live_table_begins_anew,
    places_that_never_were_begin_anew,
    a_commit_of_an_older_version_breaks_the_journal,
    old_entries_are_let_go,
    a_database_of_the_first_format_is_migrated,
    rows_amended_behind_a_checkpoint_fence_workers_and_begin_readers_anew,
);

type P = Prepared<dyn OperatedStore>;

impl P {
    async fn place(&self) -> Place {
        let query = Query::new(&self.model, Filter::ALL, 0);
        self.store.list(&self.model, &query).await.unwrap().place
    }

    async fn since(&self, place: &Place) -> Option<Changed> {
        self.store.changes_since(&self.model, place).await.unwrap()
    }

    /// The changed keys since a place, and that they lead to now.
    async fn keys_since(&self, place: &Place) -> Vec<RowKey> {
        let changed = self.since(place).await.expect("the journal leads here");
        assert_eq!(changed.place, self.place().await);
        let mut keys: Vec<RowKey> = changed.rows.into_keys().collect();
        keys.sort();
        keys
    }
}

async fn the_keys_of_all_changed_rows_are_told_once(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let start = p.place().await;
    assert_eq!(p.keys_since(&start).await, Vec::<RowKey>::new());
    let both = upserts([account(1, 1, "a"), account(2, 1, "a")]);
    p.commit(0, 5, &both).await.unwrap();
    let middle = p.place().await;
    let mut more = upserts([account(2, 6, "b"), account(3, 6, "b")]);
    more.deletes.push(id(1));
    p.commit(5, 7, &more).await.unwrap();
    let (key, mut other) = account(9, 8, "c");
    other.partition = events::Partition(3);
    p.commit_to(3, 0, 8, &upserts([(key, other)]))
        .await
        .unwrap();
    assert_eq!(p.keys_since(&start).await, [id(1), id(2), id(3), id(9)]);
    assert_eq!(p.keys_since(&middle).await, [id(1), id(2), id(3), id(9)]);
    let now = p.place().await;
    assert_eq!(p.keys_since(&now).await, Vec::<RowKey>::new());
    assert!(now.covers(&middle) && middle.covers(&start) && !start.covers(&middle));
    // A reader that may not write sees the same.
    let reader = p.database.open_read_only().await;
    let seen = reader.changes_since(&p.model, &start).await.unwrap();
    assert_eq!(seen.unwrap().rows.len(), 4);
}

async fn a_commit_that_is_fenced_or_refused_leaves_no_entry(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let start = p.place().await;
    let one = upserts([account(1, 1, "a")]);
    p.commit(3, 5, &one).await.unwrap_err();
    p.commit(0, 5, &one).await.unwrap();
    // Another partition may not have the row.
    let (key, mut theirs) = account(1, 6, "b");
    theirs.partition = events::Partition(1);
    p.commit_to(1, 0, 6, &upserts([(key, theirs)]))
        .await
        .unwrap_err();
    assert_eq!(p.keys_since(&start).await, [id(1)]);
    let entries = p.database.number("SELECT COUNT(*) FROM changes").await;
    assert_eq!(entries, 1);
}

async fn a_commit_that_changes_nothing_moves_the_place(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let start = p.place().await;
    p.commit(0, 5, &RowWrites::default()).await.unwrap();
    let parked = Parked {
        stream: StreamId::parse("account-1").unwrap(),
        partition: events::Partition(0),
        position: Position::new(6),
        error: "no".into(),
    };
    let park = RowWrites {
        park: vec![parked],
        ..RowWrites::default()
    };
    p.commit(5, 6, &park).await.unwrap();
    assert_eq!(p.keys_since(&start).await, Vec::<RowKey>::new());
}

async fn a_commit_of_too_many_rows_leaves_no_entry(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let start = p.place().await;
    let rows = |n: u128| upserts((0..n).map(|i| account(i, 5, "a")));
    p.commit(0, 5, &rows(1_000)).await.unwrap();
    assert_eq!(p.keys_since(&start).await.len(), 1_000);
    p.commit(5, 6, &rows(1_001)).await.unwrap();
    assert!(p.since(&start).await.is_none());
    let after = p.place().await;
    p.commit(6, 7, &rows(1)).await.unwrap();
    assert_eq!(p.keys_since(&after).await, [id(0)]);
    // A reader too far behind begins anew, too.
    for step in 0..11_u64 {
        let rows = (0..1_000).map(|i| account(u128::from(step) * 1_000 + i, 5, "a"));
        p.commit(7 + step, 8 + step, &upserts(rows)).await.unwrap();
    }
    assert!(p.since(&after).await.is_none());
}

async fn shared_rows_are_told_by_the_key_that_readers_know(database: Database) {
    let p = prepared_to_read(database, sign_ups()).await;
    let start = p.place().await;
    let key: RowKey = vec!["2026-11-22".into(), "web".into()];
    for partition in [0, 2] {
        let one = (key.clone(), row(partition, 1, [1.into()]));
        p.commit_to(partition, 0, 1, &upserts([one])).await.unwrap();
    }
    assert_eq!(p.keys_since(&start).await, [key]);
}

/// Rows with an owner who is not part of the key.
fn keys_of_people() -> ReadModel {
    ReadModel::new("keys")
        .key("key_id", ColumnType::Uuid)
        .column("account_id", ColumnType::Uuid)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
}

async fn removed_rows_are_told_with_their_owners(database: Database) {
    let p = prepared_to_read(database, keys_of_people()).await;
    let owner = Uuid::from_u128;
    let of = |n: u128, who: Option<Uuid>| -> (RowKey, Row) { (id(n), row(0, 1, [who.into()])) };
    let rows = [of(1, Some(owner(7))), of(2, Some(owner(8))), of(3, None)];
    p.commit(0, 1, &upserts(rows)).await.unwrap();
    let start = p.place().await;
    // The fourth was never there.
    p.commit(1, 2, &deletes([id(3), id(4), id(2), id(1)]))
        .await
        .unwrap();
    let mut expected = HashMap::from([
        (id(1), vec![owner(7)]),
        (id(2), vec![owner(8)]),
        (id(3), vec![]),
        (id(4), vec![]),
    ]);
    assert_eq!(p.since(&start).await.unwrap().rows, expected);
    // It comes back as another's, and goes again: both had it.
    p.commit(2, 3, &upserts([of(1, Some(owner(9)))]))
        .await
        .unwrap();
    p.commit(3, 4, &deletes([id(1)])).await.unwrap();
    expected.insert(id(1), vec![owner(7), owner(9)]);
    assert_eq!(p.since(&start).await.unwrap().rows, expected);
}

async fn keys_of_every_type_come_back(database: Database) {
    use ColumnType as T;
    let model = ReadModel::new("wide")
        .key("a", T::Text)
        .key("b", T::Integer)
        .key("c", T::Boolean)
        .key("d", T::Timestamp)
        .key("e", T::Date)
        .key("f", T::Uuid)
        .column("n", T::Integer);
    let p = prepared_to_read(database, model).await;
    let start = p.place().await;
    let key: RowKey = vec![
        "ü, 'x'".into(),
        (-5).into(),
        true.into(),
        crate::database::moment(3).into(),
        Value::Date("2026-11-22".parse().unwrap()),
        Uuid::from_u128(5).into(),
    ];
    p.commit(0, 1, &upserts([(key.clone(), row(0, 1, [1.into()]))]))
        .await
        .unwrap();
    assert_eq!(p.keys_since(&start).await, std::slice::from_ref(&key));
    p.commit(1, 2, &deletes([key.clone()])).await.unwrap();
    assert_eq!(p.keys_since(&start).await, [key]);
}

async fn another_live_table_begins_anew(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(0, 1, &upserts([account(1, 1, "a")]))
        .await
        .unwrap();
    let start = p.place().await;
    let changed = accounts().revision(2);
    let generation = p.store.prepare(&changed, log(1)).await.unwrap();
    assert!(p.since(&start).await.is_some());
    let partition = events::Partition(0);
    let rows = upserts([account(1, 1, "a")]);
    p.store
        .commit(Commit {
            model: &changed,
            generation: &generation,
            partition,
            from: at(0),
            to: at(1),
            writes: &rows,
        })
        .await
        .unwrap();
    assert!(p.store.swap(&generation).await.unwrap());
    assert!(p.since(&start).await.is_none());
    let now = p.place().await;
    assert!(!now.covers(&start) && !now.is_of(&start));
    assert_eq!(p.keys_since(&now).await, Vec::<RowKey>::new());
}

async fn places_that_never_were_begin_anew(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(0, 5, &upserts([account(1, 1, "a")]))
        .await
        .unwrap();
    let now = p.place().await;
    let moved = |position: u64| {
        let mut place = now.clone();
        place.positions[0] = Position::new(position);
        place
    };
    assert!(p.since(&moved(6)).await.is_none(), "beyond the checkpoint");
    // Between two commits, as after a crash that undid others: what follows is told whole.
    assert_eq!(p.keys_since(&moved(3)).await, [id(1)]);
    let mut few = now.clone();
    few.positions.pop();
    p.store.changes_since(&p.model, &few).await.unwrap_err();
}

async fn a_commit_of_an_older_version_breaks_the_journal(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let start = p.place().await;
    p.commit(0, 1, &upserts([account(1, 1, "a")]))
        .await
        .unwrap();
    p.commit(1, 2, &upserts([account(2, 2, "a")]))
        .await
        .unwrap();
    p.database
        .run("DELETE FROM changes WHERE position = 1")
        .await;
    assert!(p.since(&start).await.is_none());
    p.database.run("DELETE FROM changes").await;
    assert!(p.since(&start).await.is_none());
}

async fn old_entries_are_let_go(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let start = p.place().await;
    for n in 0..4 {
        let one = upserts([account(u128::from(n), n + 1, "a")]);
        p.commit(n, n + 1, &one).await.unwrap();
    }
    p.store.prune_changes(&p.generation).await.unwrap();
    assert_eq!(p.keys_since(&start).await.len(), 4, "all are young");
    p.database
        .run(
            "UPDATE changes SET at = at - 86500 WHERE position = 2; \
             INSERT INTO changes (generation, partition, position, since, keys) SELECT 'gone', 0, position, 0, keys FROM changes",
        )
        .await;
    p.store.prune_changes(&p.generation).await.unwrap();
    assert!(p.since(&start).await.is_none());
    let mut later = start.clone();
    later.positions[0] = Position::new(2);
    assert_eq!(p.keys_since(&later).await, [id(2), id(3)]);
    let entries = p.database.number("SELECT COUNT(*) FROM changes").await;
    assert_eq!(entries, 2, "what is left of dropped tables goes too");
}

async fn a_database_of_the_first_format_is_migrated(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(0, 1, &upserts([account(1, 1, "a")]))
        .await
        .unwrap();
    let start = p.place().await;
    let mut older = String::from(
        "DROP TABLE changes; DROP TABLE discarded; DROP TABLE operated; DROP TABLE rebuilds; \
         DROP INDEX one_generation_serves; UPDATE format SET version = 1",
    );
    for (table, columns) in [
        (
            "generations",
            &[
                "serves", "served", "defined", "asked", "compared", "refused",
            ][..],
        ),
        ("checkpoints", &["amended"]),
        (
            "parked",
            &[
                "events",
                "parked_at",
                "retries",
                "retried_at",
                "retried_by",
                "retry",
            ],
        ),
    ] {
        for column in columns {
            older += &["; ALTER TABLE ", table, " DROP COLUMN ", column].concat();
        }
    }
    p.database.run(&older).await;
    let early = p.database.open_read_only().await;
    assert!(
        early
            .changes_since(&p.model, &start)
            .await
            .unwrap()
            .is_none()
    );
    let opened = p.database.open_to_read().await;
    let p = Prepared { store: opened, ..p };
    assert_eq!(p.database.number("SELECT version FROM format").await, 3);
    p.commit(1, 2, &upserts([account(2, 2, "a")]))
        .await
        .unwrap();
    assert_eq!(p.keys_since(&start).await, [id(2)]);
}

async fn rows_amended_behind_a_checkpoint_fence_workers_and_begin_readers_anew(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let stream = StreamId::parse("account-1").unwrap();
    let parked = |position| Parked {
        stream: stream.clone(),
        partition: events::Partition(0),
        position: Position::new(position),
        error: "no".into(),
    };
    let park = RowWrites {
        park: vec![parked(2)],
        wait: vec![(stream.clone(), 3)],
        ..RowWrites::default()
    };
    p.commit(0, 5, &park).await.unwrap();
    let waiting = async || p.store.waiting(9).await.unwrap();
    let found = waiting().await;
    assert_eq!((found[0].events, found[0].retries), (3, 0), "{found:?}");
    // Tried again: its first event goes in, and the second fails; then that is left out, and the third goes in.
    let start = p.place().await;
    let amended = |times| Checkpoint {
        amended: times,
        ..at(5)
    };
    let commit = async |from, to, writes: &RowWrites| {
        let commit = Commit {
            model: &p.model,
            generation: &p.generation,
            partition: events::Partition(0),
            from,
            to,
            writes,
        };
        p.store.commit(commit).await
    };
    let mut again = upserts([account(1, 2, "a")]);
    again.retried = vec![(stream.clone(), Some(parked(3)))];
    again.wait = vec![(stream.clone(), 2)];
    commit(amended(0), amended(1), &again).await.unwrap();
    let found = waiting().await;
    assert_eq!(
        (found[0].parked.position, found[0].events, found[0].retries),
        (Position::new(3), 2, 1)
    );
    let mut done = upserts([account(1, 4, "b")]);
    done.retried = vec![(stream.clone(), None)];
    done.discarded = vec![(stream.clone(), Position::new(3))];
    let fenced = commit(amended(0), amended(1), &done).await;
    assert!(matches!(fenced, Err(CommitError::Fenced)), "{fenced:?}");
    commit(amended(1), amended(2), &done).await.unwrap();
    assert_eq!(waiting().await, []);
    let left_out = p.store.discarded(&p.generation).await.unwrap();
    assert_eq!(left_out, [(stream, Position::new(3))]);
    assert_eq!(p.checkpoint(0).await, amended(2));
    // Whoever believes in the checkpoint as it was before writes nothing, and whoever read before reads anew.
    let late = p.commit(5, 6, &upserts([account(2, 6, "c")])).await;
    assert!(matches!(late, Err(CommitError::Fenced)), "{late:?}");
    assert!(p.since(&start).await.is_none());
    let now = p.place().await;
    assert!(!now.covers(&start) && !start.covers(&now));
    assert_eq!(p.get(&id(1)).await.unwrap()[1], "b".into());
}
