//! The whole path with the log in EventStoreDB: commands, relay, projector and verify on `esdb://`. Another process serves
//! the log over the protocol, and dies in between.

use std::time::Duration;

use serde_json::json;
use test_support::{Showcaller, TempDir, eventually, free_port, temp_dir};

use crate::client::{Client, ME};
use crate::world::{assert_clean, launch};

const SOON: Duration = Duration::from_mins(1);

/// A log served by a process of its own.
struct Served {
    process: Showcaller,
    url: String,
    _folder: TempDir,
}

impl Served {
    async fn start() -> Self {
        let folder = temp_dir();
        let address = format!("127.0.0.1:{}", free_port());
        let arguments = [
            "--role",
            "event-store",
            "--insecure",
            "--event-store-listen",
        ];
        let process = launch()
            .folder(folder.path())
            .args(arguments)
            .args([&address])
            .start()
            .await;
        Self {
            process,
            url: format!("esdb://{address}?tls=false"),
            _folder: folder,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_their_rows_through_eventstoredb_though_its_server_dies_in_between() {
    let served = Served::start().await;
    let folder = temp_dir();
    let on_eventstore = || {
        launch()
            .folder(folder.path())
            .env("SHOWCALLER_EVENTS", &served.url)
    };
    let roles = on_eventstore().start().await;
    let client = Client::new(&roles.url());

    let ada = client.person("ada@example.org").await;
    for round in 0..10 {
        let change = json!({"given_name": format!("Ada {round}")});
        let answer = client
            .command(&ada, "update-profile", &change)
            .expect(200)
            .await;
        let seen = client.read(ME, &ada, answer.token()).await;
        assert_eq!(seen.body["given_name"], format!("Ada {round}"));
    }

    served.process.kill().await;
    let change = json!({"given_name": "Augusta"});
    let key = "while-it-is-down";
    let late = client.command(&ada, "update-profile", &change).key(key);
    let late = late.send().await;
    assert_eq!(late.status, 503, "{}", late.body);
    served.process.restart().await;
    let answer = eventually(SOON, || async {
        let again = client.command(&ada, "update-profile", &change).key(key);
        let again = again.send().await;
        (again.status == 200).then_some(again)
    })
    .await;
    let seen = client.read(ME, &ada, answer.token()).await;
    assert_eq!(seen.body["given_name"], "Augusta");
    let grace = client.person("grace@example.org").await;
    client.read(ME, &grace, &grace.token).await;

    assert_eq!(roles.terminate().await, 0);
    assert_clean(&on_eventstore().args(["verify", "--rows"]).finish().await);
}
