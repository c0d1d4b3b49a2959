//! KurrentDB's clients in other languages, as their packages are published. `tests/clients/` has what they do.

use std::path::Path;
use std::process::{Command, Stdio};

use test_support::{free_port, named_eventstore};

use crate::server::Served;

/// Installing a client from its registry included.
const PATIENCE_SECONDS: u32 = 300;

/// Runs a client against the server that SHOWCALLER_TEST_ESDB names, or else against a served log, of whose two nodes one is
/// dead.
async fn run(client: &str) {
    let served = Served::open().await;
    let both = format!(
        "esdb://127.0.0.1:{},127.0.0.1:{}?tls=false",
        free_port(),
        served.port
    );
    let url = named_eventstore().unwrap_or(both);
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/clients")
        .join(client)
        .join("run");
    let shown = script.display().to_string();
    let running = tokio::task::spawn_blocking(move || {
        Command::new("timeout")
            .arg(PATIENCE_SECONDS.to_string())
            .arg(&script)
            .arg(&url)
            .stdin(Stdio::null())
            .output()
    });
    let ended = running
        .await
        .expect("it does not panic")
        .unwrap_or_else(|error| panic!("{shown} cannot be run: {error}"));
    assert!(
        ended.status.success(),
        "{client} (./test installs what it needs):\n{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_appends_reads_and_subscribes() {
    run("kurrentdb-python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_appends_reads_and_subscribes() {
    run("kurrentdb-node").await;
}
