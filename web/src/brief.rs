//! Answers that are remembered for a second at most. Those who ask the same thing at the same moment ask once. It refuses
//! to remember a failure.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use quick_cache::sync::Cache;

/// How long an answer may be used after it was asked for: as long as a revocation may take to be noticed.
const LIFE: Duration = Duration::from_secs(1);
/// How many answers are remembered at most.
const REMEMBERED: usize = 20_000;

/// What was asked lately.
pub(crate) struct Brief<K, V, E>(Cache<K, Asked<V, E>>);

/// A question, with the moment before which what its answer was read from may have changed unseen. The answer may be on
/// its way still: then all who ask wait for it together.
struct Asked<V, E> {
    at: Instant,
    answer: Shared<BoxFuture<'static, Result<V, Arc<E>>>>,
}

impl<V, E> Clone for Asked<V, E> {
    fn clone(&self) -> Self {
        Self {
            at: self.at,
            answer: self.answer.clone(),
        }
    }
}

impl<V, E> Asked<V, E> {
    /// Counts from the question: the answer may have been long on its way.
    fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < LIFE
            && self.answer.peek().is_none_or(Result::is_ok)
    }
}

impl<K, V, E> Brief<K, V, E>
where
    K: Hash + Eq,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// The remembered answer, or the one that `ask` gives.
    pub(crate) async fn get<F>(&self, key: K, ask: impl FnOnce() -> F) -> Result<V, Arc<E>>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let now = Instant::now();
        if let Some(asked) = self.0.get(&key).filter(|asked| asked.holds(now)) {
            return asked.answer.await;
        }
        let answer = ask()
            .map(|answer| answer.map_err(Arc::new))
            .boxed()
            .shared();
        let asked = Asked { at: now, answer };
        self.0.insert(key, asked.clone());
        asked.answer.await
    }
}
