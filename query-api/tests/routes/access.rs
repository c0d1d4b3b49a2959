//! Every route × anonymous, owner, another, holders of scopes, their API keys, and those whose session ended. What is
//! expected of each cell follows from the routes' table and the definition.

use std::fmt::Write;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::post;
use query_api::Allowed;
use read_models::{Access, ReadModel};

use crate::fixture::{ADA, BOB, Fixture, accounts, day, notes, prices, send, takings};

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

/// Somebody, and what the rules need to know of them.
struct Asking {
    name: String,
    headers: Vec<(&'static str, String)>,
    /// What they send is good.
    known: bool,
    /// They are Ada, whose rows and sessions are asked for.
    owner: bool,
    /// They act as the account that they are.
    themselves: bool,
    scopes: Vec<String>,
}

fn asking(name: &str, bearer: String, owner: bool, scopes: &[&str]) -> Asking {
    Asking {
        name: format!("{name} {scopes:?}"),
        headers: vec![("authorization", bearer)],
        known: true,
        owner,
        themselves: true,
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
    }
}

async fn everybody(fixture: &Fixture, scope: &str) -> Vec<Asking> {
    let mut all = Vec::new();
    for (name, account, owner) in [("Ada", ADA, true), ("Bob", BOB, false)] {
        for scopes in [&[][..], &["read:other", "write:*"], &[scope], &["read:*"]] {
            all.push(asking(name, fixture.bearer(account, scopes), owner, scopes));
        }
        for scopes in [
            &[][..],
            &["self:write"],
            &["self:read"],
            &[scope],
            &["read:*"],
        ] {
            let key = fixture.api_key(account, scopes).await;
            let program = asking(&format!("{name}'s key"), key, owner, scopes);
            let themselves = scopes.contains(&"self:read");
            all.push(Asking {
                themselves,
                ..program
            });
        }
    }
    let away = |asking| Asking {
        known: false,
        ..asking
    };
    all.push(Asking {
        headers: vec![],
        ..away(asking("nobody", String::new(), false, &[]))
    });
    all.push(away(asking("torn", "Bearer x.y.z".into(), true, &[])));
    let ended = fixture.ended_session(ADA).await;
    all.push(away(asking("ended", ended, true, &[])));
    all
}

/// What the rule and the read model's definition say.
fn expected(rule: Allowed, model: &ReadModel, one: bool, asking: &Asking) -> u16 {
    let holds = |scope: &str| asking.scopes.iter().any(|held| held == scope);
    let all = holds(&format!("read:{}", model.name)) || holds("read:*");
    let themselves = |status| if asking.themselves { status } else { 403 };
    // Another's row looks like none.
    let theirs = if asking.owner || !one { 200 } else { 404 };
    match (rule, &model.access) {
        _ if !asking.known => 401,
        (Allowed::AsDefined, _) if all => 200,
        (Allowed::AsDefined, Access::Authenticated) | (Allowed::Owner, _) => themselves(200),
        (Allowed::AsDefined, Access::Owner { .. }) => themselves(theirs),
        // The scope stands for the whole family in `read:*`.
        (Allowed::OwnerOr(scope), _) if holds(scope) || holds("read:*") => 200,
        (Allowed::OwnerOr(_), _) if asking.owner => themselves(200),
        (Allowed::OwnerOr(_), _) => 404,
        (Allowed::Holder(scope), _) if holds(scope) => 200,
        (Allowed::Holder(_), _) | (Allowed::AsDefined, Access::Scope) => 403,
    }
}

#[tokio::test]
async fn each_route_answers_each_caller_as_the_definition_says() {
    let fixture = filled().await;
    let ada = ADA.to_string();
    let rows = [
        (accounts(), ada.clone()),
        (notes(), format!("{ADA},a%2Cb%2Fc")),
        (prices(), "2026-11-22".into()),
        (takings(), "2026-11-22".into()),
    ];
    let (mut matrix, mut wrong) = (String::new(), 0);
    for (rule, allowed) in query_api::rules() {
        let of_any = rule.contains("{collection}");
        for (model, key) in rows.iter().take(if of_any { rows.len() } else { 1 }) {
            let path = rule
                .replace("{collection}", &model.name)
                .replace("{id}", key);
            let scope = match allowed {
                Allowed::OwnerOr(scope) | Allowed::Holder(scope) => scope.to_owned(),
                _ => format!("read:{}", model.name),
            };
            writeln!(matrix, "{path} ({allowed:?}, {:?})", model.access).unwrap();
            for asking in everybody(&fixture, &scope).await {
                let headers: Vec<_> = asking
                    .headers
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                let answer = fixture.get(&format!("/v1{path}"), &headers).await;
                let expected = expected(allowed, model, rule.contains("{id}"), &asking);
                let mark = if answer.status == expected {
                    ""
                } else {
                    "  <-- WRONG"
                };
                wrong += usize::from(answer.status != expected);
                writeln!(
                    matrix,
                    "    {:40} {}, expected {expected}{mark}",
                    asking.name, answer.status
                )
                .unwrap();
                if answer.status == 401 {
                    assert!(answer.header("www-authenticate").starts_with("Bearer"));
                }
            }
        }
    }
    assert_eq!(wrong, 0, "{wrong} cells are wrong:\n{matrix}");
    for (path, asks) in [
        ("/v1/nothing", true),
        ("/v1/nothing/1", true),
        ("/v1/nothing", false),
    ] {
        let status = if asks {
            fixture.get_as(BOB, &["read:*"], path).await
        } else {
            fixture.get(path, &[]).await
        };
        assert_eq!(status.status, if asks { 404 } else { 401 }, "{path}");
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
        told.text
            .contains("accounts, devices, notes, prices, salaries, takings"),
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
