//! Personal data and secrets stand nowhere in plain: not in a database's files, not in a message, not in a log. The search
//! is for distinctive values, byte for byte, in everything that the processes leave on disk or print.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer, ExchangeKind};
use serde_json::{Value, json};
use test_support::{Postgres, RabbitMq, files_containing, psql};

use crate::client::{Answer, Client, ME, Person};
use crate::mailbox::{CONFIRM, Mailbox};
use crate::world::{Cluster, Embedded, Settings, launch};

const PASSWORD: &str = "kanarien-passwort-Xq7";
const DEVICE: &str = "kanarien-telefon/4.2";
const KEY_NAME: &str = "kanarienschluessel";
const WITHIN: Duration = Duration::from_mins(1);

/// What stood in plain when it was sent, and may stand in plain nowhere else.
struct Canaries {
    needles: Vec<String>,
    /// What does stand there: it shows that the search would have found the others.
    account: String,
    token: String,
    messages: usize,
}

fn profile() -> Value {
    json!({
        "display_name": "Zwitscher Kanari", "given_name": "Vornamkanari", "family_name": "Familkanari",
        "phone": "+4915199887766", "birth_date": "1987-03-21", "address": "Kanarienweg 77\n10115 Berlin",
    })
}

/// Does with one account all that can be done, wrong and right.
async fn live(client: &Client, mailbox: &Mailbox, email: &str) -> Canaries {
    let body = json!({ "email": email, "password": PASSWORD, "profile": profile() });
    client
        .post("/v1/accounts")
        .json(&body)
        .key("register")
        .expect(201)
        .await;
    client
        .post("/v1/accounts")
        .json(&body)
        .key("register")
        .expect(201)
        .await;
    let login = json!({ "email": email, "password": PASSWORD });
    let request = client.post("/v1/sessions").header("user-agent", DEVICE);
    let ada = Person::of(&request.json(&login).expect(201).await);
    let wrong = json!({ "email": email, "password": "kanarien-vertippt" });
    client.post("/v1/sessions").json(&wrong).expect(401).await;
    let invalid = json!({ "email": email, "password": PASSWORD, "profile": { "display_name": 7, "phone": "kanarienzahl" } });
    client.post("/v1/accounts").json(&invalid).expect(422).await;
    client
        .post("/v1/accounts")
        .raw("application/json", format!("{{\"email\": \"{email}\""))
        .expect(400)
        .await;
    let change = json!({ "given_name": "Zweitkanari", "address": null });
    client
        .command(&ada, "update-profile", &change)
        .expect(200)
        .await;
    let settings = json!({ "custom": { "kanarienfach": "kanarienwert", "tief": { "liste": ["kanarientief"] } } });
    client
        .command(&ada, "change-settings", &settings)
        .expect(200)
        .await;
    let (new, last, secrets) = verify_and_move(client, mailbox, &ada, email).await;
    let next = Person::of(&client.refresh(&ada.refresh).await.expect(200));
    let row = client.read(ME, &next, last.token()).await;
    for there in [new.as_str(), "Zweitkanari", "Familkanari", "kanarientief"] {
        assert!(row.text.contains(there), "{there}: {}", row.text);
    }
    client
        .get(&format!("/v1/accounts?email=eq.{email}"))
        .bearer(&next.access)
        .send()
        .await;

    let mut needles = needles(email);
    needles.extend(secrets);
    for person in [&ada, &next] {
        needles.extend([person.refresh.clone(), person.access.clone()]);
    }
    // Registered, logged in, changed twice; verified, moved in two steps, an API key, an export.
    let messages = 9;
    Canaries {
        needles,
        account: ada.account,
        token: last.token().to_owned(),
        messages,
    }
}

/// Proves the address, moves to another, makes an API key, and takes everything along. Gives the new address, the answer
/// to the last command, and all that was secret or personal on the way.
async fn verify_and_move(
    client: &Client,
    mailbox: &Mailbox,
    ada: &Person,
    email: &str,
) -> (String, Answer, Vec<String>) {
    let new = format!("Neu.{email}");
    let letter = mailbox.newest(email, CONFIRM).await;
    let body = json!({ "code": letter.code() });
    client.command(ada, "verify-email", &body).expect(200).await;
    let body = json!({ "email": new, "password": PASSWORD });
    client.command(ada, "change-email", &body).expect(200).await;
    let moving = mailbox.newest(&new, CONFIRM).await;
    let body = json!({ "code": moving.code() });
    client
        .command(ada, "confirm-email", &body)
        .expect(200)
        .await;
    let body = json!({ "name": KEY_NAME, "expires_in_days": 1, "scopes": ["self:read"] });
    let made = client.post("/v1/api-keys").bearer(&ada.access).json(&body);
    let made = made.expect(201).await;
    let key = made.body["api_key"].as_str().expect("a key");
    let sessions = client
        .get("/v1/accounts/me/sessions")
        .bearer(key)
        .expect(200);
    assert!(sessions.await.text.contains(DEVICE));
    let exported = client.command(ada, "export", &json!({})).expect(200).await;
    for there in [email, new.as_str(), DEVICE, KEY_NAME] {
        assert!(exported.text.contains(there), "{there}: {}", exported.text);
    }
    let secrets = [letter.link_token(), moving.link_token(), key.to_owned()];
    (new, exported, secrets.to_vec())
}

