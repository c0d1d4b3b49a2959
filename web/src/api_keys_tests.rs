//! API keys as bearers: who gets in, for how long an answer is believed, and what a failing look-up does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use test_support::eventually;
use tokio::sync::Notify;
use vault::Keys;

use super::*;
use crate::{TokenSettings, Tokens};

const KEY: &str = "sck_of-a-program";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn known() -> ApiKeyCaller {
    ApiKeyCaller {
        id: Uuid::from_u128(3),
        account: Uuid::from_u128(1),
        scopes: vec!["read:accounts".into()],
    }
}

/// One known key, which may be revoked, and a look-up that may be held up.
struct OneKey {
    answer: Mutex<Result<Option<ApiKeyCaller>, Problem>>,
    asked: AtomicU32,
    gate: Option<Notify>,
}

impl OneKey {
    fn new(gate: Option<Notify>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(Ok(Some(known()))),
            asked: AtomicU32::new(0),
            gate,
        })
    }

    fn answers(&self, answer: Result<Option<ApiKeyCaller>, Problem>) {
        *self.answer.lock().unwrap() = answer;
    }
}

#[async_trait]
impl ApiKeys for OneKey {
    async fn find(&self, text: &str, at: DateTime<Utc>) -> Result<Option<ApiKeyCaller>, Problem> {
        assert_eq!(at, now());
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let answer = self.answer.lock().unwrap().clone();
        answer.map(|found| found.filter(|_| text == KEY))
    }
}

fn tokens(keys: Option<Arc<OneKey>>) -> Tokens {
    let settings = TokenSettings {
        issuer: "test".into(),
        audience: "test".into(),
    };
    let tokens = Tokens::new(Arc::new(Keys::generate()), settings).with_clock(now);
    match keys {
        Some(keys) => tokens.with_api_keys(keys),
        None => tokens,
    }
}

async fn refused(tokens: &Tokens, bearer: &str) -> &'static str {
    tokens.authenticate(bearer).await.unwrap_err().code()
}

#[tokio::test]
async fn a_key_lets_its_account_in_with_its_scopes_and_without_a_session() {
    let tokens = tokens(Some(OneKey::new(None)));
    let caller = tokens.authenticate(KEY).await.unwrap();
    assert_eq!(caller, Caller::from(known()));
    assert_eq!(caller.session(), None);
    assert!(caller.has_scope("read:accounts") && !caller.fresh(now()));
    assert_eq!(refused(&tokens, "sck_unknown").await, "invalid_token");
    assert_eq!(refused(&tokens, "SCK_of-a-program").await, "invalid_token");
}

#[tokio::test]
async fn without_a_place_to_look_keys_up_they_are_refused() {
    assert_eq!(refused(&tokens(None), KEY).await, "invalid_token");
}

#[tokio::test]
async fn a_key_that_is_too_long_is_not_looked_up() {
    let keys = OneKey::new(None);
    let tokens = tokens(Some(Arc::clone(&keys)));
    let long = format!("sck_{}", "a".repeat(KEY_BYTES));
    assert_eq!(refused(&tokens, &long).await, "invalid_token");
    assert_eq!(keys.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_is_believed_for_a_second_and_no_longer() {
    let keys = OneKey::new(None);
    let tokens = tokens(Some(Arc::clone(&keys)));
    for _ in 0..100 {
        tokens.authenticate(KEY).await.unwrap();
    }
    assert!(
        keys.asked.load(Ordering::SeqCst) < 100,
        "answers are remembered"
    );
    keys.answers(Ok(None));
    let revoked = Instant::now();
    eventually(Duration::from_secs(3), || async {
        tokens.authenticate(KEY).await.is_err()
    })
    .await;
    let noticed = revoked.elapsed();
    assert!(noticed < Duration::from_millis(1_300), "{noticed:?}");
}

#[tokio::test]
async fn those_who_send_a_key_at_once_look_it_up_once() {
    let keys = OneKey::new(Some(Notify::new()));
    let tokens = Arc::new(tokens(Some(Arc::clone(&keys))));
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move { tokens.authenticate(KEY).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    keys.gate.as_ref().unwrap().notify_one();
    for caller in callers {
        assert!(caller.await.unwrap());
    }
    assert_eq!(keys.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_look_up_that_fails_is_told_and_not_remembered() {
    let keys = OneKey::new(None);
    let tokens = tokens(Some(Arc::clone(&keys)));
    keys.answers(Err(Problem::unavailable("The vault is away.")));
    assert_eq!(refused(&tokens, KEY).await, "unavailable");
    keys.answers(Ok(Some(known())));
    assert!(tokens.authenticate(KEY).await.is_ok());
}
