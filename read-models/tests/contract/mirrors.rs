//! Mirrors: databases that others read by their own means, and that are refused where they cannot keep what is promised.

use std::time::Duration;

use events::Partition;
use read_models::{
    ColumnType, Commit, CommitError, Error, Options, ReadModel, RowWrites, open_mirror,
};
use test_support::{MariaDb, MongoDb, eventually, free_port, mariadb};

use crate::database::{Database, account, accounts, at, id, log, prepared, row, sign_ups, upserts};

async fn refused(url: &str) -> Error {
    open_mirror(url, Options::default())
        .await
        .map(drop)
        .unwrap_err()
}

#[tokio::test]
async fn urls_of_mirrors_that_cannot_work_are_refused_with_what_to_write() {
    for url in [
        "",
        "mysql",
        "mysql://u:secret@h",
        "mysql://u:secret@h/",
        "sqlite:x",
        "mysql://h:secret/d",
        "mongodb://u:secret@h",
        "mongodb+srv://u:secret@h/d",
        "mongodb://h:secret/d",
    ] {
        let refused = refused(url).await;
        assert!(
            matches!(&refused, Error::Invalid(text) if text.contains("write m")),
            "{url}: {refused}"
        );
        assert!(!refused.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_mirror_that_is_down_is_told_from_one_that_is_wrong() {
    let url = format!("mysql://nobody@127.0.0.1:{}/nothing", free_port());
    assert!(matches!(refused(&url).await, Error::Unavailable(_)));
    let server = MariaDb::shared().await;
    assert!(matches!(
        refused(&server.url("not_there")).await,
        Error::Invalid(_)
    ));
    let intruder = server.url("mysql").replace("mariadb-secret", "guessed");
    let refused = refused(&intruder).await;
    assert!(
        matches!(&refused, Error::Invalid(text) if !text.contains("guessed")),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_follows_the_live_table_and_leaves_personal_columns_out() {
    let p = prepared(Database::mariadb().await, accounts()).await;
    let url = &p.database.url;
    p.commit(0, 1, &upserts([account(1, 1, "open")]))
        .await
        .unwrap();
    let all = "SELECT * FROM accounts";
    assert_eq!(
        mariadb(url, all).await,
        "00000000-0000-0000-0000-000000000001\topen\t1\t1\t2023-11-14 22:13:21.123456"
    );
    let changed = ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("visits", ColumnType::Integer);
    let next = p.store.prepare(&changed, log(1)).await.unwrap();
    let writes = upserts([(id(1), row(0, 1, [42.into()]))]);
    p.store
        .commit(Commit {
            model: &changed,
            generation: &next,
            partition: Partition(0),
            from: at(0),
            to: at(1),
            writes: &writes,
        })
        .await
        .unwrap();
    assert!(p.store.swap(&next).await.unwrap());
    assert_eq!(mariadb(url, "SELECT visits FROM accounts").await, "42");
    // What a crash between a switch and its view leaves behind is mended by whoever prepares next.
    mariadb(url, "DROP VIEW accounts").await;
    p.store.prepare(&changed, log(1)).await.unwrap();
    assert_eq!(mariadb(url, "SELECT visits FROM accounts").await, "42");
    // An older definition's build does not take the view back.
    assert!(p.store.swap(&p.generation).await.unwrap());
    assert_eq!(mariadb(url, "SELECT visits FROM accounts").await, "42");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_sums_the_partial_rows_of_all_partitions() {
    let p = prepared(Database::mariadb().await, sign_ups()).await;
    for partition in 0..4 {
        let rows = [(
            vec!["2026-11-22".into(), "web".into()],
            row(partition, 1, [10.into()]),
        )];
        p.commit_to(partition, 0, 1, &upserts(rows)).await.unwrap();
    }
    let sum = "SELECT day, sign_ups FROM sign_ups_per_day";
    assert_eq!(mariadb(&p.database.url, sum).await, "2026-11-22\t40");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_of_a_mirror_is_refused() {
    let p = prepared(Database::mariadb().await, accounts()).await;
    mariadb(&p.database.url, "UPDATE format SET version = 7").await;
    for read_only in [false, true] {
        let refused = open_mirror(
            &p.database.url,
            Options {
                read_only,
                ..Options::default()
            },
        )
        .await
        .map(drop);
        assert!(
            matches!(&refused, Err(Error::Invalid(text)) if text.contains("knows format 7")),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_opened_read_only_writes_nothing() {
    let database = Database::mariadb().await;
    let early = open_mirror(&database.url, Options::read_only())
        .await
        .unwrap();
    assert_eq!(early.live("accounts").await.unwrap(), None);
    let p = prepared(database, accounts()).await;
    assert_eq!(
        early.live("accounts").await.unwrap(),
        Some(p.generation.clone())
    );
    let commit = early
        .commit(Commit {
            model: &p.model,
            generation: &p.generation,
            partition: Partition(0),
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
        early.prepare(&p.model, log(1)).await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(p.checkpoint(0).await, at(0));
}

/// What the database itself says of the rows is a refusal: here an operator's own constraint, which no upsert may turn into
/// a change of another row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_the_mirror_refuses_are_told_from_its_faults() {
    let p = prepared(Database::mariadb().await, accounts()).await;
    let table = &p.generation.table;
    mariadb(
        &p.database.url,
        &format!("CREATE UNIQUE INDEX once ON {table} (status(50))"),
    )
    .await;
    let twice = upserts([account(1, 1, "same"), account(2, 1, "same")]);
    assert!(matches!(
        p.commit(0, 1, &twice).await,
        Err(CommitError::Refused(_))
    ));
    assert_eq!(p.scanned(0).await, (at(0), vec![]));
    let long = "x".repeat(13 << 20);
    let long = upserts([account(1, 1, &long)]);
    assert!(matches!(
        p.commit(0, 1, &long).await,
        Err(CommitError::Refused(_))
    ));
    mariadb(&p.database.url, &format!("DROP TABLE {table}")).await;
    let gone = p.commit(0, 1, &upserts([account(1, 1, "x")])).await;
    assert!(matches!(gone, Err(CommitError::Fault(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_that_was_killed_is_found_again_with_rows_and_checkpoint_as_they_were() {
    let server = MariaDb::start().await;
    let url = server.fresh_database().await;
    let store = open_mirror(&url, Options::default()).await.unwrap();
    let (model, partition) = (accounts(), Partition(0));
    let generation = store.prepare(&model, log(1)).await.unwrap();
    let commit = async |from: u64, to: u64| {
        let writes = upserts([account(u128::from(to), to, "x")]);
        store
            .commit(Commit {
                model: &model,
                generation: &generation,
                partition,
                from: at(from),
                to: at(to),
                writes: &writes,
            })
            .await
    };
    commit(0, 1).await.unwrap();
    server.kill().await;
    assert!(matches!(
        commit(1, 2).await,
        Err(CommitError::Fault(Error::Unavailable(_)))
    ));
    server.restart().await;
    let scan = || store.scan(&model, &generation, partition, None, 9);
    let (checkpoint, rows) = eventually(Duration::from_secs(30), scan).await;
    assert_eq!((checkpoint, rows), (at(1), vec![account(1, 1, "x")]));
    commit(1, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mongodb_without_transactions_is_refused_with_what_to_do() {
    let server = MongoDb::standalone().await;
    let refused = refused(&server.fresh_database()).await;
    assert!(
        matches!(&refused, Error::Invalid(text) if text.contains("rs.initiate()")),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mongodb_that_is_down_can_come_up_later() {
    let url = format!("mongodb://127.0.0.1:{}/mirror", free_port());
    assert!(matches!(refused(&url).await, Error::Unavailable(_)));
}

/// The documents of a view, without their `_id`.
async fn shown(url: &str, view: &str) -> Vec<String> {
    use futures::TryStreamExt as _;
    use mongodb::bson::{Document, doc};
    let client = mongodb::Client::with_uri_str(url).await.unwrap();
    let database = client.default_database().unwrap();
    let collection = database.collection::<Document>(view);
    let found = collection.find(doc! {}).await.unwrap();
    let documents: Vec<Document> = found.try_collect().await.unwrap();
    let shown = documents.into_iter().map(|mut document| {
        document.remove("_id");
        document.remove("_updated_at");
        document.to_string()
    });
    shown.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_of_documents_follows_the_live_collection_and_leaves_personal_fields_out() {
    let p = prepared(Database::mongodb().await, accounts()).await;
    let url = &p.database.url;
    p.commit(0, 1, &upserts([account(1, 1, "open")]))
        .await
        .unwrap();
    let row = r#"{ "account_id": Binary(0x4, AAAAAAAAAAAAAAAAAAAAAQ==), "status": "open", "logins": 1, "_position": 1 }"#;
    assert_eq!(shown(url, "accounts").await, [row]);
    let changed = ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("visits", ColumnType::Integer);
    let next = p.store.prepare(&changed, log(1)).await.unwrap();
    let writes = upserts([(id(1), crate::database::row(0, 1, [42.into()]))]);
    p.store
        .commit(Commit {
            model: &changed,
            generation: &next,
            partition: Partition(0),
            from: at(0),
            to: at(1),
            writes: &writes,
        })
        .await
        .unwrap();
    assert!(p.store.swap(&next).await.unwrap());
    assert!(shown(url, "accounts").await[0].contains(r#""visits": 42"#));
    assert!(p.store.swap(&p.generation).await.unwrap());
    assert_eq!(shown(url, "accounts").await, [row]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_of_documents_sums_the_partial_rows_of_all_partitions() {
    let p = prepared(Database::mongodb().await, sign_ups()).await;
    for partition in 0..4 {
        let rows = [(
            vec!["2026-11-22".into(), "web".into()],
            row(partition, 1, [10.into()]),
        )];
        p.commit_to(partition, 0, 1, &upserts(rows)).await.unwrap();
    }
    let documents = shown(&p.database.url, "sign_ups_per_day").await;
    assert_eq!(documents.len(), 1);
    assert!(documents[0].contains(r#""sign_ups": 40"#), "{documents:?}");
}
