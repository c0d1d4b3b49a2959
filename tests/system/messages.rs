//! What goes over RabbitMQ is what the AsyncAPI document says, and a consumer in another language lives on it: the one in
//! examples/python-consumer, which is killed, robbed of its queue, told things twice, and ends with what the log says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use broker::EXCHANGE;
use events::RecordedEvent;
use futures::{FutureExt, StreamExt};
use lapin::options::BasicPublishOptions;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Consumer};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection as _, Row};
use test_support::{
    Postgres, Program, RabbitMq, Showcaller, TempDir, eventually, free_port, psql, temp_dir,
};

use crate::canary::tap;
use crate::client::{Client, Person};
use crate::world::{Settings, read_log};

const PYTHON: &str = "tests/clients/python/run";
const SOON: Duration = Duration::from_mins(1);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All roles in one process, and the log served beside it.
struct World {
    settings: Settings,
    vhost: String,
    roles: Showcaller,
    events_url: String,
    _served: Showcaller,
}

impl World {
    async fn start() -> Self {
        let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
        let vhost = rabbitmq.fresh_vhost().await;
        let settings = Settings::new(postgres, &vhost).await;
        let roles = settings.launch().start().await;
        let address = format!("127.0.0.1:{}", free_port());
        let served = settings
            .role("event-store")
            .args(["--insecure", "--event-store-listen", &address])
            .start()
            .await;
        Self {
            settings,
            vhost,
            roles,
            events_url: format!("esdb://{address}?tls=false"),
            _served: served,
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.roles.url())
    }

    fn document_url(&self) -> String {
        format!("{}/asyncapi.json", self.roles.url())
    }
}

/// The consumer of examples/, and the file that it keeps.
struct Reader {
    program: Program,
    folder: TempDir,
}

impl Reader {
    fn of(world: &World) -> Self {
        let folder = temp_dir();
        let script = root().join("examples/python-consumer/consumer.py");
        let arguments = [
            script.display().to_string(),
            "--document".to_owned(),
            world.document_url(),
        ];
        let variables = [
            ("CONSUMER_BROKER".to_owned(), world.vhost.clone()),
            ("CONSUMER_EVENTS".to_owned(), world.events_url.clone()),
            ("NO_PROXY".to_owned(), "*".to_owned()),
        ];
        let program = Program::new(
            root().join(PYTHON),
            &arguments,
            &variables,
            Some(folder.path()),
        );
        Self { program, folder }
    }

