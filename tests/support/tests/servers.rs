//! The test support tested: servers start, keep what they promise over a crash, and leave nothing behind, even when
//! the test process is killed.
//!
//! Refuses: to pass where a server is missing.

#![allow(clippy::disallowed_methods)] // tests may read the environment

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use test_support::{
    Postgres, RabbitMq, Showcaller, TempDir, eventually, files_containing, free_port, psql,
    temp_dir,
};

const WITHIN: Duration = Duration::from_secs(30);
/// Set where this test binary plays another part: the test process that is killed, or a server.
const PART: &str = "TEST_SUPPORT_PART";

fn is_listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own() {
    let server = Postgres::shared().await;
    let (one, other) = tokio::join!(server.fresh_database(), server.fresh_database());
    assert_ne!(one, other);
    psql(&one, "CREATE TABLE seats (id bigint)").await;
    assert_eq!(
        psql(&other, "SELECT to_regclass('seats') IS NULL").await,
        "t"
    );
}

#[tokio::test]
async fn postgresql_is_durable_by_default_and_one_for_all_tests() {
    let server = Postgres::shared().await;
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("max_connections", "300"),
    ] {
        assert_eq!(
            psql(&server.url("postgres"), &format!("SHOW {setting}")).await,
            value,
            "{setting}"
        );
    }
    assert_eq!(server.port(), Postgres::shared().await.port());
}

#[tokio::test]
async fn a_killed_postgresql_comes_back_with_what_was_committed() {
    let server = Postgres::start().await;
    let database = server.fresh_database().await;
    psql(
        &database,
        "CREATE TABLE facts (what text); INSERT INTO facts VALUES ('it happened')",
    )
    .await;
    server.kill().await;
    assert!(!is_listening(server.port()));
    server.restart().await;
    assert_eq!(
        psql(&database, "SELECT what FROM facts").await,
        "it happened"
    );
    assert!(!files_containing(server.folder(), "it happened").is_empty());
    server.stop().await;
    server.restart().await;
    assert_eq!(psql(&database, "SELECT count(*) FROM facts").await, "1");
    let (folder, port) = (server.folder().to_owned(), server.port());
    drop(server);
    assert!(!folder.exists() && !is_listening(port));
}

#[tokio::test]
async fn every_test_has_a_virtual_host_of_its_own() {
    let broker = RabbitMq::shared().await;
    let (one, other) = tokio::join!(broker.fresh_vhost(), broker.fresh_vhost());
    assert_ne!(one, other);
    let name = one.rsplit('/').next().expect("a URL has a path");
    assert!(
        broker
            .rabbitmqctl(&["list_permissions", "-p", name])
            .await
            .contains("guest")
    );
    assert!(broker.queue_depths(&one).await.is_empty());
}

#[tokio::test]
async fn a_broker_restarts_with_its_queues_and_messages() {
    let broker = RabbitMq::start().await;
    let vhost = broker.fresh_vhost().await;
    fill_quorum_queue(&vhost, "cues", &["go", "stand by"]).await;
    wait_for_depth(&broker, &vhost, 2).await;
    broker.restart().await;
    wait_for_depth(&broker, &vhost, 2).await;
    broker.kill().await;
    assert!(!is_listening(broker.port()));
    broker.restart().await;
    wait_for_depth(&broker, &vhost, 2).await;
    assert!(!files_containing(broker.folder(), "stand by").is_empty());
    assert_eq!(broker.purge_all_queues(&vhost).await, 1);
    wait_for_depth(&broker, &vhost, 0).await;
    broker.stop_app().await;
    assert!(!is_listening(broker.port()));
    broker.start_app().await;
    broker.block().await;
    assert!(
        broker
            .rabbitmqctl(&["status"])
            .await
            .contains("Memory alarm")
    );
    broker.unblock().await;
    assert!(
        !broker
            .rabbitmqctl(&["status"])
            .await
            .contains("Memory alarm")
    );
    let (folder, port) = (broker.folder().to_owned(), broker.port());
    drop(broker);
    assert!(!folder.exists() && !is_listening(port));
}

async fn wait_for_depth(broker: &RabbitMq, vhost: &str, ready: u64) {
    eventually(WITHIN, || async {
        let depths = broker.queue_depths(vhost).await;
        if depths.get("cues").is_some_and(|depth| depth.ready == ready) {
            Ok(())
        } else {
            Err(depths)
        }
    })
    .await;
}

async fn fill_quorum_queue(vhost: &str, queue: &str, payloads: &[&str]) {
    let connection = Connection::connect(vhost, ConnectionProperties::default())
        .await
        .expect("it takes clients");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), durable, arguments)
        .await
        .expect("a queue");
    for payload in payloads {
        let (options, properties) = (
            BasicPublishOptions::default(),
            BasicProperties::default().with_delivery_mode(2),
        );
        let sent = channel
            .basic_publish(
                "".into(),
                queue.into(),
                options,
                payload.as_bytes(),
                properties,
            )
            .await;
        sent.expect("sent").await.expect("confirmed");
    }
    connection.close(200, "done".into()).await.expect("closed");
}

