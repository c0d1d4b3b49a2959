//! Sessions that end while their tokens are good, with the vault well, slow and away.

use test_support::{Postgres, TempDir, eventually, psql, temp_dir};
use vault::{Keys, NewSession, Seen, VaultOptions};

use super::*;
use crate::{Grant, TokenSettings, Tokens};

const SESSION: Uuid = Uuid::from_u128(7);
const OTHER: Uuid = Uuid::from_u128(8);
const ACCOUNT: Uuid = Uuid::from_u128(1);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

async fn open(url: &str, keys: &Arc<Keys>) -> Vault {
    Vault::open(url, Arc::clone(keys), VaultOptions::default())
        .await
        .unwrap()
}

async fn begin(vault: &Vault, session: Uuid) {
    let until = now() + TimeDelta::days(1);
    let new = NewSession {
        id: session,
        account: ACCOUNT,
        started_at: until - TimeDelta::days(14),
        expires_at: until,
        second_factor: false,
        seen: Seen::default(),
    };
    vault.begin_session(new).await.unwrap();
}

/// The tokens of a process that has this handle on the vault.
async fn process(vault: &Vault) -> Tokens {
    let settings = TokenSettings {
        issuer: "test".into(),
        audience: "test".into(),
    };
    let revocations = Revocations::follow(vault.clone(), now()).await;
    Tokens::new(Arc::clone(vault.keys()), settings)
        .with_clock(now)
        .with_revocations(revocations)
}

fn token(tokens: &Tokens, session: Uuid) -> String {
    let grant = Grant {
        account: ACCOUNT,
        session,
        scopes: Vec::new(),
        authenticated_at: now(),
        second_factor: false,
    };
    tokens.issue(&grant, now()).token
}

async fn code(tokens: &Tokens, token: &str) -> &'static str {
    match tokens.authenticate(token).await {
        Ok(_) => "ok",
        Err(problem) => problem.code(),
    }
}

