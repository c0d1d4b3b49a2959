//! Four roles as four processes on PostgreSQL and RabbitMQ: the main path, and every fault of it under load.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use test_support::{Depth, Postgres, RabbitMq, eventually, psql};
use tokio::sync::Semaphore;

use crate::client::{Client, ME, Person};
use crate::load::Crowd;
use crate::world::{Cluster, Settings, read_log};

/// How many commands are sent while things break; `SYSTEM_TEST_COMMANDS` may say another number.
const COMMANDS: usize = 10_000;
/// How many clients send them.
const CLIENTS: usize = 32;
/// In how many parts they are sent, each while something else breaks.
const PARTS: usize = 10;
/// How long a part may take, and how long the projection may take to follow.
const WITHIN: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_command_to_one_process_is_read_from_another() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let cluster = Cluster::start(&settings).await;
    each_role_is_ready_with_what_it_needs(&cluster).await;

    let client = cluster.client();
    let ada = client.person("ada@example.org").await;
    let body = json!({ "given_name": "Augusta Ada" });
    let updated = client
        .command(&ada, "update-profile", &body)
        .after(&ada.token)
        .key("u-1")
        .expect(200)
        .await;
    let row = client.read(ME, &ada, updated.token()).await;
    assert_eq!(
        (
            row.body["given_name"].as_str(),
            row.body["version"].as_u64()
        ),
        (Some("Augusta Ada"), Some(2))
    );
    let history = client
        .read("/v1/account-history", &ada, updated.token())
        .await;
    let types: Vec<_> = history
        .body
        .as_array()
        .expect("rows")
        .iter()
        .filter_map(|row| row["type"].as_str())
        .collect();
    assert_eq!(types.len(), 3, "{types:?}");

    // What is sent to the wrong role is nowhere, and does nothing.
    let wrong = Client::apart(&cluster.query_api.url(), &cluster.command_api.url());
    wrong.register("eve@example.org").await;
    assert_ne!(
        wrong
            .get("/v1/accounts/me")
            .bearer(&ada.access)
            .send()
            .await
            .status,
        200
    );

    // Another process, and one that was killed, give a retry the first answer.
    let second = settings.role("command-api").start().await;
    let elsewhere = Client::new(&second.url());
    for (sender, what) in [
        (&elsewhere, "another process"),
        (&client, "one that was killed"),
    ] {
        cluster.command_api.restart().await;
        let again = sender
            .command(&ada, "update-profile", &body)
            .key("u-1")
            .expect(200)
            .await;
        assert_eq!(again.etag(), updated.etag(), "{what}");
        assert_eq!(again.body["events"], updated.body["events"], "{what}");
        let other = json!({ "given_name": "Eve" });
        let other = sender.command(&ada, "update-profile", &other).key("u-1");
        other.refused(422, "idempotency_key_reused").await;
    }

    a_query_never_answers_with_less_than_its_token(&cluster, &ada).await;
    settings.verify().await;
    let stream = format!("account-{}", ada.account);
    let shown = settings
        .launch()
        .args(["streams", "show", &stream])
        .finish()
        .await;
    assert_eq!(shown.status, 0, "{}", shown.stderr);
    assert!(
        shown.stdout.contains("(personal)") && !shown.stdout.contains("Augusta"),
        "{}",
        shown.stdout
    );
    for (role, process) in cluster.processes() {
        assert_eq!(process.terminate().await, 0, "{role}: {}", process.logs());
    }
}

/// While nobody projects, a query that brings a token is told to ask again; one without gets what there is.
async fn a_query_never_answers_with_less_than_its_token(cluster: &Cluster, ada: &Person) {
    let client = cluster.client();
    cluster.projector.kill().await;
    let changed = client
        .command(ada, "change-settings", &json!({"theme": "dark"}))
        .expect(200)
        .await;
    let waited = client
        .profile(ada, changed.token())
        .await
        .refused(503, "not_yet_projected");
    assert!(!waited.header("retry-after").is_empty(), "{waited:?}");
    let before = client.profile(ada, "").await.expect(200);
    assert_eq!(before.body["theme"], json!(null));
    cluster.projector.restart().await;
    client.read(ME, ada, changed.token()).await;
    let after = client.profile(ada, "").await.expect(200);
    assert_eq!(after.body["theme"], "dark");
}

