//! `/openapi.json` and `/docs`, as clients meet them: what each process describes, and a walk over everything that is
//! described on a running server.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use test_support::{Postgres, RabbitMq};

use crate::accounts::log_in;
use crate::client::{Answer, Client, PASSWORD};
use crate::mailbox::Device;
use crate::world::{Cluster, Embedded, Settings};

const OPERATOR: &str = "op@example.org";
/// Where the walk finds its refresh token.
const REFRESH_TOKEN: &str = "SHOWCALLER_REFRESH_TOKEN";

/// Somebody who may do everything, as their log-in was answered.
async fn operator(embedded: &Embedded) -> Answer {
    let client = embedded.client();
    let mut device = Device::of_uri(&embedded.make_operator(OPERATOR, PASSWORD).await);
    let early = client.returning(OPERATOR).await;
    let code = json!({ "code": device.code().await });
    let confirmed = client.command(&early, "confirm-totp", &code);
    confirmed.expect(200).await;
    let code = device.code().await;
    let logged_in = log_in(&client, OPERATOR, PASSWORD, Some(&code)).await;
    logged_in.expect(201)
}

/// Walks the description in the session of a refresh token, or as nobody.
async fn walk(url: &str, refresh: Option<&str>) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/schemathesis/run");
    let mut command = Command::new(script);
    command.arg(url).env_remove(REFRESH_TOKEN);
    if let Some(token) = refresh {
        command.env(REFRESH_TOKEN, token);
    }
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    ran.expect("it ran")
        .expect("tests/clients/schemathesis/run needs bash, python3 and python3-venv")
}

#[track_caller]
fn assert_passed(walked: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        walked.status.success(),
        "{}{}",
        text(&walked.stdout),
        text(&walked.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_undocumented_as_an_operator_and_as_nobody() {
    let embedded = Embedded::start().await;
    let url = embedded.server.url();
    let walker = operator(&embedded).await;
    let access = walker.body["access_token"].as_str().expect("a token");
    crate::rebuild::over_http(&embedded, access).await;
    assert_passed(&walk(&url, walker.body["refresh_token"].as_str()).await);
    // The walk has not locked itself out on its way: what it met was more than refusals.
    let session = walker.body["session_id"].as_str().expect("an id");
    let shown = embedded
        .verb(&["streams", "show", &format!("session-{session}")])
        .await;
    let goes_on = shown.stdout.contains("SessionStarted") && !shown.stdout.contains("SessionEnded");
    assert!(goes_on, "{}{}", shown.stdout, shown.stderr);
    assert_passed(&walk(&url, None).await);
    embedded.verify().await;
}

/// The methods and paths under `/v1` that a process describes.
async fn described(client: &Client, from: impl AsyncFn(&Client) -> Answer) -> BTreeSet<String> {
    let document = from(client).await.expect(200).body;
    let paths = document["paths"].as_object().expect("paths");
    let mut found = BTreeSet::new();
    for (path, methods) in paths.iter().filter(|(path, _)| path.starts_with("/v1/")) {
        let methods = methods.as_object().expect("methods");
        found.extend(methods.keys().map(|method| format!("{method} {path}")));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_describes_what_it_serves_and_one_with_both_apis_describes_all() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let settings = Settings::new(postgres, &rabbitmq.fresh_vhost().await).await;
    let cluster = Cluster::start(&settings).await;
    let document = async |client: &Client| client.get("/openapi.json").send().await;
    let of = async |url: String| described(&Client::new(&url), document).await;

    let commands = of(cluster.command_api.url()).await;
    let queries = of(cluster.query_api.url()).await;
    assert!(commands.len() > 20 && commands.iter().all(|route| route.starts_with("post ")));
    assert!(queries.len() > 5 && queries.iter().all(|route| route.starts_with("get ")));
    let all = of(Embedded::shared().await.server.url()).await;
    assert_eq!(all, commands.union(&queries).cloned().collect());

    for process in [&cluster.relay, &cluster.projector] {
        let client = Client::new(&process.url());
        document(&client).await.refused(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline() {
    let client = Embedded::shared().await.client();
    let page = client.get("/docs").expect(200).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(
        !page.text.contains("//") && !page.text.contains("style="),
        "{}",
        page.text
    );
    assert!(
        !page.text.contains("<script>") && !page.text.contains(" on"),
        "{}",
        page.text
    );
    let named = page
        .text
        .split('"')
        .filter(|text| text.starts_with("/docs/"));
    for (file, media) in named.zip(["text/css", "text/javascript"]) {
        let answer = client.get(file).expect(200).await;
        assert!(answer.header("content-type").starts_with(media), "{file}");
        assert!(!answer.text.contains("://"), "{file}");
    }
}
