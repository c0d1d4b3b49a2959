//! Crash drills: the server dies between two steps of something that is done to an account; it is started again, the
//! client sends the same request again, and what stands there is all of it or nothing. The points stand in a list of
//! command-api's, so that none is left out here.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use test_support::{Showcaller, TempDir, eventually, temp_dir};

use crate::client::{Answer, Client, ME, PASSWORD, Person, Request, registration};
use crate::mailbox::{
    ABOUT_TO_CHANGE, ALREADY, CONFIRM, HAS_CHANGED, Mailbox, NEW_PASSWORD, PASSWORD_CHANGED,
    verified,
};
use crate::world::{assert_clean, launch, read_log};

/// How many drills are held at once; each waits most of its time.
const AT_ONCE: usize = 6;
const DIES_WITHIN: Duration = Duration::from_mins(1);
/// What a process left behind is taken up ten seconds later.
const SETTLES_WITHIN: Duration = Duration::from_secs(90);
const ADA: &str = "ada@example.org";
const NEW_ADDRESS: &str = "augusta@example.org";
const NEW: &str = "a loud lighthouse";

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_any_two_steps_loses_no_account_and_leaves_none_half_done() {
    let points = stream::iter(command_api::CRASH_POINTS);
    points
        .for_each_concurrent(AT_ONCE, |point| async move {
            let drill = Drill::begin(point).await;
            match point.split('.').next() {
                Some("register" | "send") => drill.registering().await,
                Some("verify") => drill.verifying().await,
                Some("change-email") => drill.asking_for_another_address().await,
                Some("confirm-email") => drill.confirming_another_address().await,
                Some("forgot-password") => drill.forgetting_the_password().await,
                Some("reset-password") => drill.setting_a_new_password().await,
                Some("log-in") => drill.logging_in().await,
                Some("close") => drill.closing().await,
                Some("erase") => drill.erasing().await,
                _ => panic!("no drill is held for {point}"),
            }
            println!("{point} is survived");
        })
        .await;
}

/// A server that is going to die at one point.
struct Drill {
    point: &'static str,
    folder: TempDir,
    server: Showcaller,
}

impl Drill {
    async fn begin(point: &'static str) -> Self {
        let folder = temp_dir();
        let armed = launch()
            .folder(folder.path())
            .env("SHOWCALLER_TEST_CRASH_AT", point);
        let server = armed.start().await;
        Self {
            point,
            folder,
            server,
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.server.url())
    }

    fn mailbox(&self) -> Mailbox {
        Mailbox::of(self.folder.path())
    }

    async fn verified(&self) -> Person {
        verified(&self.client(), &self.mailbox(), ADA).await
    }

    /// Sends a request that the server dies of, starts another one, and sends it again.
    async fn dies_of(&mut self, request: impl Fn(&Client) -> Request) -> Answer {
        // The answer may come, or not: the point may lie behind it.
        let _ = request(&self.client()).attempt().await;
        let status = self.server.ended(DIES_WITHIN).await;
        assert_ne!(status, 0, "{}: {}", self.point, self.server.logs());
        self.server = launch().folder(self.folder.path()).start().await;
        request(&self.client()).send().await
    }

    /// Nothing is left to be finished or mailed.
    async fn settles(&self) {
        let left = "SELECT (SELECT count(*) FROM intents) + (SELECT count(*) FROM outbox)";
        eventually(SETTLES_WITHIN, || async {
            match self.count(left).await {
                0 => Ok(()),
                left => Err(format!("{}: {left} left", self.point)),
            }
        })
        .await;
    }

