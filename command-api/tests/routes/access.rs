//! Who may give which command: every route of the policy's table for every kind of caller. What is expected of each cell
//! follows from the rule, so a new route is in the matrix by being in the table.

use std::fmt::Write;
use std::time::{Duration, Instant};

use command_api::policy::{self, Allowed, Rule};
use serde_json::json;

use crate::people::Person;
use crate::system::{Answer, PASSWORD, System, post, system};

const SOON: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What somebody shows of who they are.
enum Sends {
    Nothing,
    Good(String),
    Ended(String),
}

/// Somebody, and what the rules need to know of them.
struct Caller {
    name: &'static str,
    sends: Sends,
    /// They are the account that the ids in the paths belong to.
    owner: bool,
    /// They act as the account that they are.
    themselves: bool,
    fresh: bool,
    scopes: Vec<String>,
}

fn caller(name: &'static str, token: &str) -> Caller {
    Caller {
        name,
        sends: Sends::Good(token.to_owned()),
        owner: false,
        themselves: true,
        fresh: true,
        scopes: vec![],
    }
}

fn operators_scopes() -> Vec<String> {
    let operator = policy::roles()
        .into_iter()
        .find(|role| role.name == policy::OPERATOR);
    operator.expect("it is built in").scopes
}

/// A program of the owner's.
async fn program(system: &System, name: &'static str, owner: &str, scopes: &[&str]) -> Caller {
    let mut program = caller(name, &system.api_key(owner, scopes).await);
    program.owner = true;
    program.themselves = scopes.contains(&"self:write");
    program.fresh = false;
    program.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    program
}

/// The ids that stand in the paths: all of one account.
struct Ids {
    account: String,
    session: String,
    api_key: String,
}

impl Ids {
    fn path(&self, rule: &Rule) -> String {
        let id = match rule.path.split('/').nth(1) {
            Some("accounts") => &self.account,
            Some("sessions") => &self.session,
            _ => &self.api_key,
        };
        format!("/v1{}", rule.path.replace("{id}", id))
    }
}

