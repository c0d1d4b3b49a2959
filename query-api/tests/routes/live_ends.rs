//! What live answers refuse, and when they end.

use axum::http::StatusCode;
use chrono::{TimeDelta, Utc};
use query_api::QuerySettings;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::fixture::{ADA, BOB, Fixture, SESSION};
use crate::listener::Listener;

const PATH: &str = "/v1/prices";

async fn ends_with(mut live: Listener, reason: &str) {
    live.expect("end", json!({ "reason": reason })).await;
    assert_eq!(live.next().await, None);
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let fixture = Fixture::new().await;
    let (bearer, session) = fixture.open_session(ADA).await;
    let headers = [("authorization", bearer.as_str())];
    let mut live = Listener::open(&fixture.app, PATH, &headers).await;
    live.list().await;
    fixture
        .vault
        .end_session(session, Utc::now())
        .await
        .unwrap();
    ends_with(live, "credential").await;
}

#[tokio::test]
async fn a_stream_ends_with_its_access_token() {
    let fixture = Fixture::new().await;
    // Tokens are good for 300 s, and for 30 s more where clocks differ.
    let issued = Utc::now() - TimeDelta::seconds(327);
    let bearer = format!(
        "Bearer {}",
        fixture
            .bearer_at(ADA, SESSION, &[], issued)
            .trim_start_matches("Bearer ")
    );
    let mut live = Listener::open(&fixture.app, PATH, &[("authorization", &bearer)]).await;
    live.list().await;
    ends_with(live, "credential").await;
}

#[tokio::test]
async fn a_stream_ends_with_its_api_key() {
    let fixture = Fixture::new().await;
    let bearer = fixture.api_key(ADA, &["self:read"]).await;
    let mut live = Listener::open(&fixture.app, PATH, &[("authorization", &bearer)]).await;
    live.list().await;
    let id = fixture
        .vault
        .api_key(bearer.trim_start_matches("Bearer "), Utc::now())
        .await
        .unwrap()
        .unwrap()
        .id;
    fixture.vault.revoke_api_key(id, Utc::now()).await.unwrap();
    ends_with(live, "credential").await;
}

#[tokio::test]
async fn streams_end_when_the_process_does() {
    let fixture = Fixture::new().await;
    let shutdown = CancellationToken::new();
    let settings = QuerySettings {
        shutdown: shutdown.clone(),
        ..QuerySettings::default()
    };
    let app = fixture.process(settings).await;
    let bearer = fixture.bearer(ADA, &[]);
    let mut live = Listener::open(&app, PATH, &[("authorization", &bearer)]).await;
    live.list().await;
    shutdown.cancel();
    ends_with(live, "unavailable").await;
}

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let fixture = Fixture::new().await;
    let settings = QuerySettings {
        listeners: 3,
        listeners_an_account: 2,
        ..QuerySettings::default()
    };
    let app = fixture.process(settings).await;
    let (ada, bob) = (fixture.bearer(ADA, &[]), fixture.bearer(BOB, &[]));
    let refused = async |bearer: &str| {
        let headers = [("authorization", bearer), ("accept", "text/event-stream")];
        let answer = crate::fixture::get_from(&app, PATH, &headers).await;
        assert_eq!(answer.header("retry-after"), "5");
        answer.verdict()
    };
    let open = async |bearer: &str| Listener::open(&app, PATH, &[("authorization", bearer)]).await;
    let first = open(&ada).await;
    let _second = open(&ada).await;
    assert_eq!(refused(&ada).await, (429, "rate_limited".into()));
    let _third = open(&bob).await;
    assert_eq!(refused(&bob).await, (503, "overloaded".into()));
    drop(first);
    open(&ada).await;
}

#[tokio::test]
async fn what_makes_no_sense_live_is_refused_by_name() {
    let fixture = Fixture::new().await;
    let bearer = fixture.bearer(ADA, &[]);
    let asks = async |path: &str| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("accept", "text/event-stream"),
        ];
        fixture.get(path, &headers).await
    };
    let answer = asks("/v1/prices?order=day&limit=5&offset=1&_cursor=x").await;
    assert_eq!(answer.verdict(), (400, "malformed".into()));
    let named: Vec<_> = answer.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].clone())
        .collect();
    assert_eq!(named, ["order", "limit", "offset", "_cursor"]);
    assert_eq!(asks("/v1/prices?nothing=eq.1").await.status, 400);
    assert_eq!(asks("/v1/prices/x").await.status, 400);
    assert_eq!(asks("/v1/nothing").await.status, 404);
    assert_eq!(asks("/v1/takings").await.status, 403);
    let anonymous = fixture.get(PATH, &[("accept", "text/event-stream")]).await;
    assert_eq!(anonymous.status, StatusCode::UNAUTHORIZED.as_u16());
    // Whoever does not ask for a stream does not get one.
    let all = [("authorization", bearer.as_str()), ("accept", "*/*")];
    assert_eq!(fixture.get(PATH, &all).await.json(), json!([]));
}
