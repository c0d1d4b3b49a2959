//! Formats, URLs and reading alone: what is refused, and what a reader does before there is anything to read.

use std::time::Duration;

use read_models::{Commit, CommitError, Error, Filter, Options, Query, RowWrites, open};
use test_support::{Postgres, free_port};

use crate::database::{
    Database, account, accounts, at, id, log, on_both, prepared_to_read, upserts,
};

on_both!(
    a_reader_may_start_before_anything_is_built,
    a_read_only_store_writes_nothing,
    a_newer_format_is_refused_by_writers_and_readers,
    opening_again_finds_what_was_written,
    a_reader_notices_that_everything_was_dropped,
);

async fn a_reader_may_start_before_anything_is_built(database: Database) {
    let reader = database.open_read_only().await;
    assert!(reader.live("accounts").await.unwrap().is_none());
    assert!(reader.status(&accounts()).await.unwrap().is_none());
    let not_built = |answer| matches!(answer, Err(Error::Unavailable(reason)) if reason == "the read model accounts is not built yet");
    assert!(not_built(reader.get(&accounts(), &id(1)).await.map(drop)));
    assert!(not_built(
        reader
            .list(&accounts(), &Query::new(&accounts(), Filter::ALL, 9))
            .await
            .map(drop)
    ));
    reader.wait_for_change(Duration::from_secs(20)).await;
    // The same store sees what is built later on.
    let p = prepared_to_read(database, accounts()).await;
    assert_eq!(reader.get(&p.model, &id(1)).await.unwrap(), None);
    p.commit(0, 1, &upserts([account(1, 1, "open")]))
        .await
        .unwrap();
    assert_eq!(
        reader.get(&p.model, &id(1)).await.unwrap().unwrap()[1],
        "open".into()
    );
    reader.check().await.unwrap();
}

async fn a_read_only_store_writes_nothing(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let reader = p.database.open_read_only().await;
    assert!(matches!(
        reader.prepare(&accounts().revision(2), log(1)).await,
        Err(Error::Invalid(_))
    ));
    let commit = reader
        .commit(Commit {
            model: &p.model,
            generation: &p.generation,
            partition: events::Partition(0),
            from: at(0),
            to: at(1),
            writes: &RowWrites::default(),
        })
        .await;
    assert!(
        matches!(commit, Err(CommitError::Fault(Error::Invalid(_)))),
        "{commit:?}"
    );
    assert!(matches!(
        reader.swap(&p.generation).await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(p.checkpoint(0).await, at(0));
}

async fn a_reader_notices_that_everything_was_dropped(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    let reader = p.database.open_read_only().await;
    assert_eq!(reader.get(&p.model, &id(1)).await.unwrap(), None);
    p.database
        .run("DELETE FROM checkpoints; DELETE FROM generations")
        .await;
    assert!(matches!(
        reader.get(&p.model, &id(1)).await,
        Err(Error::Unavailable(_))
    ));
    assert!(reader.status(&accounts()).await.unwrap().is_none());
}

async fn a_newer_format_is_refused_by_writers_and_readers(database: Database) {
    let early = database.open_read_only().await;
    let p = prepared_to_read(database, accounts()).await;
    p.database.run("UPDATE format SET version = 7").await;
    for read_only in [false, true] {
        let refused = open(
            &p.database.url,
            Options {
                read_only,
                ..Options::default()
            },
        )
        .await
        .map(drop)
        .unwrap_err();
        assert!(
            matches!(&refused, Error::Invalid(text) if text.contains("knows format 7")),
            "{refused}"
        );
    }
    // A reader that was there before the format was finds it out at its first look.
    assert!(matches!(
        early.get(&p.model, &id(1)).await,
        Err(Error::Invalid(_))
    ));
}

async fn opening_again_finds_what_was_written(database: Database) {
    let p = prepared_to_read(database, accounts()).await;
    p.commit(0, 1, &upserts([account(1, 1, "open")]))
        .await
        .unwrap();
    drop(p.store);
    let store = p.database.open_to_read().await;
    assert_eq!(
        store.get(&p.model, &id(1)).await.unwrap().unwrap()[1],
        "open".into()
    );
}

#[tokio::test]
async fn urls_that_cannot_work_are_refused_with_what_to_write() {
    for url in [
        "",
        "mysql://u:secret@h/d",
        "postgres",
        "sqlite::memory:",
        "sqlite:",
        "sqlite:x?mode=memory",
        "postgres://h:secret/d",
    ] {
        let refused = open(url, Options::default()).await.map(drop).unwrap_err();
        assert!(
            matches!(&refused, Error::Invalid(text) if text.contains("write ")),
            "{url}: {refused}"
        );
        assert!(!refused.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_database_that_is_down_stops_a_writer_and_not_a_reader() {
    let url = format!("postgres://nobody@127.0.0.1:{}/nothing", free_port());
    let refused = open(&url, Options::default()).await.map(drop);
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let reader = open(&url, Options::read_only()).await.unwrap();
    assert!(matches!(reader.check().await, Err(Error::Unavailable(_))));
    assert!(matches!(
        reader.get(&accounts(), &id(1)).await,
        Err(Error::Unavailable(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_postgres_is_found_again() {
    let server = Postgres::start().await;
    let url = server.fresh_database().await;
    let store = open(&url, Options::default()).await.unwrap();
    let generation = store.prepare(&accounts(), log(1)).await.unwrap();
    let mut changes = store.changes();
    server.restart().await;
    test_support::eventually(Duration::from_secs(30), || store.checkpoints(&generation)).await;
    let writes = upserts([account(1, 1, "after")]);
    let (model, partition) = (accounts(), events::Partition(0));
    let commit = Commit {
        model: &model,
        generation: &generation,
        partition,
        from: at(0),
        to: at(1),
        writes: &writes,
    };
    let commit = || store.commit(commit);
    test_support::eventually(Duration::from_secs(30), commit).await;
    changes.changed(Duration::from_secs(20)).await;
    assert_eq!(
        store.get(&model, &id(1)).await.unwrap().unwrap()[1],
        "after".into()
    );
}