/// What `live` sends that is personal or secret.
fn needles(email: &str) -> Vec<String> {
    let profile = profile();
    let fields = profile.as_object().into_iter().flatten();
    let mut needles: Vec<String> = fields
        .filter_map(|(_, value)| value.as_str().map(str::to_owned))
        .collect();
    let local = email.split('@').next().unwrap_or(email);
    needles.extend([
        email.to_owned(),
        email.to_lowercase(),
        local.to_owned(),
        local.to_lowercase(),
    ]);
    needles.extend(
        [
            "Kanarienweg",
            "Zweitkanari",
            "kanarienfach",
            "kanarienwert",
            "kanarientief",
            "kanarienzahl",
            "kanarien-vertippt",
            PASSWORD,
            DEVICE,
            KEY_NAME,
        ]
        .map(str::to_owned),
    );
    needles
}

impl Canaries {
    fn assert_not_in_files(&self, folder: &Path) {
        for needle in &self.needles {
            let mut found = files_containing(folder, needle);
            // Here mail is sent to, in the embedded form: what a mailbox would hold.
            found.retain(|file| !file.starts_with(folder.join("data/mail")));
            assert!(found.is_empty(), "{needle} stands in {found:?}");
        }
    }

    fn assert_not_in(&self, text: &str, what: &str) {
        for needle in &self.needles {
            assert!(!text.contains(needle.as_str()), "{needle} stands in {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_servers_files_and_logs_hold_nothing_personal() {
    let folder = test_support::temp_dir();
    let server = launch()
        .folder(folder.path())
        .env("SHOWCALLER_LOG", "debug")
        .start()
        .await;
    let canaries = live(
        &Client::new(&server.url()),
        &Mailbox::of(folder.path()),
        "Piep.Kanari-Q7@vogelhaus.example",
    )
    .await;
    for moment in [
        "while it runs, its write-ahead logs beside it",
        "after an orderly end",
    ] {
        // The name of a stream holds the account's id: where the search finds that, it would find the others.
        let found = files_containing(folder.path().join("data"), &canaries.account);
        assert!(!found.is_empty(), "the search finds nothing {moment}");
        canaries.assert_not_in_files(folder.path());
        canaries.assert_not_in_files(server.folder());
        canaries.assert_not_in(&server.logs(), "the log");
        if server.is_running() {
            assert_eq!(server.terminate().await, 0);
        }
    }
    let embedded = Embedded::start_in(folder).await;
    let shown = embedded
        .verb(&["streams", "show", &format!("account-{}", canaries.account)])
        .await;
    canaries.assert_not_in(&(shown.stdout + &shown.stderr), "what streams show prints");
    let verified = embedded.verb(&["verify", "--rows"]).await;
    canaries.assert_not_in(&(verified.stdout + &verified.stderr), "what verify prints");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_files_messages_and_the_logs_of_all_roles_hold_nothing_personal() {
    let (postgres, rabbitmq) = tokio::join!(Postgres::shared(), RabbitMq::shared());
    let vhost = rabbitmq.fresh_vhost().await;
    let mut settings = Settings::new(postgres, &vhost).await;
    settings.log = "debug";
    let (connection, mut tap) = tap(&vhost).await;
    let cluster = Cluster::start(&settings).await;
    let mailbox = Mailbox::of(cluster.command_api.folder());
    let email = "Piep.Kanari-P9@vogelhaus.example";
    let canaries = live(&cluster.client(), &mailbox, email).await;

    let mut messages = Vec::new();
    while messages.len() < canaries.messages {
        let delivery = tokio::time::timeout(WITHIN, tap.next())
            .await
            .expect("the tap gets every message");
        let delivery = delivery.expect("the tap stays open").expect("a message");
        let text = String::from_utf8_lossy(&delivery.data).into_owned()
            + &format!("{:?}", delivery.properties);
        canaries.assert_not_in(&text, "a message");
        delivery
            .ack(BasicAckOptions::default())
            .await
            .expect("the connection stands");
        if !delivery.routing_key.as_str().ends_with(".heartbeat") {
            messages.push(text);
        }
    }
    assert!(
        messages.iter().any(|text| text.contains(&canaries.account)),
        "{messages:?}"
    );
    connection
        .close(200, "done".into())
        .await
        .expect("the connection stands");

    for role in ["command-api", "relay", "projector", "query-api"] {
        let (_, process) = cluster
            .processes()
            .into_iter()
            .find(|(name, _)| *name == role)
            .expect("all roles");
        canaries.assert_not_in(&process.logs(), role);
    }
    psql(&settings.events, "CHECKPOINT").await;
    assert!(
        !files_containing(postgres.folder(), &canaries.account).is_empty(),
        "the search would find nothing"
    );
    canaries.assert_not_in_files(postgres.folder());
    canaries.assert_not_in_files(rabbitmq.folder());
    let row = cluster
        .client()
        .get("/v1/sign-ups-per-day")
        .after(&canaries.token)
        .send()
        .await;
    assert_eq!(row.status, 401);
}

/// A queue of one's own beside the projector's, which gets every message.
pub async fn tap(url: &str) -> (Connection, Consumer) {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .expect("the broker is up");
    let channel = connection.create_channel().await.expect("a channel");
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let exchange = channel.exchange_declare(
        broker::EXCHANGE.into(),
        ExchangeKind::Topic,
        durable,
        FieldTable::default(),
    );
    exchange
        .await
        .expect("the exchange is as the relay declares it");
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await
        .expect("a queue");
    let bound = channel.queue_bind(
        queue.name().clone(),
        broker::EXCHANGE.into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.expect("a binding");
    let consumer = channel
        .basic_consume(
            queue.name().clone(),
            "tap".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a consumer");
    (connection, consumer)
}
