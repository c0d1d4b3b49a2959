//! How many live answers there may be at once, in this process and for one account. It refuses the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;
use uuid::Uuid;
use web::{Problem, codes};

/// What a client is told to wait before it asks again, in seconds.
const RETRY_AFTER_S: u32 = 5;

/// Counts live answers. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Listeners {
    most: usize,
    most_of_one: usize,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    all: usize,
    of: HashMap<Uuid, usize>,
}

/// One live answer; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    account: Uuid,
    counted: Arc<Mutex<Counted>>,
}

impl Listeners {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            counted: Arc::default(),
        }
    }

    /// Counts one more: 429 if the account has as many as it may, 503 if the process has.
    pub(crate) fn admit(&self, account: Uuid) -> Result<Listening, Problem> {
        let mut counted = lock(&self.counted);
        if counted.all >= self.most {
            let detail = "As many live answers as this process takes are open: try again.";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, codes::OVERLOADED, detail);
            return Err(problem.with_retry_after(RETRY_AFTER_S));
        }
        let of = counted.of.entry(account).or_default();
        if *of >= self.most_of_one {
            let detail = format!("Your account has {of} live answers open: end one of them first.");
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, codes::RATE_LIMITED, detail);
            return Err(problem.with_retry_after(RETRY_AFTER_S));
        }
        *of += 1;
        counted.all += 1;
        Ok(Listening {
            account,
            counted: Arc::clone(&self.counted),
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.counted).all
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut counted = lock(&self.counted);
        counted.all -= 1;
        if let Some(of) = counted.of.get_mut(&self.account) {
            *of -= 1;
            if *of == 0 {
                counted.of.remove(&self.account);
            }
        }
    }
}

// The counts are whole after every statement, so a panic elsewhere spoils nothing.
fn lock(counted: &Mutex<Counted>) -> MutexGuard<'_, Counted> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}
