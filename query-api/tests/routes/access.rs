//! Every route × anonymous, owner, another, holder of a scope.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::post;

use crate::fixture::{ADA, BOB, Fixture, day, notes, prices, send, takings};

async fn filled() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.account(ADA, 1).await;
    fixture.account(BOB, 2).await;
    let about = fixture.sealed(ADA, "a secret".into()).await;
    fixture
        .commit(
            &notes(),
            0,
            3,
            vec![(vec![ADA.into(), "a,b/c".into()], vec![about])],
        )
        .await;
    fixture
        .commit(
            &prices(),
            0,
            1,
            vec![(vec![day("2026-11-22")], vec![7.into(), true.into()])],
        )
        .await;
    for partition in [0, 1] {
        fixture
            .commit(
                &takings(),
                partition,
                1,
                vec![(vec![day("2026-11-22")], vec![5.into()])],
            )
            .await;
    }
    fixture
}

#[tokio::test]
async fn each_route_answers_each_caller_as_the_definition_says() {
    let fixture = filled().await;
    let (ada, note) = (
        format!("/v1/accounts/{ADA}"),
        format!("/v1/notes/{ADA},a%2Cb%2Fc"),
    );
    let owned = [401, 200, 200, 200];
    // route: anonymous, the owner (Ada), another (Bob), another with the scope of the read model
    let matrix: [(&str, [u16; 4]); 11] = [
        ("/v1/accounts", owned),
        ("/v1/accounts/me", owned),
        (&ada, [401, 200, 404, 200]),
        ("/v1/notes", owned),
        (&note, [401, 200, 404, 200]),
        ("/v1/prices", owned),
        ("/v1/prices/2026-11-22", owned),
        ("/v1/takings", [401, 403, 403, 200]),
        ("/v1/takings/2026-11-22", [401, 403, 403, 200]),
        ("/v1/nothing", [401, 404, 404, 404]),
        ("/v1/nothing/1", [401, 404, 404, 404]),
    ];
    for (path, expected) in matrix {
        let model = path.split('/').nth(2).unwrap();
        let scope = format!("read:{model}");
        let answers = [
            fixture.get(path, &[]).await,
            fixture.get_as(ADA, &[], path).await,
            fixture.get_as(BOB, &["read:other", "write:*"], path).await,
            fixture.get_as(BOB, &[&scope], path).await,
        ];
        assert_eq!(
            answers.each_ref().map(|answer| answer.status),
            expected,
            "{path}"
        );
        for answer in answers.iter().filter(|answer| answer.status == 401) {
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
        assert_eq!(
            fixture.get_as(BOB, &["read:*"], path).await.status,
            expected[3],
            "{path} with read:*"
        );
    }
}

#[tokio::test]
async fn another_accounts_row_and_no_row_look_the_same() {
    let fixture = filled().await;
    let (there, not_there) = (
        format!("/v1/accounts/{ADA}"),
        format!("/v1/accounts/{}", uuid::Uuid::from_u128(1)),
    );
    let strip = |text: &str, path: &str| {
        let mut body: serde_json::Value = serde_json::from_str(&text.replace(path, "")).unwrap();
        body.as_object_mut().unwrap().remove("trace_id");
        body
    };
    let one = fixture.get_as(BOB, &[], &there).await;
    let other = fixture.get_as(BOB, &[], &not_there).await;
    assert_eq!(strip(&one.text, &there), strip(&other.text, &not_there));
    assert_eq!(one.status, 404);
}

#[tokio::test]
async fn a_list_holds_the_callers_rows_alone_unless_a_scope_opens_all() {
    let fixture = filled().await;
    let ids = async |account, scopes: &[&str]| {
        let rows = fixture.get_as(account, scopes, "/v1/accounts").await.json();
        let rows = rows.as_array().unwrap();
        rows.iter()
            .map(|row| row["account_id"].as_str().unwrap().parse().unwrap())
            .collect::<Vec<uuid::Uuid>>()
    };
    assert_eq!(ids(ADA, &[]).await, [ADA]);
    assert_eq!(ids(BOB, &[]).await, [BOB]);
    assert_eq!(ids(BOB, &["read:accounts"]).await.len(), 2);
    assert_eq!(fixture.get_as(BOB, &[], "/v1/notes").await.text, "[]");
    assert_eq!(
        fixture
            .get_as(BOB, &["read:takings"], "/v1/takings/2026-11-22")
            .await
            .json()["cents"],
        10
    );
}

#[tokio::test]
async fn only_authenticated_callers_learn_which_read_models_there_are() {
    let fixture = filled().await;
    let told = fixture.get_as(BOB, &[], "/v1/nothing").await;
    assert!(
        told.text.contains("accounts, notes, prices, takings"),
        "{}",
        told.text
    );
    assert!(
        !fixture
            .get("/v1/nothing", &[])
            .await
            .text
            .contains("takings")
    );
}

#[tokio::test]
async fn the_routes_stand_beside_those_of_the_command_api() {
    let fixture = filled().await;
    let commands = Router::new()
        .route("/v1/accounts", post(async || "begun"))
        .route("/v1/sessions", post(async || "begun"))
        .route("/v1/sessions/refresh", post(async || "refreshed"))
        .route("/v1/{collection}", post(async || "begun"))
        .route("/v1/{collection}/{id}/{command}", post(async || "done"));
    let app = commands.merge(fixture.app.clone());
    for path in [
        "/v1/accounts",
        "/v1/sessions",
        "/v1/prices",
        "/v1/sessions/refresh",
        "/v1/accounts/1/close",
        "/v1/accounts/me/close",
        &format!("/v1/accounts/{ADA}/change-email"),
        "/v1/prices/1/sessions",
        "/v1/sessions/1/end",
    ] {
        assert_eq!(
            send(&app, Request::post(path).body(Body::empty()).unwrap())
                .await
                .status,
            200,
            "POST {path}"
        );
    }
    let bearer = fixture.bearer(ADA, &[]);
    let (me, one) = ("/v1/accounts/me", format!("/v1/accounts/{ADA}"));
    let sessions = format!("{one}/sessions");
    for (path, status) in [
        (me, 200),
        (&one, 200),
        (&sessions, 200),
        ("/v1/accounts/me/sessions", 200),
        ("/v1/accounts/1/close", 405),
        ("/v1/prices/1/sessions", 405),
        ("/v1/accounts", 200),
        ("/v1/prices", 200),
        ("/v1/sessions", 404),
    ] {
        let request = Request::get(path)
            .header("authorization", &bearer)
            .body(Body::empty())
            .unwrap();
        assert_eq!(send(&app, request).await.status, status, "GET {path}");
    }
    let asked = Request::post(&sessions).body(Body::empty()).unwrap();
    let asked = send(&app, asked).await;
    assert_eq!((asked.status, asked.header("allow")), (405, "GET,HEAD"));
}