    /// What it has made so far: for each account its log-ins and changes, and the events that it wrote letters for.
    async fn results(&self) -> Results {
        let file = self.folder.path().join("activity.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(file)
            .read_only(true);
        let Ok(mut books) = options.connect().await else {
            return Results::default();
        };
        let mut results = Results::default();
        let activity = "SELECT account, registered_at, log_ins, changes FROM activity";
        for row in sqlx::query(activity)
            .fetch_all(&mut books)
            .await
            .unwrap_or_default()
        {
            let made: (Option<String>, i64, i64) = (row.get(1), row.get(2), row.get(3));
            results
                .activity
                .insert(row.get(0), (made.0.is_some(), made.1, made.2));
        }
        let letters = "SELECT event_id FROM letters";
        for row in sqlx::query(letters)
            .fetch_all(&mut books)
            .await
            .unwrap_or_default()
        {
            results.letters.insert(row.get(0));
        }
        let epochs = "SELECT count(*) FROM logs";
        if let Ok(row) = sqlx::query(epochs).fetch_one(&mut books).await {
            results.epochs = row.get(0);
        }
        _ = books.close().await;
        results
    }

    /// Waits until it has made of the log what there is to be made of it.
    async fn comes_to(&self, expected: &Results) {
        eventually(SOON, || async {
            let found = self.results().await;
            if found == *expected {
                Ok(())
            } else {
                Err(format!(
                    "{found:?}, not {expected:?}\n{}",
                    self.program.logs()
                ))
            }
        })
        .await;
    }
}

#[derive(Debug, Default, PartialEq)]
struct Results {
    /// Registered, log-ins, changes; by account.
    activity: BTreeMap<String, (bool, i64, i64)>,
    letters: BTreeSet<String>,
    epochs: i64,
}

impl Results {
    /// A fold of the log, in other words than the consumer's.
    fn of(log: &[RecordedEvent], epochs: i64) -> Self {
        let mut results = Self {
            epochs,
            ..Self::default()
        };
        for event in log {
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            let account = match event.type_name.as_str() {
                "SessionStarted" => data["account_id"].as_str().expect("an id"),
                _ => event.stream.id(),
            };
            match event.type_name.as_str() {
                "AccountRegistered" => {
                    results.activity.entry(account.to_owned()).or_default().0 = true;
                    results.letters.insert(event.id.to_string());
                }
                "SessionStarted" => results.activity.entry(account.to_owned()).or_default().1 += 1,
                "ProfileUpdated" | "SettingsChanged" => {
                    results.activity.entry(account.to_owned()).or_default().2 += 1;
                }
                _ => {}
            }
        }
        results
    }
}

/// What was published since, in the form that tests/clients/schemas/asyncapi.py reads.
fn drain(tapped: &mut Consumer) -> Vec<Value> {
    let mut seen = Vec::new();
    while let Some(Some(Ok(delivery))) = tapped.next().now_or_never() {
        let headers = delivery.properties.headers().as_ref();
        let traceparent = headers.and_then(|headers| headers.inner().get("traceparent"));
        let headers = match traceparent {
            Some(AMQPValue::LongString(text)) => json!({ "traceparent": text.to_string() }),
            _ => json!({}),
        };
        let body: Value = serde_json::from_slice(&delivery.data).expect("JSON");
        let key = delivery.routing_key.to_string();
        seen.push(json!({ "key": key, "headers": headers, "body": body }));
    }
    seen
}

async fn publish(channel: &Channel, message: &Value, body: &Value) {
    let key = message["key"].as_str().expect("a key");
    let body = body.to_string();
    let sent = channel.basic_publish(
        EXCHANGE.into(),
        key.into(),
        BasicPublishOptions::default(),
        body.as_bytes(),
        BasicProperties::default(),
    );
    sent.await.expect("sent");
}

/// Some people, each with a few changes.
async fn people(client: &Client, names: std::ops::Range<u32>) -> Vec<Person> {
    let mut people = Vec::new();
    for name in names {
        let person = client.person(&format!("reader-{name}@example.org")).await;
        for theme in ["dark", "light"] {
            let change = client.command(&person, "change-settings", &json!({ "theme": theme }));
            change.expect(200).await;
        }
        let profile = json!({ "given_name": "Ada", "family_name": null });
        client
            .command(&person, "update-profile", &profile)
            .expect(200)
            .await;
        people.push(person);
    }
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_as_described_and_a_python_consumer_ends_with_what_the_log_says_whatever_it_missed()
 {
    let world = World::start().await;
    let client = world.client();
    let (connection, mut tapped) = tap(&world.vhost).await;
    let channel = connection.create_channel().await.expect("a channel");
    let consumer = Reader::of(&world);

    // Some events are older than the consumer's queue.
    let mut everybody = people(&client, 0..2).await;
    consumer.program.start().await;
    let log = read_log(&world.settings.events).await;
    consumer.comes_to(&Results::of(&log, 1)).await;
    everybody.extend(people(&client, 2..4).await);

    // It dies at any moment, and what waits for it is gone.
    consumer.program.kill().await;
    everybody.extend(people(&client, 4..6).await);
    assert!(
        RabbitMq::shared()
            .await
            .purge_all_queues(&world.vhost)
            .await
            > 0
    );
    consumer.program.start().await;
    let closed = client.command(&everybody[0], "close", &json!({}));
    closed.expect(200).await;
    let log = read_log(&world.settings.events).await;
    consumer.comes_to(&Results::of(&log, 1)).await;

    // What comes twice counts once, and what an operator replays is no news.
    let seen = drain(&mut tapped);
    let events: Vec<&Value> = seen
        .iter()
        .filter(|message| !message["body"]["id"].is_null())
        .collect();
    for message in &events {
        publish(&channel, message, &message["body"]).await;
        let mut replayed = message["body"].clone();
        replayed["replay"] = json!("0f8b5d3e-6c1a-4b7e-9d24-3a5c7e9f1b2d");
        publish(&channel, message, &replayed).await;
    }
    let last = people(&client, 6..7).await;
    assert!(!last.is_empty());
    let log = read_log(&world.settings.events).await;
    consumer.comes_to(&Results::of(&log, 1)).await;
    every_message_is_described(&world, &seen).await;

    // A restored backup is another epoch: everything is made again, and no letter is written twice.
    assert_eq!(world.roles.terminate().await, 0, "{}", world.roles.logs());
    let restored = "UPDATE showcaller_events.head SET epoch = gen_random_uuid()";
    psql(&world.settings.events, restored).await;
    world.roles.restart().await;
    consumer.comes_to(&Results::of(&log, 2)).await;
    assert_eq!(
        consumer.program.stop("TERM", SOON).await,
        0,
        "{}",
        consumer.program.logs()
    );
}

/// The document is valid AsyncAPI, the verb prints the same, and every message is one that it names.
async fn every_message_is_described(world: &World, seen: &[Value]) {
    let served = world.client().get("/asyncapi.json").expect(200).await.text;
    let printed = world.settings.launch().args(["asyncapi"]).finish().await;
    assert_eq!(printed.status, 0, "{}", printed.stderr);
    let served: Value = serde_json::from_str(&served).expect("JSON");
    assert_eq!(
        served,
        serde_json::from_str::<Value>(&printed.stdout).expect("JSON")
    );

    let folder = temp_dir();
    let (document, messages) = (
        folder.path().join("asyncapi.json"),
        folder.path().join("messages"),
    );
    fs::write(&document, served.to_string()).expect("ours");
    let lines: Vec<String> = seen.iter().map(Value::to_string).collect();
    fs::write(&messages, lines.join("\n")).expect("ours");
    let install = root().join("tests/clients/schemas/install");
    let mut check = Command::new(root().join(PYTHON));
    check
        .arg(root().join("tests/clients/schemas/asyncapi.py"))
        .args([document, messages]);
    let run = move || (Command::new(install).output(), check.output());
    let (installed, checked) = tokio::task::spawn_blocking(run).await.expect("it ran");
    assert!(installed.expect("bash and npm are there").status.success());
    let checked = checked.expect("python is there");
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{told}");
    let names: BTreeMap<String, u64> = serde_json::from_slice(&checked.stdout).expect("JSON");
    println!("messages as described: {names:?}");
    for name in [
        "AccountRegistered",
        "SettingsChanged",
        "ProfileUpdated",
        "SessionStarted",
        "AccountClosed",
        "Heartbeat",
    ] {
        assert!(names.contains_key(name), "{names:?}");
    }
}
