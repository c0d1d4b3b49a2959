//! A store with rows, a vault with people, and a client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use chrono::{DateTime, TimeDelta, Utc};
use events::{Ciphertext, EventId, LogIdentity, Partition, Position, StreamId};
use query_api::{QuerySettings, QueryState};
use read_models::{
    Access, Checkpoint, ColumnType, Commit, Generation, Options, Parked, ReadModel, ReadStore, Row,
    RowKey, RowWrites, Value, open,
};
use secrecy::ExposeSecret;
use serde_json::json;
use test_support::TempDir;
use tower::ServiceExt;
use uuid::Uuid;
use vault::{Keys, NewSession, Seen, Vault, VaultOptions};
use web::{
    AFTER_HEADER, ApiKeyCaller, ApiKeys, Grant, Limits, PositionToken, Problem, Revocations,
    TokenSettings, Tokens, harden,
};

use crate::counting::Counting;
use crate::queries::salaries;

pub const LOG: LogIdentity = LogIdentity {
    log: Uuid::from_u128(77),
    epoch: Uuid::from_u128(78),
    partitions: 2,
};
pub const ADA: Uuid = Uuid::from_u128(0xada);
pub const BOB: Uuid = Uuid::from_u128(0xb0b);
pub const EVE: Uuid = Uuid::from_u128(0xe7e);
/// The session of everybody's access tokens.
pub const SESSION: Uuid = Uuid::from_u128(5);

pub struct Fixture {
    pub store: Arc<dyn ReadStore>,
    pub counting: Arc<Counting>,
    pub vault: Vault,
    pub keys: Arc<Keys>,
    tokens: Arc<Tokens>,
    pub state: QueryState,
    pub app: Router,
    folder: TempDir,
}

/// API keys as the vault holds them.
struct VaultKeys(Vault);

#[async_trait]
impl ApiKeys for VaultKeys {
    async fn find(&self, text: &str, now: DateTime<Utc>) -> Result<Option<ApiKeyCaller>, Problem> {
        let found = self.0.api_key(text, now).await.map_err(Problem::fault)?;
        Ok(found.map(|key| ApiKeyCaller {
            id: key.id,
            account: key.account,
            scopes: key.scopes,
        }))
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{:?}", self.text))
    }