#[test]
fn ports_are_free_and_never_given_twice() {
    let mut ports: Vec<u16> = (0..200).map(|_| free_port()).collect();
    assert!(
        ports
            .iter()
            .all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    );
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 200);
}

#[tokio::test]
#[should_panic(expected = "last seen: Err(\"not yet\")")]
async fn waiting_ends_at_the_deadline_and_says_what_it_saw() {
    eventually(Duration::from_millis(20), || async {
        Err::<(), _>("not yet")
    })
    .await;
}

#[test]
fn a_killed_test_process_leaves_no_server_and_no_folder() {
    let mut test = Command::new(std::env::current_exe().expect("tests know themselves"));
    test.args([
        "--exact",
        "part_of_a_test_process_that_is_killed",
        "--nocapture",
    ]);
    let mut test = test
        .env(PART, "killed")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let lines = BufReader::new(test.stdout.take().expect("piped"))
        .lines()
        .map_while(Result::ok);
    let started = lines
        .filter_map(|line| Some(line.split_once("started ")?.1.to_owned()))
        .take(2);
    let servers: Vec<(PathBuf, u16)> = started
        .map(|line| {
            line.split_once(' ')
                .map(|(port, folder)| (folder.into(), port.parse().expect("a port")))
        })
        .collect::<Option<_>>()
        .expect("a port and a folder");
    assert_eq!(servers.len(), 2);
    assert!(
        servers
            .iter()
            .all(|(folder, port)| folder.exists() && is_listening(*port))
    );
    test.kill().expect("it runs");
    test.wait().expect("it is ours");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(eventually(WITHIN, || async {
        servers
            .iter()
            .all(|(folder, port)| !folder.exists() && !is_listening(*port))
    }));
}

#[tokio::test]
async fn part_of_a_test_process_that_is_killed() {
    if std::env::var_os(PART).is_none_or(|part| part != "killed") {
        return;
    }
    let (postgres, broker) = tokio::join!(Postgres::start(), RabbitMq::start());
    for (port, folder) in [
        (postgres.port(), postgres.folder()),
        (broker.port(), broker.folder()),
    ] {
        println!("started {port} {}", folder.display());
    }
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_server_is_started_paused_killed_and_restarted_on_its_port() {
    let (_folder, binary) = fake_binary();
    let server = Showcaller::start(&binary, &["--role", "relay"]).await;
    assert!(
        server.stdout().contains("--role relay --listen 127.0.0.1:"),
        "{}",
        server.logs()
    );
    assert!(server.url().ends_with(&server.port().to_string()));
    server.pause();
    server.resume();
    server.kill().await;
    assert!(!server.is_running() && !is_listening(server.port()));
    server.restart().await;
    assert_eq!(server.terminate().await, 128 + 15);
    server.restart().await;
    let (folder, port) = (server.folder().to_owned(), server.port());
    drop(server);
    assert!(!folder.exists() && !is_listening(port));
}

#[tokio::test]
#[should_panic(expected = "No such file")]
async fn a_server_that_ends_before_it_is_ready_is_reported_with_what_it_printed() {
    Showcaller::start("/bin/sh", &["-c", "cat /no/such/file"]).await;
}

#[tokio::test]
async fn a_verb_runs_to_its_end_in_its_folder_and_environment() {
    let folder = temp_dir();
    let verb = Showcaller::launch("/bin/sh").args(["-c", "pwd; echo $COLOUR >&2; exit 3"]);
    let finished = verb
        .folder(folder.path())
        .env("COLOUR", "red")
        .finish()
        .await;
    assert_eq!(
        (finished.status, finished.stdout.trim()),
        (3, folder.path().to_str().expect("UTF-8"))
    );
    assert_eq!(finished.stderr, "red\n");
}

/// A script that stands in for the `showcaller` binary: this test binary again, in the part of a server.
fn fake_binary() -> (TempDir, PathBuf) {
    let folder = temp_dir();
    let script = folder.path().join("showcaller");
    let this = std::env::current_exe().expect("tests know themselves");
    let part = "exec env TEST_SUPPORT_PART=\"$*\"";
    let text = format!(
        "#!/bin/sh\necho \"$*\"\n{part} '{}' --exact part_of_a_server --nocapture\n",
        this.display()
    );
    fs::write(&script, text).expect("the folder is ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    (folder, script)
}

#[test]
fn part_of_a_server() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let Some((_, address)) = part.split_once("--listen ") else {
        return;
    };
    let listener = TcpListener::bind(address).expect("the port is reserved for us");
    for mut stream in listener.incoming().flatten() {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
    }
}

#[test]
fn a_temporary_folder_goes_with_its_handle() {
    let folder = temp_dir();
    fs::write(folder.path().join("file"), "a needle in it").expect("the folder is ours");
    assert_eq!(files_containing(folder.path(), "needle").len(), 1);
    assert_eq!(files_containing(&folder, "haystack"), Vec::<&Path>::new());
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!path.exists());
}