async fn becomes(tokens: &Tokens, token: &str, expected: &str, within: Duration) {
    eventually(within, || async {
        let code = code(tokens, token).await;
        if code == expected { Ok(()) } else { Err(code) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_is_refused_by_every_process_within_a_second() {
    let url = Postgres::shared().await.fresh_database().await;
    let keys = Arc::new(Keys::generate());
    let (here, there) = (open(&url, &keys).await, open(&url, &keys).await);
    begin(&here, SESSION).await;
    let (one, two) = (process(&here).await, process(&there).await);
    let (ends, stays) = (token(&one, SESSION), token(&one, OTHER));
    for process in [&one, &two] {
        assert_eq!(code(process, &ends).await, "ok");
        assert_eq!(
            code(process, &stays).await,
            "ok",
            "the feed names the ended alone"
        );
    }
    here.end_session(SESSION, now()).await.unwrap();
    for process in [&one, &two] {
        becomes(process, &ends, "invalid_token", Duration::from_secs(1)).await;
        assert_eq!(code(process, &stays).await, "ok");
    }
    let late = process(&there).await;
    assert_eq!(
        code(&late, &ends).await,
        "invalid_token",
        "it ended before this process began"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_while_the_feed_stalled_is_known_within_a_second_of_its_return() {
    let url = Postgres::shared().await.fresh_database().await;
    let vault = open(&url, &Arc::new(Keys::generate())).await;
    begin(&vault, SESSION).await;
    let tokens = process(&vault).await;
    let ends = token(&tokens, SESSION);
    // Nobody can read the table while this runs, and what it did is seen when it ends.
    let stall = "SET search_path = showcaller_vault; BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE; \
                 UPDATE session_feed SET head = 1; \
                 UPDATE sessions SET ended_seq = 1, ended_at_ms = 1800000000000; SELECT pg_sleep(3); COMMIT";
    let stalled = tokio::spawn(async move { psql(&url, stall).await });
    let mut codes = Vec::new();
    while !stalled.is_finished() {
        codes.push(code(&tokens, &ends).await);
    }
    stalled.await.unwrap();
    becomes(&tokens, &ends, "invalid_token", Duration::from_secs(1)).await;
    assert!(
        codes.contains(&"ok") && !codes.contains(&"unavailable"),
        "{codes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_is_away_is_done_without_for_five_seconds_and_no_longer() {
    let server = Postgres::start().await;
    let vault = open(&server.fresh_database().await, &Arc::new(Keys::generate())).await;
    begin(&vault, SESSION).await;
    let tokens = process(&vault).await;
    let token = token(&tokens, SESSION);
    assert_eq!(code(&tokens, &token).await, "ok");
    let away_since = Instant::now();
    server.stop().await;
    assert_eq!(code(&tokens, &token).await, "ok");
    eventually(Duration::from_secs(10), || async {
        match code(&tokens, &token).await {
            "unavailable" => true,
            code => {
                assert_eq!(code, "ok");
                false
            }
        }
    })
    .await;
    let lasted = away_since.elapsed();
    assert!(lasted + FRESH > PATIENCE, "{lasted:?}");
    assert!(lasted < PATIENCE + ANSWER_WITHIN + FRESH, "{lasted:?}");
    server.restart().await;
    becomes(&tokens, &token, "ok", Duration::from_secs(10)).await;
    vault.end_session(SESSION, now()).await.unwrap();
    becomes(&tokens, &token, "invalid_token", Duration::from_secs(1)).await;
}

/// Revocations whose feed was never read.
async fn behind() -> (TempDir, Vault, Revocations) {
    let folder = temp_dir();
    let url = format!("sqlite:{}/vault.db", folder.path().display());
    let vault = open(&url, &Arc::new(Keys::generate())).await;
    let revocations = Revocations {
        feed: Arc::new(Feed {
            vault: vault.clone(),
            known: RwLock::new(Known::default()),
        }),
        asked: Brief::new(),
        task: tokio::spawn(async {}),
    };
    (folder, vault, revocations)
}

#[tokio::test]
async fn while_the_feed_is_behind_the_vault_is_asked_about_each_session() {
    let (_folder, vault, revocations) = behind().await;
    begin(&vault, SESSION).await;
    begin(&vault, OTHER).await;
    vault.end_session(OTHER, now()).await.unwrap();
    assert!(revocations.check(SESSION).await.is_ok());
    let refused = revocations.check(OTHER).await.unwrap_err();
    assert_eq!(refused.code(), "invalid_token");
    vault.end_session(SESSION, now()).await.unwrap();
    // What the vault said may be repeated for a second.
    eventually(Duration::from_millis(1_500), || async {
        revocations.check(SESSION).await.is_err()
    })
    .await;
}

#[test]
fn a_reading_tells_for_a_second_and_will_do_for_five() {
    let (start, seconds) = (Instant::now(), Duration::from_secs);
    let mut known = Known::default();
    let unsure = |tolerable| Verdict::Unsure { tolerable };
    assert_eq!(known.verdict(SESSION, start), unsure(false));
    known.insert(OTHER, start);
    assert_eq!(known.verdict(OTHER, start), Verdict::Ended);
    assert_eq!(
        known.verdict(SESSION, start),
        unsure(false),
        "not at the feed's end yet"
    );
    known.caught_up(start);
    let later = |after| start + after;
    assert_eq!(known.verdict(SESSION, later(seconds(1))), Verdict::Open);
    assert_eq!(
        known.verdict(SESSION, later(Duration::from_millis(1_001))),
        unsure(true)
    );
    assert_eq!(known.verdict(SESSION, later(seconds(5))), unsure(true));
    assert_eq!(
        known.verdict(SESSION, later(Duration::from_millis(5_001))),
        unsure(false)
    );
    assert_eq!(known.verdict(OTHER, later(seconds(9))), Verdict::Ended);
}

#[test]
fn what_is_held_is_bounded_and_too_much_of_it_makes_the_vault_answer() {
    let start = Instant::now();
    let mut known = Known::default();
    for number in 0..=HELD_SESSIONS as u128 {
        known.insert(Uuid::from_u128(number), start);
    }
    known.caught_up(start);
    assert_eq!(
        (known.ended.len(), known.order.len()),
        (HELD_SESSIONS, HELD_SESSIONS)
    );
    let first = Uuid::from_u128(0);
    assert_eq!(
        known.verdict(first, start),
        Verdict::Unsure { tolerable: false }
    );
    let expired = start + held();
    known.caught_up(expired);
    assert_eq!((known.ended.len(), known.order.len()), (0, 0));
    assert_eq!(known.verdict(first, expired), Verdict::Open);
}