/// Waits until a token is refused: what ended is known everywhere within a second.
pub async fn until_refused(system: &System, token: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = post(&system.one, "/v1/accounts/me/close")
            .bearer(token)
            .raw("x")
            .send()
            .await;
        if answer.status.as_u16() == 401 {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn everybody(system: &System) -> (Vec<Caller>, Ids) {
    let early = system.person("stale@example.org").await;
    let owner = system.person("owner@example.org").await;
    system.clock.advance(601);
    // Refreshing makes a new token, and the log-in no younger.
    let refreshed = |person: Person| async move {
        let body = json!({"refresh_token": person.refresh});
        let answer = post(&system.one, "/v1/sessions/refresh")
            .body(body)
            .send()
            .await;
        answer.expect(200).text("access_token")
    };
    let stale = refreshed(owner).await;
    let stale_other = refreshed(early).await;
    let owner = system.returning("owner@example.org").await;
    let other = system.person("other@example.org").await;
    let (before, operator, _) = system.operator("operator@example.org").await;
    let scopes = json!({"name": "a", "scopes": ["self:read"], "expires_in_days": 1});
    let key = post(&system.one, "/v1/api-keys")
        .bearer(&owner.access)
        .body(scopes)
        .send()
        .await;
    let location = key.expect(201).header("location").to_owned();

    let ended = system.returning("owner@example.org").await;
    let path = format!("/v1/sessions/{}/end", ended.session);
    post(&system.one, &path)
        .bearer(&ended.access)
        .send()
        .await
        .expect(200);
    let erased = system.person("erased@example.org").await;
    let erased_key = system
        .api_key(&erased.account, &["self:write", "self:read"])
        .await;
    system
        .give(&erased, "erase", json!({"password": PASSWORD}))
        .await
        .expect(200);
    for token in [&ended.access, &erased.access, &erased_key] {
        until_refused(system, token).await;
    }

    let mine = |caller| Caller {
        owner: true,
        ..caller
    };
    let gone = |name, token: &str| Caller {
        sends: Sends::Ended(token.to_owned()),
        ..caller(name, token)
    };
    let old = |caller| Caller {
        fresh: false,
        ..caller
    };
    let all: Vec<String> = operators_scopes();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let callers = vec![
        Caller {
            sends: Sends::Nothing,
            ..caller("nobody", "")
        },
        mine(caller("owner", &owner.access)),
        mine(old(caller("owner, stale", &stale))),
        caller("another", &other.access),
        old(caller("another, stale", &stale_other)),
        Caller {
            scopes: operators_scopes(),
            ..caller("operator", &operator.access)
        },
        // A role counts in sessions that took a second factor, and in no others.
        caller("operator without second factor", &before.access),
        program(system, "key: self:write", &owner.account, &["self:write"]).await,
        program(system, "key: self:read", &owner.account, &["self:read"]).await,
        program(system, "key: nothing", &owner.account, &[]).await,
        program(system, "key: an operator's scopes", &owner.account, &all).await,
        mine(gone("owner, session ended", &ended.access)),
        gone("erased", &erased.access),
        gone("key of the erased", &erased_key),
    ];
    let ids = Ids {
        account: owner.account,
        session: owner.session,
        api_key: location.rsplit('/').next().unwrap().to_owned(),
    };
    (callers, ids)
}

/// What the rule says. Who may, gets as far as the body: it holds a field that no command knows, so nothing is done.
fn expected(rule: &Rule, caller: &Caller) -> (u16, &'static str) {
    if rule.allowed == Allowed::Anyone {
        return (422, "invalid");
    }
    match caller.sends {
        Sends::Nothing => return (401, "unauthorized"),
        Sends::Ended(_) => return (401, "invalid_token"),
        Sends::Good(_) => {}
    }
    // Where no id stands in the path, everybody is the owner of what they begin.
    let owns = (caller.owner || !rule.path.contains("{id}")) && caller.themselves;
    let holds = |scope: &str| caller.scopes.iter().any(|held| held == scope);
    let allowed = match rule.allowed {
        Allowed::Anyone => true,
        Allowed::Owner => owns,
        Allowed::OwnerOr(scope) => owns || holds(scope),
        Allowed::Holder(scope) => holds(scope),
    };
    match (allowed, rule.fresh && !caller.fresh) {
        (false, _) => (403, "forbidden"),
        (true, true) => (403, "fresh_log_in_required"),
        (true, false) => (422, "invalid"),
    }
}

async fn ask(system: &System, caller: &Caller, path: &str) -> Answer {
    let call = post(&system.one, path).body(json!({"nobody-knows-this": 1}));
    match &caller.sends {
        Sends::Good(token) | Sends::Ended(token) => call.bearer(token).send().await,
        Sends::Nothing => call.send().await,
    }
}

#[tokio::test]
async fn every_route_answers_every_caller_as_its_rule_says() {
    let system = system().await;
    let (callers, ids) = everybody(&system).await;
    let (mut matrix, mut wrong) = (String::new(), 0);
    for rule in policy::RULES {
        writeln!(
            matrix,
            "{} ({:?}, fresh: {})",
            rule.path, rule.allowed, rule.fresh
        )
        .unwrap();
        for caller in &callers {
            let answer = ask(&system, caller, &ids.path(rule)).await;
            let expected = expected(rule, caller);
            let mark = if answer.code() == expected {
                ""
            } else {
                "  <-- WRONG"
            };
            wrong += usize::from(answer.code() != expected);
            let (answered, name) = (answer.code(), caller.name);
            writeln!(
                matrix,
                "    {name:32} {answered:?}, expected {expected:?}{mark}"
            )
            .unwrap();
        }
    }
    assert_eq!(wrong, 0, "{wrong} cells are wrong:\n{matrix}");
}

#[tokio::test]
async fn every_route_has_one_rule_and_every_rule_a_route() {
    let system = system().await;
    let mut routes = system.commands.clone();
    // A team's own aggregates have rules of their own.
    routes.retain(|path| !path.starts_with("/notebooks"));
    assert_eq!(
        routes.len() + 2,
        system.commands.len(),
        "{:?}",
        system.commands
    );
    let mut rules: Vec<&str> = policy::RULES.iter().map(|rule| rule.path).collect();
    routes.sort_unstable();
    rules.sort_unstable();
    assert_eq!(routes, rules);
}

#[tokio::test]
async fn a_program_uses_a_domain_of_ones_own_only_where_its_key_says_so() {
    let system = system().await;
    let ada = system.person("ada@example.org").await;
    let create = |token: String| {
        let body = json!({"line": "hello"});
        post(&system.one, "/v1/notebooks")
            .bearer(&token)
            .body(body)
            .send()
    };
    let begun = create(ada.access.clone()).await.expect(201);
    let path = format!("{}/write", begun.header("location"));
    for (scopes, status) in [
        (&[][..], 403),
        (&["self:read"][..], 403),
        (
            &["accounts:write", "notebook:write", "notebooks:read"][..],
            403,
        ),
        (&["self:write"][..], 200),
        (&["notebooks:write"][..], 200),
    ] {
        let key = system.api_key(&ada.account, scopes).await;
        let body = json!({"line": "again"});
        let written = post(&system.one, &path)
            .bearer(&key)
            .body(body)
            .send()
            .await;
        assert_eq!(written.status.as_u16(), status, "{scopes:?}: {written:?}");
        let begun = create(key).await;
        assert_eq!(
            begun.status.as_u16(),
            status.max(201),
            "{scopes:?}: {begun:?}"
        );
    }
}

#[tokio::test]
async fn an_id_that_is_nobodys_looks_like_another_accounts() {
    let system = system().await;
    let (callers, theirs) = everybody(&system).await;
    let another = callers
        .iter()
        .find(|caller| caller.name == "another")
        .unwrap();
    let nobodys = Ids {
        account: vault::random_uuid().to_string(),
        session: vault::random_uuid().to_string(),
        api_key: vault::random_uuid().to_string(),
    };
    for rule in policy::RULES
        .iter()
        .filter(|rule| rule.path.contains("{id}"))
    {
        let mut answers = Vec::new();
        for ids in [&theirs, &nobodys] {
            let mut seen = ask(&system, another, &ids.path(rule)).await.seen();
            seen.2["instance"] = json!(null);
            answers.push(seen);
        }
        assert_eq!(answers[0], answers[1], "{}", rule.path);
        assert_eq!(answers[0].0, 403, "{}", rule.path);
    }
}