    /// Status and, of a problem, its code.
    pub fn verdict(&self) -> (u16, String) {
        let code = if self.status >= 400 {
            self.json()["code"].as_str().unwrap().to_owned()
        } else {
            String::new()
        };
        (self.status, code)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

pub fn accounts() -> ReadModel {
    ReadModel::new("accounts")
        .key("account_id", ColumnType::Uuid)
        .column("status", ColumnType::Text)
        .column("email", ColumnType::Personal)
        .column("custom", ColumnType::Personal)
        .column("registered_at", ColumnType::Timestamp)
        .column("version", ColumnType::Integer)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
}

pub fn notes() -> ReadModel {
    ReadModel::new("notes")
        .key("author", ColumnType::Uuid)
        .key("title", ColumnType::Text)
        .column("about", ColumnType::Personal)
        .readable_by(Access::Owner {
            column: "author".into(),
        })
}

/// The owner is not part of the key.
pub fn devices() -> ReadModel {
    ReadModel::new("devices")
        .key("device", ColumnType::Text)
        .column("account_id", ColumnType::Uuid)
        .column("name", ColumnType::Text)
        .readable_by(Access::Owner {
            column: "account_id".into(),
        })
}

pub fn prices() -> ReadModel {
    ReadModel::new("prices")
        .key("day", ColumnType::Date)
        .column("cents", ColumnType::Integer)
        .column("final", ColumnType::Boolean)
        .readable_by(Access::Authenticated)
}

pub fn takings() -> ReadModel {
    ReadModel::new("takings")
        .key("day", ColumnType::Date)
        .column("cents", ColumnType::Integer)
        .summed()
}

/// Every read model here.
pub fn models() -> Vec<ReadModel> {
    vec![
        accounts(),
        devices(),
        notes(),
        prices(),
        takings(),
        salaries(),
    ]
}

impl Fixture {
    /// The routes of another process over the same databases, and its vault, which remembers no key yet.
    pub async fn second(&self) -> (Router, Vault) {
        let url = format!("sqlite:{}", self.folder.path().join("vault.db").display());
        let keys = Arc::clone(&self.keys);
        let vault = Vault::open(&url, keys, VaultOptions::default()).await;
        let vault = vault.unwrap();
        let settings = QuerySettings::default();
        let app = self.process_on(self.reader().await, vault.clone(), settings);
        (app, vault)
    }

    /// The routes of another process with these settings.
    pub async fn process(&self, settings: QuerySettings) -> Router {
        self.process_on(self.reader().await, self.vault.clone(), settings)
    }

    /// A store that only reads, as another process has it.
    async fn reader(&self) -> Arc<dyn ReadStore> {
        let file = self.folder.path().join("read-models.db");
        let url = format!("sqlite:{}", file.display());
        open(&url, Options::read_only()).await.unwrap()
    }

    /// The routes of a process with this store and this vault.
    pub fn process_on(
        &self,
        store: Arc<dyn ReadStore>,
        vault: Vault,
        settings: QuerySettings,
    ) -> Router {
        let state = QueryState::new(
            store,
            models(),
            vault,
            Arc::clone(&self.tokens),
            Arc::clone(&self.keys),
            settings,
        );
        harden(query_api::routes(state), Limits::default())
    }

    /// Everybody's session is open.
    pub async fn new() -> Self {
        let fixture = Self::without_session().await;
        let now = Utc::now();
        let session = NewSession {
            id: SESSION,
            // Of nobody whose sessions are listed.
            account: Uuid::nil(),
            started_at: now,
            expires_at: now + TimeDelta::hours(1),
            second_factor: false,
            seen: Seen::default(),
        };
        fixture.vault.begin_session(session).await.unwrap();
        fixture
    }

    /// The vault does not know the session of everybody's tokens, so these are good only for as long as it need not be
    /// asked: for tests that begin the session themselves.
    pub async fn without_session() -> Self {
        let folder = test_support::temp_dir();
        let path = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
        let store = open(&path("read-models.db"), Options::default())
            .await
            .unwrap();
        let models = models();
        for model in &models {
            store.prepare(model, LOG).await.unwrap();
        }
        let reader = open(&path("read-models.db"), Options::read_only())
            .await
            .unwrap();
        let counting = Arc::new(Counting::new(reader));
        let keys = Arc::new(Keys::generate());
        let vault = Vault::open(
            &path("vault.db"),
            Arc::clone(&keys),
            VaultOptions::default(),
        )
        .await
        .unwrap();
        for person in [ADA, BOB, EVE] {
            vault.create_data_key(person).await.unwrap();
        }
        let settings = TokenSettings {
            issuer: "https://issuer.test".into(),
            audience: "test".into(),
        };
        let tokens = Tokens::new(Arc::clone(&keys), settings);
        let revocations = Revocations::follow(vault.clone(), Utc::now()).await;
        let tokens = tokens
            .with_api_keys(Arc::new(VaultKeys(vault.clone())))
            .with_revocations(revocations);
        let tokens = Arc::new(tokens);
        let state = QueryState::new(
            Arc::<Counting>::clone(&counting),
            models,
            vault.clone(),
            Arc::clone(&tokens),
            Arc::clone(&keys),
            QuerySettings::default(),
        );
        let app = harden(query_api::routes(state.clone()), Limits::default());
        Self {
            store,
            counting,
            vault,
            keys,
            tokens,
            state,
            app,
            folder,
        }
    }

    /// Adds rows to a partition's, as if the events up to `position` had been taken in.
    pub async fn commit(
        &self,
        model: &ReadModel,
        partition: u16,
        position: u64,
        rows: Vec<(RowKey, Vec<Value>)>,
    ) {
        let upserts = rows.into_iter().map(|(key, values)| {
            let updated_at = Some(moment());
            (
                key,
                Row {
                    values,
                    partition: Partition(partition),
                    position: Position::new(position),
                    updated_at,
                },
            )
        });
        let writes = RowWrites {
            upserts: upserts.collect(),
            ..RowWrites::default()
        };
        self.write(model, partition, position, &writes).await;
    }

    /// Removes rows of a partition.
    pub async fn delete(
        &self,
        model: &ReadModel,
        partition: u16,
        position: u64,
        keys: Vec<RowKey>,
    ) {
        let writes = RowWrites {
            deletes: keys,
            ..RowWrites::default()
        };
        self.write(model, partition, position, &writes).await;
    }

    pub async fn park(&self, model: &ReadModel, partition: u16, position: u64, stream: &StreamId) {
        let parked = Parked {
            stream: stream.clone(),
            partition: Partition(partition),
            position: Position::new(position),
            error: "it cannot be read".into(),
        };
        let writes = RowWrites {
            park: vec![parked],
            ..RowWrites::default()
        };
        self.write(model, partition, position, &writes).await;
    }

    async fn write(&self, model: &ReadModel, partition: u16, position: u64, writes: &RowWrites) {
        let generation = self.store.live(&model.name).await.unwrap().unwrap();
        self.write_to(model, &generation, partition, position, writes)
            .await;
    }

    pub async fn write_to(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: u16,
        position: u64,
        writes: &RowWrites,
    ) {
        let (_, checkpoints) = self.store.checkpoints(generation).await.unwrap();
        let from = checkpoints[usize::from(partition)];
        let to = Checkpoint {
            position: Position::new(position),
            ..from
        };
        self.store
            .commit(Commit {
                model,
                generation,
                partition: Partition(partition),
                from,
                to,
                writes,
            })
            .await
            .unwrap();
    }

    /// A personal value of this person, as a row has it.
    pub async fn sealed(&self, person: Uuid, value: serde_json::Value) -> Value {
        let key = self.vault.data_key(person).await.unwrap();
        let stream = StreamId::new("account", &person.to_string()).unwrap();
        let ciphertext: Ciphertext = key.seal_value(&stream, EventId(Uuid::nil()), "email", &value);
        (&ciphertext).into()
    }

    /// An account row of this person at a position.
    pub async fn account(&self, person: Uuid, position: u64) {
        let email = self
            .sealed(person, json!(format!("{person}@example.org")))
            .await;
        let custom = self.sealed(person, json!({ "b": 1, "a": [true] })).await;
        let values = vec![
            "pending".into(),
            email,
            custom,
            moment().into(),
            Value::Integer(position as i64),
        ];
        self.commit(
            &accounts(),
            0,
            position,
            vec![(vec![person.into()], values)],
        )
        .await;
    }

    pub fn bearer(&self, account: Uuid, scopes: &[&str]) -> String {
        self.bearer_of(account, SESSION, scopes)
    }

    fn bearer_of(&self, account: Uuid, session: Uuid, scopes: &[&str]) -> String {
        self.bearer_at(account, session, scopes, Utc::now())
    }

    /// A token that was issued at a moment.
    pub fn bearer_at(
        &self,
        account: Uuid,
        session: Uuid,
        scopes: &[&str],
        now: DateTime<Utc>,
    ) -> String {
        let grant = Grant {
            account,
            session,
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            authenticated_at: now,
            second_factor: false,
        };
        format!("Bearer {}", self.tokens.issue(&grant, now).token)
    }

    /// A token that has seen a stream of a partition up to a position.
    pub fn after(&self, partition: u16, stream: &StreamId, position: u64) -> String {
        self.after_in(LOG, partition, stream, position)
    }

    pub fn after_in(
        &self,
        log: LogIdentity,
        partition: u16,
        stream: &StreamId,
        position: u64,
    ) -> String {
        let mut token = PositionToken::new(log);
        token.note(Partition(partition), stream, Position::new(position));
        token.seal(&self.keys)
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        get_from(&self.app, path, headers).await
    }

    /// As this account, with these scopes.
    pub async fn get_as(&self, account: Uuid, scopes: &[&str], path: &str) -> Answer {
        self.get(path, &[("authorization", &self.bearer(account, scopes))])
            .await
    }

    /// As a program of this account, with an API key that holds these scopes.
    pub async fn get_by_key(&self, account: Uuid, scopes: &[&str], path: &str) -> Answer {
        let bearer = self.api_key(account, scopes).await;
        self.get(path, &[("authorization", &bearer)]).await
    }

    pub async fn api_key(&self, account: Uuid, scopes: &[&str]) -> String {
        let scopes: Vec<_> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let until = Utc::now() + TimeDelta::hours(1);
        let key = self
            .vault
            .store_api_key(Uuid::new_v4(), account, &scopes, until)
            .await
            .unwrap();
        format!("Bearer {}", key.expose_secret())
    }

    /// A token of an open session, with the session's id.
    pub async fn open_session(&self, account: Uuid) -> (String, Uuid) {
        let session = Uuid::new_v4();
        let now = Utc::now();
        let new = NewSession {
            id: session,
            account,
            started_at: now,
            expires_at: now + TimeDelta::hours(1),
            second_factor: false,
            seen: Seen::default(),
        };
        self.vault.begin_session(new).await.unwrap();
        (self.bearer_of(account, session, &["read:*"]), session)
    }

    /// A token of a session that ended, and that everybody knows of.
    pub async fn ended_session(&self, account: Uuid) -> String {
        let (bearer, session) = self.open_session(account).await;
        self.vault.end_session(session, Utc::now()).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let headers = [("authorization", bearer.as_str())];
        while self.get("/v1/prices", &headers).await.status != 401 {
            assert!(Instant::now() < deadline, "an ended session is refused");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bearer
    }

    /// As this account, after a position token.
    pub async fn get_after(&self, account: Uuid, path: &str, token: &str) -> Answer {
        self.get(
            path,
            &[
                ("authorization", &self.bearer(account, &[])),
                (AFTER_HEADER, token),
            ],
        )
        .await
    }
}

pub async fn get_from(app: &Router, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(app, request.body(Body::empty()).unwrap()).await
}

pub async fn send(app: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

pub fn moment() -> DateTime<Utc> {
    "2026-11-22T10:00:00.12345Z".parse().unwrap()
}

pub fn stream(name: &str) -> StreamId {
    StreamId::parse(name).unwrap()
}

pub fn day(text: &str) -> Value {
    Value::Date(text.parse().unwrap())
}
