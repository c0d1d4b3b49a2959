//! The description of the API against what the routes do: no route is left out, and every body is described as it is parsed.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use web::openapi::{Description, Method};

use crate::people::Person;
use crate::system::{Answer, System, post, register, system};

fn described(system: &System) -> Description {
    Description::new("Test", "1")
        .with(command_api::describe(&system.state))
        .with_schemas(command_api::schemas())
}

#[tokio::test]
async fn every_command_is_described_and_nothing_else() {
    let system = system().await;
    let described: BTreeSet<String> = described(&system)
        .routes_described()
        .into_iter()
        .filter(|(method, _)| *method == Method::Post)
        .map(|(_, path)| path)
        .collect();
    let served: BTreeSet<String> = system
        .commands
        .iter()
        .map(|path| format!("/v1{path}"))
        .collect();
    assert_eq!(described, served);
}

/// Somebody who may give every command, and the ids of what they may give it to.
struct Walk {
    operator: Person,
    api_key: String,
    notebook: String,
    /// Somebody else's account.
    other: String,
}

impl Walk {
    async fn begin(system: &System) -> Self {
        let operator = system.operator("olga@example.org").await.1;
        let create = |path: &'static str, body: Value| {
            post(&system.one, path)
                .bearer(&operator.access)
                .body(body)
                .send()
        };
        let body = json!({"name": "a", "scopes": ["self:read"], "expires_in_days": 1});
        let api_key = create("/v1/api-keys", body).await.expect(201);
        let notebook = create("/v1/notebooks", json!({"line": "hello"})).await;
        let id = |answer: &Answer| {
            let location = answer.header("location");
            location.rsplit('/').next().expect("an id").to_owned()
        };
        let other = register(&system.one, "other@example.org").send().await;
        Self {
            api_key: id(&api_key),
            notebook: id(&notebook.expect(201)),
            other: id(&other.expect(201)),
            operator,
        }
    }

    async fn send(&self, system: &System, path: &str, body: &Value) -> Answer {
        let id = match path.split('/').nth(2) {
            Some("accounts") => "me",
            Some("sessions") => &self.operator.session,
            Some("api-keys") => &self.api_key,
            _ => &self.notebook,
        };
        self.give(system, &path.replace("{id}", id), body).await
    }

    async fn give(&self, system: &System, path: &str, body: &Value) -> Answer {
        let call = post(&system.one, path).bearer(&self.operator.access);
        call.body(body.clone()).send().await
    }
}

fn names(of: impl Iterator<Item = impl Into<String>>) -> BTreeSet<String> {
    of.map(Into::into).collect()
}

fn properties(schema: &Value) -> BTreeSet<String> {
    names(
        schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name),
    )
}

fn required(schema: &Value) -> BTreeSet<String> {
    let listed = schema["required"].as_array().into_iter().flatten();
    names(listed.map(|name| name.as_str().expect("a name")))
}

/// The fields that an answer says are known, and those that it says are required, of the object at `pointer`.
fn said(answer: &Answer, pointer: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let errors = answer.body["errors"].as_array().expect("errors");
    let text = |error: &Value, name: &str| error[name].as_str().expect("a text").to_owned();
    let known = errors
        .iter()
        .find(|error| text(error, "pointer") == format!("{pointer}/nobody-knows-this"))
        .map(|error| text(error, "detail"))
        .expect("an unknown field is told");
    let (_, known) = known.split_once("known are: ").expect("known fields");
    let known = names(known.split(", ").filter(|name| !name.is_empty()));
    let wanted = errors
        .iter()
        .filter(|error| error["code"] == "required")
        .filter_map(|error| {
            let name = text(error, "pointer")
                .strip_prefix(&format!("{pointer}/"))?
                .to_owned();
            (!name.contains('/')).then_some(name)
        });
    (known, names(wanted))
}

/// The routes themselves say which fields they know and want; that is what is described.
#[tokio::test]
async fn every_body_is_described_as_it_is_parsed() {
    let system = system().await;
    let walk = Walk::begin(&system).await;
    let document = described(&system).document();
    for path in &system.commands {
        let path = format!("/v1{path}");
        let schema = &document["paths"][&path]["post"]["requestBody"]["content"]["application/json"]
            ["schema"];
        // Where there are two bodies, the first is for one's own account, the second for another's.
        let schemas = match schema["anyOf"].as_array() {
            Some(two) => two.clone(),
            None => vec![schema.clone()],
        };
        for (index, schema) in schemas.iter().enumerate() {
            assert_eq!(schema["additionalProperties"], false, "{path}");
            let mut body = json!({"nobody-knows-this": 1});
            let nested = &schema["properties"]["profile"];
            if nested.is_object() {
                body["profile"] = json!({"nobody-knows-this": 1});
            }
            let answer = match index {
                0 => walk.send(&system, &path, &body).await,
                _ => {
                    walk.give(&system, &path.replace("{id}", &walk.other), &body)
                        .await
                }
            };
            assert_eq!(answer.code(), (422, "invalid"), "{path}: {answer:?}");
            let (known, mut wanted) = said(&answer, "");
            if nested.is_object() {
                wanted.insert("profile".into());
                let found = said(&answer, "/profile");
                assert_eq!(found, (properties(nested), required(nested)), "{path}");
            }
            assert_eq!(
                (known, wanted),
                (properties(schema), required(schema)),
                "{path}"
            );
        }
    }
}

/// Whoever pastes an example is not told that it is not valid.
#[tokio::test]
async fn every_example_of_a_body_is_valid() {
    let system = system().await;
    let walk = Walk::begin(&system).await;
    let document = described(&system).document();
    for path in &system.commands {
        // What ends the walk's own session is shown by the test above.
        if ["/close", "/sessions/{id}/end", "/revoke-role"]
            .iter()
            .any(|end| path.ends_with(end))
        {
            continue;
        }
        let path = format!("/v1{path}");
        let content =
            &document["paths"][&path]["post"]["requestBody"]["content"]["application/json"];
        let answer = walk.send(&system, &path, &content["example"]).await;
        assert!(
            ![400, 422].contains(&answer.status.as_u16()),
            "{path}: {answer:?}"
        );
        let responses = &document["paths"][&path]["post"]["responses"];
        assert!(
            responses[answer.status.as_str()].is_object(),
            "{path}: {answer:?}"
        );
    }
}
