//! Reading one's own writes: waits until a read model's live table has taken in what a position token names. One look at
//! the checkpoints serves everybody who waits on the same read model. It refuses to wait longer than 2 s, and to take a
//! parked stream for a read one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use read_models::{ReadModel, ReadStore, Status};
use tokio::time::Instant;
use web::{PositionToken, Problem, codes, set_aside};

use crate::metrics;
use crate::routes::store_problem;

/// How long a query waits at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what was seen may stand for what is. Checkpoints of a live table only grow, and a table takes another's place
/// only when it is as far in every partition; but it may have parked other streams.
const TRUSTED: Duration = Duration::from_secs(1);
/// What a client is told to wait before it asks again, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// Watches one read model's live table.
pub(crate) struct Watcher {
    store: Arc<dyn ReadStore>,
    model: Arc<ReadModel>,
    last: Mutex<Option<Look>>,
    /// Held by whoever looks.
    looking: tokio::sync::Mutex<()>,
}

/// What was seen of the live table; `status` is missing while there is none.
#[derive(Clone)]
struct Look {
    /// When the look began: everything committed before that was seen.
    at: Instant,
    status: Option<Arc<Status>>,
}

/// What a look says of a token.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    Behind,
    Parked,
    OtherLog,
}

impl Watcher {
    pub(crate) fn new(store: Arc<dyn ReadStore>, model: Arc<ReadModel>) -> Self {
        Self {
            store,
            model,
            last: Mutex::new(None),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// Returns once all that the token names can be read. 503 `not_yet_projected` after 2 s, 503 `parked` if a stream it
    /// names waits for an operator, 400 `token_of_another_log`.
    pub(crate) async fn reached(&self, token: &PositionToken) -> Result<(), Problem> {
        let known = self.known().filter(|look| look.at.elapsed() <= TRUSTED);
        if known.is_some_and(|look| look.says(token) == Verdict::Reached) {
            return Ok(());
        }
        let began = Instant::now();
        let reached = set_aside(self.wait(token, began + PATIENCE)).await;
        metrics::WAITED.took(began.elapsed());
        metrics::WAITS.add(&[reached.as_ref().map_or_else(Problem::code, |()| "reached")]);
        reached
    }

    async fn wait(&self, token: &PositionToken, deadline: Instant) -> Result<(), Problem> {
        // Taken before the look, so that no commit falls between the two.
        let mut changes = self.store.changes();
        loop {
            let look = tokio::time::timeout_at(deadline, self.look(Instant::now())).await;
            match look.map_err(|_| not_yet())??.says(token) {
                Verdict::Reached => return Ok(()),
                Verdict::Behind if Instant::now() >= deadline => return Err(not_yet()),
                Verdict::Behind => changes.changed(deadline - Instant::now()).await,
                Verdict::Parked => return Err(parked()),
                Verdict::OtherLog => return Err(other_log()),
            }
        }
    }

    fn known(&self) -> Option<Look> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A look that began at `since` or later: another's, or a new one that others will use.
    async fn look(&self, since: Instant) -> Result<Look, Problem> {
        let _looking = self.looking.lock().await;
        if let Some(look) = self.known().filter(|look| look.at >= since) {
            return Ok(look);
        }
        let at = Instant::now();
        let status = self
            .store
            .status(&self.model)
            .await
            .map_err(|error| store_problem(&error))?
            .map(Arc::new);
        let look = Look { at, status };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look.clone());
        Ok(look)
    }
}

impl Look {
    fn says(&self, token: &PositionToken) -> Verdict {
        let Some(status) = &self.status else {
            return Verdict::Behind;
        };
        if !token.is_of(status.log) {
            return Verdict::OtherLog;
        }
        let waits = |stream, position| {
            status.parked.iter().any(|parked| {
                position >= parked.position && stream == PositionToken::short_hash(&parked.stream)
            })
        };
        if token
            .streams
            .iter()
            .any(|&(stream, position)| waits(stream, position))
        {
            return Verdict::Parked;
        }
        let taken_in = token.positions.iter().all(|(partition, position)| {
            let checkpoint = status.checkpoints.get(usize::from(partition.0));
            checkpoint.is_some_and(|checkpoint| checkpoint.position >= *position)
        });
        if taken_in {
            Verdict::Reached
        } else {
            Verdict::Behind
        }
    }
}

fn not_yet() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        codes::NOT_YET_PROJECTED,
        "The read model had not taken in what your position token names within 2 s. What you wrote is safe: ask again.",
    )
    .with_retry_after(RETRY_AFTER_S)
}

fn parked() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        codes::PARKED,
        "A stream that your position token names waits behind an event that could not be projected. Without the token the \
         rows can be read as they stand.",
    )
    .with_retry_after(RETRY_AFTER_S)
}

fn other_log() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        codes::TOKEN_OF_ANOTHER_LOG,
        "Your position token is of another log, or from before this one was restored: read without it.",
    )
}
