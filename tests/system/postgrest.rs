//! The npm client of PostgREST, and the examples of docs/queries.md, against the real server. `./test` installs node, and
//! the client installs its pinned self.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::world::Embedded;

const CLIENT: &str = "tests/clients/postgrest-js/run";

#[tokio::test(flavor = "multi_thread")]
async fn the_client_library_of_postgrest_is_served_and_the_pages_examples_work() {
    let embedded = Embedded::start().await;
    let client = embedded.client();
    let person = client.person("library@example.org").await;
    let mut token = person.token.clone();
    for n in 0..6 {
        let body = json!({ "given_name": format!("Name {n}") });
        let command = client
            .command(&person, "update-profile", &body)
            .after(&token);
        token = command.expect(200).await.token().to_owned();
    }
    let page = include_str!("../../docs/queries.md");
    let examples = page.lines().filter_map(|line| line.strip_prefix("GET "));
    let mut tried = 0;
    for path in examples {
        let path = path.replace('"', "%22");
        let answer = client.read(&path, &person, &token).await;
        assert!(
            answer.text.len() > 2,
            "{path} finds nothing: {}",
            answer.text
        );
        tried += 1;
    }
    assert!(tried >= 5, "the page has examples");
    let mut run = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(CLIENT));
    run.args([&embedded.server.url(), &person.access, &token])
        .env("NO_PROXY", "*");
    let done = tokio::task::spawn_blocking(move || run.output());
    let done = done.await.expect("it ran").expect("node is installed");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{told}");
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "postgrest-js is served\n"
    );
}
