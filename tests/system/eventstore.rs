//! The whole path with the log in EventStoreDB: commands, relay, projector and verify on `esdb://`. Three other processes
//! serve the log over the protocol, and die in between. Where `SHOWCALLER_TEST_ESDB` names a real server, that is used
//! instead, and the way to it breaks.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use test_support::{
    Link, Postgres, Showcaller, eventstore_address, eventually, free_port, fresh_log,
    named_eventstore, temp_dir,
};
use tokio::sync::Semaphore;

use crate::client::{Client, ME};
use crate::load::Crowd;
use crate::world::{assert_clean, launch};

const SOON: Duration = Duration::from_mins(1);
const PEOPLE: usize = 4;
/// How many commands go through while a node is away.
const MEANWHILE: usize = 10;

/// What can die.
enum Node {
    Process(Showcaller),
    Link(Link),
}

impl Node {
    async fn kill(&self) {
        match self {
            Self::Process(process) => process.kill().await,
            Self::Link(link) => link.cut(),
        }
    }

    async fn restart(&self) {
        match self {
            Self::Process(process) => process.restart().await,
            Self::Link(link) => link.mend(),
        }
    }
}

/// A log behind EventStoreDB's protocol.
struct Served {
    nodes: Vec<Node>,
    url: String,
}

impl Served {
    async fn start() -> Self {
        if let Some(server) = named_eventstore() {
            let url = fresh_log(&server);
            let address = eventstore_address(&url);
            let link = Link::to(&address).await;
            return Self {
                url: url.replacen(&address, link.address(), 1),
                nodes: vec![Node::Link(link)],
            };
        }
        let database = Postgres::shared().await.fresh_database().await;
        let addresses = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut nodes = Vec::new();
        for address in &addresses {
            let arguments = ["--role", "event-store", "--insecure"];
            let process = launch()
                .env("SHOWCALLER_EVENTS", &database)
                .env("SHOWCALLER_EVENT_STORE_LISTEN", address)
                .args(arguments)
                .start()
                .await;
            nodes.push(Node::Process(process));
        }
        Self {
            nodes,
            url: format!("esdb://{}?tls=false", addresses.join(",")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_their_rows_through_eventstoredb_whichever_of_its_nodes_dies() {
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

    // One node after the other is away for a while, so whichever is in use is among them.
    let crowd = Crowd::gather(&client, PEOPLE, "crowd").await;
    let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    let load = crowd.start(&client, &permits);
    for (number, node) in served.nodes.iter().enumerate() {
        node.kill().await;
        if served.nodes.len() > 1 {
            let before = crowd.acknowledged();
            eventually(SOON, || async {
                crowd.acknowledged() >= before + MEANWHILE
            })
            .await;
            let change = json!({"given_name": format!("Ada {number}")});
            let answer = client
                .command(&ada, "update-profile", &change)
                .expect(200)
                .await;
            let seen = client.read(ME, &ada, answer.token()).await;
            assert_eq!(seen.body["given_name"], format!("Ada {number}"));
        }
        node.restart().await;
    }
    permits.close();
    load.join_all().await;

    // All of them, and back.
    for node in &served.nodes {
        node.kill().await;
    }
    let change = json!({"given_name": "Augusta"});
    let key = "while-it-is-down";
    let late = client.command(&ada, "update-profile", &change).key(key);
    let late = late.send().await;
    assert_eq!(late.status, 503, "{}", late.body);
    served.nodes[0].restart().await;
    let answer = eventually(SOON, || async {
        let again = client.command(&ada, "update-profile", &change).key(key);
        let again = again.send().await;
        (again.status == 200).then_some(again)
    })
    .await;
    let seen = client.read(ME, &ada, answer.token()).await;
    assert_eq!(seen.body["given_name"], "Augusta");

    assert_eq!(roles.terminate().await, 0);
    crowd.assert_in_log_once(&served.url).await;
    assert_clean(&on_eventstore().args(["verify", "--rows"]).finish().await);
}
