//! The same rows in four databases: SQLite, PostgreSQL, MariaDB and MongoDB, live and rebuilt, whatever is killed meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use events::{Partition, Position, partition_of};
use projector::built_in;
use read_models::{Options, ProjectionStore, Row, RowKey, open_mirror};
use serde_json::json;
use test_support::{Launch, MariaDb, MongoDb, Postgres, TempDir, eventually, free_port, temp_dir};

use crate::client::{Client, ME};
use crate::world::{assert_clean, launch, read_log};

const WITHIN: Duration = Duration::from_mins(2);

type Rows = BTreeMap<(String, Partition, RowKey), Row>;

async fn database(url: &str) -> Arc<dyn ProjectionStore> {
    let options = Options::read_only();
    match url.split(':').next() {
        Some("mysql" | "mongodb") => open_mirror(url, options).await.expect("the mirror opens"),
        _ => read_models::open(url, options)
            .await
            .expect("the database opens"),
    }
}

/// Every stored row of every read model, once each partition of each has come to the log's end.
async fn rows(url: &str, events: &str) -> Rows {
    let log = &read_log(events).await;
    let store = &database(url).await;
    let mut rows = Rows::new();
    for model in built_in().into_iter().filter(|model| !model.observed) {
        let (generation, partitions) = eventually(WITHIN, || async {
            let live = store.live(&model.name).await.ok().flatten();
            let live = live.ok_or("not built")?;
            let found = store.checkpoints(&live).await;
            let (identity, checkpoints) = found.map_err(|_| "not there")?;
            let mut ends = vec![Position::ZERO; usize::from(identity.partitions)];
            for event in log {
                let partition = partition_of(&event.stream, identity.partitions);
                ends[usize::from(partition.0)] = event.position;
            }
            let behind = checkpoints
                .iter()
                .zip(&ends)
                .any(|(at, end)| at.position < *end);
            if behind {
                Err("behind")
            } else {
                Ok((live, identity.partitions))
            }
        })
        .await;
        for partition in (0..partitions).map(Partition) {
            let page = store
                .scan(&model, &generation, partition, None, u32::MAX)
                .await;
            for (key, row) in page.expect("rows").1 {
                rows.insert((model.name.clone(), partition, key), row);
            }
        }
    }
    rows
}

/// A server on these data, with this database for queries and these mirrors.
fn server(folder: &TempDir, database: &str, mirrors: [&str; 2]) -> Launch {
    launch()
        .folder(folder.path())
        .env("SHOWCALLER_DATABASE", database)
        .env("SHOWCALLER_MIRROR", mirrors.join(","))
}

/// The metrics say which mirrors are written to, in the order of their names backwards.
async fn are_up(watched: &str, expected: [bool; 2]) {
    let client = Client::new(&format!("http://{watched}"));
    eventually(WITHIN, || async {
        let page = client.get("/metrics").expect(200).await.text;
        let lines = page
            .lines()
            .filter(|line| line.starts_with("showcaller_mirror_up{"));
        let mut lines: Vec<_> = lines.collect();
        lines.sort_by(|one, other| other.cmp(one));
        let up: Vec<_> = lines.iter().map(|line| line.ends_with(" 1")).collect();
        if up == expected { Ok(()) } else { Err(page) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_databases_hold_the_same_rows_live_and_rebuilt_whatever_is_killed() {
    let (mariadb, postgres) = tokio::join!(MariaDb::start(), Postgres::shared());
    let mongodb = MongoDb::start().await;
    let folder = temp_dir();
    let path = |file: &str| format!("sqlite:{}", folder.path().join("data").join(file).display());
    let (events, sqlite) = (path("events.db"), path("read-models.db"));
    let mysql = mariadb.fresh_database().await;
    let documents = mongodb.fresh_database();

    // A mirror that is down at start delays itself alone.
    mongodb.kill().await;
    let watched = format!("127.0.0.1:{}", free_port());
    let running = server(&folder, &sqlite, [&mysql, &documents])
        .env("SHOWCALLER_METRICS_LISTEN", &watched)
        .start()
        .await;
    let client = Client::new(&running.url());
    let ada = client.person("ada@example.org").await;
    let change = json!({ "given_name": "Augusta Ada" });
    let changed = client
        .command(&ada, "update-profile", &change)
        .expect(200)
        .await;
    client.read(ME, &ada, changed.token()).await;
    let others: Vec<_> = (0..10).map(|n| format!("person-{n}@example.org")).collect();
    for address in &others {
        client.person(address).await;
    }
    are_up(&watched, [true, false]).await;
    mongodb.restart().await;
    rows(&documents, &events).await;
    are_up(&watched, [true, true]).await;

    // The server dies in the middle, and so does a mirror.
    for (n, theme) in ["light", "dark", "light", "dark"].into_iter().enumerate() {
        let change = json!({ "theme": theme });
        client
            .command(&ada, "change-settings", &change)
            .expect(200)
            .await;
        match n {
            0 => mariadb.kill().await,
            1 => running.kill().await,
            _ => {}
        }
        if n == 1 {
            running.restart().await;
        }
    }
    mariadb.restart().await;
    let live = rows(&sqlite, &events).await;
    assert!(live.len() > 2 * others.len());
    assert_eq!(rows(&mysql, &events).await, live);
    assert_eq!(rows(&documents, &events).await, live);
    assert_eq!(running.terminate().await, 0, "{}", running.logs());
    assert!(!running.logs().contains("mariadb-secret"));

    // The same log once more, into databases that know nothing.
    let again = postgres.fresh_database().await;
    let (mysql_again, documents_again) = (mariadb.fresh_database().await, mongodb.fresh_database());
    let mirrors = [mysql_again.as_str(), documents_again.as_str()];
    let running = server(&folder, &again, mirrors).start().await;
    let rebuilt = rows(&again, &events).await;
    assert_eq!(rebuilt, live);
    assert_eq!(rows(&mysql_again, &events).await, live);
    assert_eq!(rows(&documents_again, &events).await, live);
    let verified = server(&folder, &again, mirrors)
        .args(["verify", "--rows"])
        .finish()
        .await;
    assert_clean(&verified);
    assert_eq!(
        verified.stdout.matches("mirror m").count(),
        2,
        "{}",
        verified.stdout
    );
    assert!(!verified.stdout.contains("mariadb-secret"));
    assert_eq!(running.terminate().await, 0, "{}", running.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_cannot_be_one_is_refused_at_start_with_what_to_do() {
    let mongodb = MongoDb::standalone().await;
    let refused = launch()
        .folder(temp_dir().path())
        .env("SHOWCALLER_MIRROR", mongodb.fresh_database())
        .args(["serve"])
        .finish()
        .await;
    assert_eq!(refused.status, 1);
    assert!(
        refused.stderr.contains("rs.initiate()"),
        "{}",
        refused.stderr
    );
}
