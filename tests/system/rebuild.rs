//! Read models built anew under load: no read fails, no token breaks, and a kill in the middle is made good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event_store::{Append, Expected};
use events::{Actor, CommandId, Metadata, NewEvent, StreamId};
use serde_json::json;
use test_support::{Postgres, RabbitMq, eventually};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::client::{Client, ME};
use crate::load::Crowd;
use crate::world::{Cluster, Embedded, Settings};

const PEOPLE: usize = 8;
const WITHIN: Duration = Duration::from_mins(1);
/// How long the load goes on before the rebuild, and after it.
const AROUND: Duration = Duration::from_secs(1);

/// What the readers of a load have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    reads: AtomicU64,
    longest_us: AtomicU64,
}

/// Commands all the while, each followed by a read with its token, which must be answered at once and rightly.
fn load(crowd: &Arc<Crowd>, client: &Client, seen: &Arc<Seen>) -> JoinSet<()> {
    let mut people = JoinSet::new();
    for person in 0..PEOPLE {
        let (crowd, client, seen) = (Arc::clone(crowd), client.clone(), Arc::clone(seen));
        people.spawn(async move {
            while !seen.over.load(Ordering::Relaxed) {
                let answer = crowd
                    .attempt(&client, &crowd.next(person))
                    .await
                    .expect("it is answered")
                    .expect(200);
                let began = Instant::now();
                let access = &crowd.people()[person].access;
                let read = client.get(ME).bearer(access).after(answer.token());
                let row = read.send().await.expect(200);
                assert!(
                    row.body["version"].as_u64() >= Some(answer.version()),
                    "{}",
                    row.text
                );
                let took = began.elapsed().as_micros() as u64;
                seen.longest_us.fetch_max(took, Ordering::Relaxed);
                seen.reads.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_under_load_fails_no_read_breaks_no_token_and_outlives_a_kill() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let cluster = Cluster::start(&settings).await;
    let client = cluster.client();
    let crowd = Crowd::gather(&client, PEOPLE, "rebuild").await;
    let verb = async |arguments: &[&str]| settings.launch().args(arguments).finish().await;

    let (seen, began) = (Arc::new(Seen::default()), Instant::now());
    let people = load(&crowd, &client, &seen);
    tokio::time::sleep(AROUND).await;
    let before = seen.longest_us.swap(0, Ordering::Relaxed);
    for arguments in [
        &["rebuild", "accounts", "--compare", "--output", "json"][..],
        &["rollback", "accounts"],
        &["rebuild", "--all"],
    ] {
        let done = verb(arguments).await;
        assert_eq!(
            done.status, 0,
            "{arguments:?}: {}{}",
            done.stdout, done.stderr
        );
    }
    let during = seen.longest_us.load(Ordering::Relaxed);
    tokio::time::sleep(AROUND).await;
    seen.over.store(true, Ordering::Relaxed);
    people.join_all().await;
    let reads = seen.reads.load(Ordering::Relaxed);
    println!(
        "{} commands, and as many reads with their tokens, in {:.1} s, none failed; longest read {} ms before, {} ms during \
         the rebuilds",
        reads,
        began.elapsed().as_secs_f64(),
        before / 1_000,
        during / 1_000
    );
    let told = verb(&["rebuilds", "--output", "json"]).await;
    assert!(
        told.stdout.matches("\"phase\":\"live\"").count() > 2,
        "{}",
        told.stdout
    );

    // Killed as soon as it is asked for one, it goes on when it is back.
    let asked = verb(&["rebuild", "--all", "--detach"]).await;
    cluster.projector.kill().await;
    assert_eq!(asked.status, 0, "{}", asked.stderr);
    let tokens = crowd.tokens();
    cluster.projector.restart().await;
    eventually(WITHIN, || async {
        let told = verb(&["rebuilds", "--output", "json"]).await.stdout;
        !["waiting", "building", "comparing"]
            .iter()
            .any(|phase| told.contains(phase))
    })
    .await;
    for person in crowd.people() {
        client.read(ME, person, &tokens[&person.account]).await;
    }
    settings.verify().await;
}

/// Wishes over HTTP and a parked stream, as an operator whose access token this is.
pub async fn over_http(embedded: &Embedded, access: &str) {
    let client = embedded.client();
    let ask = async |name: &str, command: &str, body: serde_json::Value| {
        let path = format!("/v1/operator/{name}/{command}");
        client.post(&path).bearer(access).json(&body).send().await
    };
    ask("accounts", "rebuild", json!({ "compare": true }))
        .await
        .expect(200);
    ask("nothing", "rebuild", json!({}))
        .await
        .refused(404, "not_found");
    let other = client.person("no-operator@example.org").await;
    let path = "/v1/operator/accounts/rebuild";
    client
        .post(path)
        .bearer(&other.access)
        .json(&json!({}))
        .refused(403, "forbidden")
        .await;
    let list = async |what: &str| {
        let path = format!("/v1/operator/{what}");
        let list = client.get(&path).bearer(access).expect(200).await;
        list.body.as_array().expect("a list").clone()
    };
    eventually(WITHIN, || async {
        let rebuilds = list("rebuilds").await;
        rebuilds
            .iter()
            .any(|one| one["phase"] == "live" && one["read_model"] == "accounts")
    })
    .await;

    let status = list("status").await;
    for (name, key, value) in [
        ("event store", "up", json!(true)),
        ("relay", "state", json!("leads")),
        ("accounts", "kind", json!("read-model")),
    ] {
        let object = status.iter().find(|object| object["name"] == name);
        assert_eq!(object.expect("it is shown")[key], value, "{status:?}");
    }

    // A session that started without an account is what no projection of sessions can read.
    let stream = format!("session-{}", Uuid::from_u128(7));
    append(embedded, &stream, "SessionStarted", "{}").await;
    let parked = || async {
        let parked = list("parked").await;
        let found = parked
            .into_iter()
            .find(|one| one["read_model"] == "active-sessions");
        found.ok_or(())
    };
    let found = eventually(WITHIN, parked).await;
    assert_eq!(
        (&found["stream"], &found["events"]),
        (&json!(stream), &json!(1))
    );
    let listed = embedded.verb(&["parked", "show", &stream]).await;
    assert!(
        listed.stdout.contains("1 events wait"),
        "{}{}",
        listed.stdout,
        listed.stderr
    );
    let again = ["parked", "retry", "active-sessions", "--stream", &stream];
    let tried = embedded.verb(&again).await;
    assert_eq!(tried.status, 1, "{}{}", tried.stdout, tried.stderr);
    let discard =
        json!({ "stream": stream, "position": found["position"], "reason": "made by a test" });
    ask("active-sessions", "discard-parked", discard)
        .await
        .expect(200);
    eventually(WITHIN, || async { parked().await.is_err() }).await;
    for one in list("parked").await {
        let name = one["read_model"].as_str().expect("a name");
        let discard = [
            "parked", "discard", name, "--stream", &stream, "--reason", "no use", "--yes",
        ];
        let done = embedded.verb(&discard).await;
        assert_eq!(done.status, 0, "{}{}", done.stdout, done.stderr);
    }
    let verified = embedded.verb(&["verify"]).await;
    assert!(
        verified
            .stdout
            .contains("0 parked in 0 streams, 1 discarded"),
        "{}",
        verified.stdout
    );
    let audit = embedded
        .verb(&["streams", "show", "projection-active-sessions"])
        .await;
    assert!(audit.stdout.contains("ParkedDiscarded"), "{}", audit.stdout);
}

/// Appends an event as no command would.
async fn append(embedded: &Embedded, stream: &str, type_name: &str, data: &str) {
    let log = event_store::open(&embedded.events_url(), event_store::Options::default())
        .await
        .expect("the log opens");
    let command_id = CommandId(Uuid::new_v4());
    let metadata = Metadata {
        command_id,
        correlation_id: command_id.0,
        causation_id: command_id.0,
        actor: Actor::System("a test".into()),
        session: None,
        address: None,
        recorded_at: chrono::Utc::now(),
        fingerprint: None,
        traceparent: None,
    };
    let event = NewEvent {
        id: command_id.event_id(0),
        type_name: type_name.into(),
        schema_version: 1,
        data: data.into(),
        metadata: serde_json::to_string(&metadata).expect("JSON"),
    };
    let append = Append {
        stream: StreamId::parse(stream).expect("a stream"),
        expected: Expected::Any,
        command_id,
        events: vec![event],
    };
    log.append(append).await.expect("it is appended");
    log.close().await;
}
