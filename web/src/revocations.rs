//! Which sessions ended before their access tokens expired. A task follows the vault's feed of ended sessions; where it
//! is behind, the vault is asked about the one session. It refuses to guess: when the vault has been silent for too long,
//! nobody gets in.

use async_recursion::async_recursion as boxed;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;
use vault::{FeedPosition, Vault};

use crate::Problem;
use crate::brief::Brief;
use crate::tokens::{LIFETIME_S, SKEW_S};

/// How often the feed is read.
const PAUSE: Duration = Duration::from_millis(250);
/// How old the last reading of the feed may be before the vault is asked about each session.
const FRESH: Duration = Duration::from_secs(1);
/// How long the vault may be silent before callers are turned away.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that one reading of the feed, or one question, may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long an ended session is held: until its last token is too old on the machine whose clock is the most behind.
const HELD_S: i64 = LIFETIME_S + 2 * SKEW_S;
/// How many ended sessions are held at most. Of more, the oldest are let go, and the vault is asked about every session
/// until their tokens have expired.
const HELD_SESSIONS: usize = 200_000;

/// Knows which sessions ended. Its task ends with it.
pub struct Revocations {
    feed: Arc<Feed>,
    asked: Brief<Uuid, bool, ()>,
    task: JoinHandle<()>,
}

/// What the task reads and requests look at.
struct Feed {
    vault: Vault,
    known: RwLock<Known>,
}

impl Revocations {
    /// Reads the feed once, from where a token that is still good at `now` may have been issued, and then follows it.
    /// A vault that does not answer yet is tried again and again.
    #[boxed]
    pub async fn follow(vault: Vault, now: DateTime<Utc>) -> Self {
        let feed = Arc::new(Feed {
            vault,
            known: RwLock::new(Known::default()),
        });
        let mut reader = Reader {
            feed: Arc::clone(&feed),
            since: now - TimeDelta::seconds(HELD_S),
            position: None,
            failing: false,
        };
        reader.read().await;
        Self {
            feed,
            asked: Brief::new(),
            task: tokio::spawn(reader.run()),
        }
    }

    /// 401 for a session that has ended; 503 when that cannot be told.
    pub(crate) async fn check(&self, session: Uuid) -> Result<(), Problem> {
        let verdict = self.feed.known().verdict(session, Instant::now());
        let ended = match verdict {
            Verdict::Ended => true,
            Verdict::Open => false,
            Verdict::Unsure { tolerable } => match self.ask(session).await {
                Some(ended) => ended,
                None if tolerable => false,
                None => {
                    return Err(Problem::unavailable(
                        "Whether the session has ended cannot be told right now: try again.",
                    ));
                }
            },
        };
        if ended {
            Err(Problem::invalid_token())
        } else {
            Ok(())
        }
    }

    /// What the vault says of one session, if it answers.
    async fn ask(&self, session: Uuid) -> Option<bool> {
        let question = || {
            let vault = self.feed.vault.clone();
            async move {
                timeout(ANSWER_WITHIN, vault.session_ended(&[session]))
                    .await
                    .map_err(drop)?
                    .map(|ended| ended.contains(&session))
                    .map_err(drop)
            }
        };
        self.asked.get(session, question).await.ok()
    }
}

impl Drop for Revocations {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations").finish_non_exhaustive()
    }
}

impl Feed {
    // What is known is whole after every statement, so a panic elsewhere spoils nothing.
    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the feed.
struct Reader {
    feed: Arc<Feed>,
    since: DateTime<Utc>,
    position: Option<FeedPosition>,
    failing: bool,
}

impl Reader {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            self.read().await;
        }
    }

    /// Reads to the feed's end; tells the log when that begins to fail, and when it goes on.
    async fn read(&mut self) {
        let outcome = timeout(ANSWER_WITHIN, self.read_to_the_end()).await;
        let error = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {ANSWER_WITHIN:?}")),
        };
        match (&error, self.failing) {
            (Some(error), false) => {
                tracing::warn!(%error, "the ended sessions cannot be read; trying again");
            }
            (None, true) => tracing::info!("the ended sessions can be read again"),
            _ => {}
        }
        self.failing = error.is_some();
    }

    async fn read_to_the_end(&mut self) -> Result<(), vault::Error> {
        loop {
            // What ends after this moment may be missing from the page.
            let read_at = Instant::now();
            let from = match self.position {
                Some(position) => position,
                None => self.feed.vault.feed_position_at(self.since).await?,
            };
            let page = self.feed.vault.ended_since(from).await?;
            self.position = Some(page.through);
            let mut known = self.feed.known_mut();
            if page.sessions.is_empty() {
                known.caught_up(read_at);
                return Ok(());
            }
            for session in page.sessions {
                known.insert(session.session_id, read_at);
            }
        }
    }
}

/// What is known of a session.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ended,
    Open,
    /// Only the vault can tell; `tolerable` while the last reading is young enough to do without.
    Unsure {
        tolerable: bool,
    },
}

/// What was read of the feed. The caller gives the time, so tests need none.
#[derive(Default)]
struct Known {
    ended: HashSet<Uuid>,
    /// The same sessions, the first one read first.
    order: VecDeque<(Instant, Uuid)>,
    /// When the feed was last read to its end.
    read_at: Option<Instant>,
    /// Until when a session may be missing because there were too many.
    lacking_until: Option<Instant>,
}

impl Known {
    fn verdict(&self, session: Uuid, now: Instant) -> Verdict {
        if self.ended.contains(&session) {
            return Verdict::Ended;
        }
        let lacking = self.lacking_until.is_some_and(|until| now < until);
        let within = |longest| {
            !lacking
                && self
                    .read_at
                    .is_some_and(|at| now.saturating_duration_since(at) <= longest)
        };
        if within(FRESH) {
            Verdict::Open
        } else {
            Verdict::Unsure {
                tolerable: within(PATIENCE),
            }
        }
    }

    fn insert(&mut self, session: Uuid, now: Instant) {
        if !self.ended.insert(session) {
            return;
        }
        self.order.push_back((now, session));
        if self.order.len() > HELD_SESSIONS
            && let Some((at, oldest)) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
            self.lacking_until = Some(at + held());
        }
    }

    /// Notes that the feed was read to its end, and lets go of sessions whose tokens have expired.
    fn caught_up(&mut self, now: Instant) {
        self.read_at = Some(now);
        while let Some(&(at, session)) = self.order.front()
            && now.saturating_duration_since(at) >= held()
        {
            self.order.pop_front();
            self.ended.remove(&session);
        }
    }
}

fn held() -> Duration {
    Duration::from_secs(HELD_S.unsigned_abs())
}

#[cfg(test)]
#[path = "revocations_tests.rs"]
mod tests;