/// And with nothing more: what a role does not need, it does not open.
async fn each_role_is_ready_with_what_it_needs(cluster: &Cluster) {
    for (role, dependencies, others) in [
        (
            "command-api",
            &["event-store", "vault"][..],
            &["broker", "read-models"][..],
        ),
        (
            "relay",
            &["event-store", "broker"],
            &["vault", "read-models"],
        ),
        (
            "projector",
            &["event-store", "broker", "read-models"],
            &["vault"],
        ),
        (
            "query-api",
            &["vault", "read-models"],
            &["event-store", "broker"],
        ),
    ] {
        let (_, process) = cluster
            .processes()
            .into_iter()
            .find(|(name, _)| *name == role)
            .expect("all roles");
        let ready = Client::new(&process.url())
            .get("/health/ready")
            .expect(200)
            .await;
        for dependency in dependencies {
            assert!(
                ready.text.contains(dependency),
                "{role} needs {dependency}: {}",
                ready.text
            );
        }
        for dependency in others {
            assert!(
                !ready.text.contains(dependency),
                "{role} opens {dependency}: {}",
                ready.text
            );
        }
        assert!(
            process.stdout().contains("listens on"),
            "{role}: {}",
            process.stdout()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_go_on_while_the_broker_is_down_and_nothing_is_lost_or_doubled_whatever_is_killed()
{
    let (postgres, rabbitmq) = tokio::join!(Postgres::start(), RabbitMq::start());
    let vhost = rabbitmq.fresh_vhost().await;
    let settings = Settings::new(&postgres, &vhost).await;
    let cluster = start_without_a_broker(&settings, &rabbitmq).await;
    let client = cluster.client();
    let crowd = Crowd::gather(&client, CLIENTS, "fault").await;

    let part = commands() / PARTS;
    let permits = Arc::new(Semaphore::new(0));
    let clients = crowd.start(&client, &permits);
    let under_load =
        async |fault: &str, breaking: &mut (dyn Future<Output = ()> + Send + Unpin)| {
            let began = std::time::Instant::now();
            let before = crowd.acknowledged();
            permits.add_permits(part);
            eventually(WITHIN, || async {
                crowd.acknowledged() >= before + part / 8
            })
            .await;
            breaking.await;
            eventually(WITHIN, || async { crowd.acknowledged() == before + part }).await;
            println!("{part} commands, {fault}: {:?}", began.elapsed());
        };
    under_load("nothing breaks", &mut Box::pin(async {})).await;
    under_load(
        "the projector is killed",
        &mut Box::pin(restart(&cluster.projector)),
    )
    .await;
    under_load(
        "the relay is killed",
        &mut Box::pin(restart(&cluster.relay)),
    )
    .await;
    under_load("RabbitMQ restarts", &mut Box::pin(rabbitmq.restart())).await;
    under_load(
        "the projector is killed and all that waits for it is purged",
        &mut Box::pin(async {
            cluster.projector.kill().await;
            eventually(WITHIN, || async { waiting(&rabbitmq, &vhost).await > 0 }).await;
            assert!(rabbitmq.purge_all_queues(&vhost).await >= 8);
            cluster.projector.restart().await;
        }),
    )
    .await;
    under_load(
        "all queues are purged",
        &mut Box::pin(async { _ = rabbitmq.purge_all_queues(&vhost).await }),
    )
    .await;
    under_load(
        "clients of RabbitMQ are cut off",
        &mut Box::pin(rabbitmq.drop_connections()),
    )
    .await;
    under_load(
        "the command API is killed",
        &mut Box::pin(restart(&cluster.command_api)),
    )
    .await;
    under_load(
        "clients of PostgreSQL are cut off",
        &mut Box::pin(postgres.drop_connections()),
    )
    .await;
    under_load(
        "PostgreSQL is killed",
        &mut Box::pin(async {
            postgres.kill().await;
            postgres.restart().await;
        }),
    )
    .await;
    permits.close();
    clients.join_all().await;

    crowd.assert_in_log_once(&settings.events).await;
    assert_eq!(crowd.acknowledged(), part * PARTS);
    rows_follow_the_log(&settings).await;
    settings.verify().await;
    let tokens = crowd.tokens();
    for person in crowd.people() {
        let row = client.read(ME, person, &tokens[&person.account]).await;
        assert!(
            row.body["locale"]
                .as_str()
                .is_some_and(|locale| locale.starts_with("en-c")),
            "{}",
            row.text
        );
    }
}

fn commands() -> usize {
    let given = std::env::var("SYSTEM_TEST_COMMANDS").ok();
    given.map_or(COMMANDS, |text| {
        text.parse().expect("SYSTEM_TEST_COMMANDS is a number")
    })
}

async fn restart(process: &test_support::Showcaller) {
    process.kill().await;
    process.restart().await;
}

async fn waiting(rabbitmq: &RabbitMq, vhost: &str) -> u64 {
    rabbitmq
        .queue_depths(vhost)
        .await
        .values()
        .map(
            |Depth {
                 ready,
                 unacknowledged,
             }| ready + unacknowledged,
        )
        .sum()
}

/// The roles come up while the broker is down: those that need it say so, commands go on, and the projection follows when
/// it is back.
async fn start_without_a_broker(settings: &Settings, rabbitmq: &RabbitMq) -> Cluster {
    rabbitmq.stop_app().await;
    let (command_api, relay, projector) = tokio::join!(
        settings.role("command-api").start(),
        settings.role("relay").spawn(),
        settings.role("projector").spawn(),
    );
    let query_api = settings.role("query-api").start().await;
    let cluster = Cluster {
        command_api,
        relay,
        projector,
        query_api,
    };
    let client = cluster.client();
    let ada = client.person("before-the-broker@example.org").await;
    let changed = client
        .command(&ada, "change-settings", &json!({"locale": "en-first"}))
        .expect(200)
        .await;
    for process in [&cluster.relay, &cluster.projector] {
        let health = Client::new(&process.url());
        let down = eventually(WITHIN, || async {
            health.get("/health/ready").attempt().await
        })
        .await;
        assert_eq!(down.status, 503, "{}", down.text);
        assert!(down.text.contains("broker"), "{}", down.text);
        health.get("/health/live").expect(200).await;
    }
    rabbitmq.start_app().await;
    for process in [&cluster.relay, &cluster.projector] {
        let health = Client::new(&process.url());
        eventually(WITHIN, || async {
            health.get("/health/ready").send().await.status == 200
        })
        .await;
    }
    client.read(ME, &ada, changed.token()).await;
    cluster
}

/// As many rows as the log says there must be, once the projection has followed.
async fn rows_follow_the_log(settings: &Settings) {
    let log = read_log(&settings.events).await;
    let accounts = log
        .iter()
        .filter(|event| event.type_name == "AccountRegistered")
        .count();
    let history = log
        .iter()
        .filter(|event| matches!(event.stream.category(), "account" | "session" | "apikey"))
        .count();
    let expected = format!("{accounts}|{history}|{accounts}");
    let counts = "SELECT (SELECT count(*) FROM dashboards.accounts), (SELECT count(*) FROM dashboards.account_history), \
                  (SELECT sum(sign_ups) FROM dashboards.sign_ups_per_day)";
    eventually(WITHIN, || async {
        let found = psql(&settings.database, counts).await;
        if found == expected {
            Ok(())
        } else {
            Err(format!("{found}, not {expected}"))
        }
    })
    .await;
}