    /// Counts in the vault.
    async fn count(&self, sql: &'static str) -> i64 {
        let file = self.folder.path().join("data/vault.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut vault = options.connect().await.expect("the vault can be read");
        let counted = sqlx::query_scalar(sql).fetch_one(&mut vault).await;
        counted.expect("the vault can be read")
    }

    /// How often each of these stands in the log.
    async fn logged<const N: usize>(&self, types: [&str; N]) -> [usize; N] {
        let file = self.folder.path().join("data/events.db");
        let log = read_log(&format!("sqlite:{}", file.display())).await;
        types.map(|name| log.iter().filter(|event| event.type_name == name).count())
    }

    /// The proof holds.
    async fn ends(self) {
        let verify = launch()
            .folder(self.folder.path())
            .args(["verify", "--rows"]);
        assert_clean(&verify.finish().await);
    }

    /// Whether somebody gets in with a password.
    async fn gets_in(&self, email: &str, password: &str) -> bool {
        let body = json!({ "email": email, "password": password });
        let answer = self.client().post("/v1/sessions").json(&body).send().await;
        match answer.status {
            201 => true,
            401 => false,
            _ => panic!("{}: {}", self.point, answer.text),
        }
    }

    /// Somebody else can register with an address and prove it: nobody holds it.
    async fn is_free(&self, email: &str) {
        let (client, mailbox) = (self.client(), self.mailbox());
        mailbox.empty();
        verified(&client, &mailbox, email).await;
    }

    async fn registering(mut self) {
        let body = registration(ADA, "Ada Lovelace");
        let registered = self
            .dies_of(|client| client.post("/v1/accounts").json(&body).key("r"))
            .await
            .expect(201);
        self.settles().await;
        let code = self.mailbox().newest(ADA, CONFIRM).await.code();
        let ada = self.client().returning(ADA).await;
        let location = format!("/v1/accounts/{}", ada.account);
        assert_eq!(registered.header("location"), location, "{}", self.point);
        self.client()
            .command(&ada, "verify-email", &json!({ "code": code }))
            .expect(200)
            .await;
        assert_eq!(
            self.logged(["AccountRegistered"]).await,
            [1],
            "{}",
            self.point
        );
        self.ends().await;
    }

    async fn verifying(mut self) {
        let ada = self.client().person(ADA).await;
        let code = self.mailbox().newest(ADA, CONFIRM).await.code();
        let body = json!({ "code": code });
        let proven = self
            .dies_of(|client| client.command(&ada, "verify-email", &body).key("v"))
            .await
            .expect(200);
        assert_eq!(proven.body["events"], json!(["EmailVerified"]));
        self.settles().await;
        let row = self.client().read(ME, &ada, proven.token()).await;
        assert_eq!(row.body["status"], "verified", "{}", self.point);
        self.client().register(ADA).await.expect(201);
        self.mailbox().newest(ADA, ALREADY).await;
        self.ends().await;
    }

    async fn asking_for_another_address(mut self) {
        let ada = self.verified().await;
        let body = json!({ "email": NEW_ADDRESS, "password": PASSWORD });
        self.dies_of(|client| client.command(&ada, "change-email", &body).key("c"))
            .await
            .expect(200);
        self.settles().await;
        self.mailbox().newest(ADA, ABOUT_TO_CHANGE).await;
        let code = self.mailbox().newest(NEW_ADDRESS, CONFIRM).await.code();
        let confirm = json!({ "code": code });
        let confirm = self.client().command(&ada, "confirm-email", &confirm);
        confirm.expect(200).await;
        assert_eq!(self.logged(["EmailChangeRequested"]).await, [1]);
        assert!(self.gets_in(NEW_ADDRESS, PASSWORD).await, "{}", self.point);
        self.is_free(ADA).await;
        self.ends().await;
    }

    async fn confirming_another_address(mut self) {
        let ada = self.verified().await;
        let body = json!({ "email": NEW_ADDRESS, "password": PASSWORD });
        let ask = self.client().command(&ada, "change-email", &body);
        ask.expect(200).await;
        let code = self.mailbox().newest(NEW_ADDRESS, CONFIRM).await.code();
        let body = json!({ "code": code });
        let moved = self
            .dies_of(|client| client.command(&ada, "confirm-email", &body).key("c"))
            .await
            .expect(200);
        assert_eq!(moved.body["events"], json!(["EmailChanged"]));
        self.settles().await;
        self.mailbox().newest(ADA, HAS_CHANGED).await;
        let row = self.client().read(ME, &ada, moved.token()).await;
        assert_eq!(row.body["email"], NEW_ADDRESS, "{}", self.point);
        assert!(self.gets_in(NEW_ADDRESS, PASSWORD).await, "{}", self.point);
        assert!(!self.gets_in(ADA, PASSWORD).await, "{}", self.point);
        self.is_free(ADA).await;
        self.ends().await;
    }

    async fn forgetting_the_password(mut self) {
        self.verified().await;
        let body = json!({ "email": ADA });
        let forgot = |client: &Client| client.post("/v1/accounts/forgot-password").json(&body);
        self.dies_of(|client| forgot(client).key("f"))
            .await
            .expect(202);
        self.settles().await;
        let token = self.mailbox().newest(ADA, NEW_PASSWORD).await.link_token();
        let body = json!({ "token": token, "new_password": NEW });
        let reset = self
            .client()
            .post("/v1/accounts/reset-password")
            .json(&body);
        reset.expect(200).await;
        assert!(self.gets_in(ADA, NEW).await, "{}", self.point);
        assert_eq!(self.logged(["PasswordResetRequested"]).await, [1]);
        self.ends().await;
    }

    async fn setting_a_new_password(mut self) {
        let ada = self.verified().await;
        let forgot = self.client().post("/v1/accounts/forgot-password");
        forgot.json(&json!({ "email": ADA })).expect(202).await;
        let token = self.mailbox().newest(ADA, NEW_PASSWORD).await.link_token();
        let body = json!({ "token": token, "new_password": NEW });
        let reset = |client: &Client| client.post("/v1/accounts/reset-password").json(&body);
        let done = self
            .dies_of(|client| reset(client).key("r"))
            .await
            .expect(200);
        assert_eq!(done.body["events"], json!(["PasswordChanged"]));
        self.settles().await;
        self.mailbox().newest(ADA, PASSWORD_CHANGED).await;
        self.is_out(&ada).await;
        assert!(self.gets_in(ADA, NEW).await, "{}", self.point);
        assert!(!self.gets_in(ADA, PASSWORD).await, "{}", self.point);
        assert_eq!(self.count("SELECT count(*) FROM credentials").await, 1);
        assert_eq!(
            self.logged(["PasswordChanged", "SessionEnded"]).await,
            [1, 1]
        );
        self.ends().await;
    }

    async fn logging_in(mut self) {
        self.client().register(ADA).await.expect(201);
        let body = json!({ "email": ADA, "password": PASSWORD });
        let again = self.dies_of(|client| client.post("/v1/sessions").json(&body));
        let ada = Person::of(&again.await.expect(201));
        let client = self.client();
        client.read(ME, &ada, &ada.token).await;
        let end = client.command(&ada, "end-sessions", &json!({}));
        end.expect(200).await;
        let open = "SELECT count(*) FROM sessions WHERE ended_seq IS NULL";
        assert_eq!(self.count(open).await, 1, "{}", self.point);
        self.settles().await;
        self.ends().await;
    }

    async fn closing(mut self) {
        let (ada, elsewhere, key) = self.with_two_sessions_and_a_key().await;
        let again = self
            .dies_of(|client| client.command(&ada, "close", &json!({})).key("c"))
            .await;
        self.told(&again, &json!(["AccountClosed"]));
        self.settles().await;
        self.is_gone([&ada, &elsewhere], &key).await;
        let types = ["AccountClosed", "SessionEnded", "ApiKeyRevoked"];
        assert_eq!(self.logged(types).await, [1, 2, 1], "{}", self.point);
        self.ends().await;
    }

    async fn erasing(mut self) {
        let (ada, elsewhere, key) = self.with_two_sessions_and_a_key().await;
        let body = json!({ "password": PASSWORD });
        let again = self
            .dies_of(|client| client.command(&ada, "erase", &body).key("e"))
            .await;
        self.told(&again, &json!(["AccountErased"]));
        self.settles().await;
        self.is_gone([&ada, &elsewhere], &key).await;
        let types = ["AccountErased", "SessionEnded", "ApiKeyRevoked"];
        assert_eq!(self.logged(types).await, [1, 2, 1], "{}", self.point);
        let theirs = "SELECT (SELECT count(*) FROM data_keys WHERE wrapped IS NOT NULL) \
                      + (SELECT count(*) FROM credentials) + (SELECT count(*) FROM claims) \
                      + (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM challenges)";
        assert_eq!(self.count(theirs).await, 0, "{}", self.point);
        self.is_free(ADA).await;
        self.ends().await;
    }

    async fn with_two_sessions_and_a_key(&self) -> (Person, Person, String) {
        let (client, ada) = (self.client(), self.verified().await);
        let elsewhere = client.returning(ADA).await;
        let (key, _) = crate::accounts::api_key(&client, &ada, &json!(["self:read"])).await;
        (ada, elsewhere, key)
    }

    /// The retry was answered with what was done, or the session that asked for it is over.
    fn told(&self, again: &Answer, events: &Value) {
        match again.status {
            200 => assert_eq!(&again.body["events"], events, "{}", self.point),
            401 => {}
            _ => panic!("{}: {}", self.point, again.text),
        }
    }

    async fn is_out(&self, person: &Person) {
        let client = self.client();
        let refreshed = client.refresh(&person.refresh).await;
        refreshed.refused(401, "invalid_refresh_token");
        client.refuses(&person.access).await;
    }

    async fn is_gone(&self, sessions: [&Person; 2], key: &str) {
        for person in sessions {
            self.is_out(person).await;
        }
        self.client().refuses(key).await;
        assert!(!self.gets_in(ADA, PASSWORD).await, "{}", self.point);
    }
}
