//! Opening: who makes the log, and what is refused with what to do instead.

use event_store::{AppendError, Error, Options, open};
use events::Version;
use eventstore::{AppendToStreamOptions, Client, EventData, StreamState};
use futures::future::join_all;
use test_support::psql;

use super::log::{Log, append, exactly, stream, verified};

async fn refusal(url: &str, options: Options) -> String {
    match open(url, options).await {
        Err(Error::Invalid(why)) => why,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    }
}

pub async fn many_processes_make_one_log(log: Log) {
    let stores = join_all((0..8).map(|_| log.open())).await;
    assert!(
        stores
            .iter()
            .all(|store| store.identity() == stores[0].identity())
    );
    assert_eq!(
        (stores[0].identity().partitions, stores[0].gapless()),
        (8, !log.is_eventstore())
    );
    let streams: Vec<_> = (0..8).map(|i| stream(&format!("thing-{i}"))).collect();
    let appends = stores
        .iter()
        .zip(&streams)
        .map(|(store, stream)| store.append(append(stream, exactly(0), 1)));
    for answer in join_all(appends).await {
        answer.unwrap();
    }
    assert_eq!(verified(&*stores[3]).await.len(), 8);
}

pub async fn a_newer_format_is_refused_by_naming_what_it_needs(log: Log) {
    log.open().await.close().await;
    if log.is_eventstore() {
        identify_anew(&log.url).await;
    } else {
        log.execute(
            "UPDATE events_head SET format = 99, needs = '7.8.9'",
            "UPDATE showcaller_events.head SET format = 99, needs = '7.8.9'",
        )
        .await;
    }
    for options in [Options::default(), Options::read_only()] {
        let why = refusal(&log.url, options).await;
        assert!(
            why.contains("99") && why.contains("needs showcaller 7.8.9"),
            "{why}"
        );
    }
}

/// As a newer release would: the last event of this stream says what the log is.
async fn identify_anew(url: &str) {
    let prefix = match url.split_once("log=") {
        Some((_, log)) => format!("{}~", log.split('&').next().unwrap()),
        None => String::new(),
    };
    let client = Client::new(url.parse().unwrap()).unwrap();
    let newer = serde_json::json!({"format": 99, "needs": "7.8.9", "log": {"of": "another form"}});
    let event = EventData::json("LogIdentified", &newer).unwrap();
    let options = AppendToStreamOptions::default().stream_state(StreamState::StreamExists);
    let stream = format!("{prefix}~showcaller_log-identity");
    client
        .append_to_stream(stream, &options, event)
        .await
        .unwrap();
}

pub async fn reading_only_makes_nothing_and_appends_nothing(log: Log) {
    let why = refusal(&log.url, Options::read_only()).await;
    assert!(why.contains("no event log"), "{why}");
    let writer = log.open().await;
    let thing = stream("thing-1");
    writer.append(append(&thing, exactly(0), 2)).await.unwrap();
    let reader = log.open_with(Options::read_only()).await;
    assert_eq!(
        reader
            .read_stream(&thing, Version::ZERO, 10)
            .await
            .unwrap()
            .len(),
        2
    );
    let refused = reader
        .append(append(&thing, exactly(2), 1))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, AppendError::Fault(Error::Invalid(_))),
        "{refused}"
    );
    let lease = reader
        .acquire_lease(
            "relay",
            uuid::Uuid::from_u128(1),
            std::time::Duration::from_secs(1),
        )
        .await;
    assert!(lease.is_err());
    writer.append(append(&thing, exactly(2), 1)).await.unwrap();
    assert_eq!(verified(&*reader).await.len(), 3);
}

pub async fn a_log_keeps_its_identity_and_partitions(log: Log) {
    let first = log
        .open_with(Options {
            partitions: 3,
            ..Options::default()
        })
        .await;
    let identity = first.identity();
    assert_eq!(
        (
            identity.partitions,
            identity.log.get_version_num(),
            identity.epoch.get_version_num()
        ),
        (3, 4, 4)
    );
    assert_ne!(identity.log, identity.epoch);
    first
        .append(append(&stream("thing-1"), exactly(0), 1))
        .await
        .unwrap();
    first.close().await;
    let again = log
        .open_with(Options {
            partitions: 16,
            ..Options::default()
        })
        .await;
    assert_eq!(again.identity(), identity);
    again
        .append(append(&stream("thing-2"), exactly(0), 1))
        .await
        .unwrap();
    verified(&*again).await;
}

pub async fn a_server_that_forgets_commits_is_refused(log: Log) {
    let database = log.url.rsplit('/').next().unwrap().to_owned();
    psql(
        &log.url,
        &format!("ALTER DATABASE {database} SET synchronous_commit = off"),
    )
    .await;
    let why = refusal(&log.url, Options::default()).await;
    assert!(why.contains("synchronous_commit"), "{why}");
    psql(
        &log.url,
        &format!("ALTER DATABASE {database} RESET synchronous_commit"),
    )
    .await;
    let store = log.open().await;
    store
        .append(append(&stream("thing-1"), exactly(0), 1))
        .await
        .unwrap();
    // Set while the store is open: its own sessions stay durable, those made anew included.
    psql(
        &log.url,
        &format!("ALTER DATABASE {database} SET synchronous_commit = off"),
    )
    .await;
    log.execute(
        "",
        "CREATE TABLE seen (level text); \
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
         CREATE TRIGGER note AFTER INSERT ON showcaller_events.events FOR EACH ROW EXECUTE FUNCTION note(); \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'showcaller-events' AND datname = current_database()",
    )
    .await;
    store
        .append(append(&stream("thing-2"), exactly(0), 1))
        .await
        .unwrap();
    assert_eq!(
        psql(&log.url, "SELECT DISTINCT level FROM seen").await,
        "on"
    );
}

pub async fn a_url_that_names_no_store_says_what_to_write() {
    for (url, needle) in [
        ("mysql://root:secret@host/db", "sqlite:data/events.db"),
        ("data/events.db", "sqlite:data/events.db"),
        (
            "esdb://admin:secret@host:notaport",
            "esdb://USER:PASSWORD@HOST:2113",
        ),
        ("sqlite::memory:", "file"),
        ("sqlite:", "file"),
        (
            "postgres://user:secret@host:notaport/db",
            "postgres://USER@HOST/DATABASE",
        ),
    ] {
        let why = refusal(url, Options::default()).await;
        assert!(
            why.contains(needle) && !why.contains("secret"),
            "{url}: {why}"
        );
    }
}
