//! Answers that are remembered for a second at most. Those who ask the same thing at the same moment ask once. It refuses
//! to remember a failure.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

/// How long an answer may be used after it was asked for: as long as a revocation may take to be noticed.
const LIFE: Duration = Duration::from_secs(1);
/// How many answers are remembered at most.
const REMEMBERED: u64 = 20_000;

/// What was answered lately.
pub(crate) struct Brief<K, V>(Cache<K, Asked<V>>);

/// An answer, with the moment before which what it was read from may have changed unseen.
#[derive(Clone)]
struct Asked<V> {
    at: Instant,
    answer: V,
}

/// Counts from the question: the answer may have been long on its way.
struct FromTheQuestion;

impl<K, V> Expiry<K, Asked<V>> for FromTheQuestion {
    fn expire_after_create(&self, _: &K, asked: &Asked<V>, now: Instant) -> Option<Duration> {
        Some(LIFE.saturating_sub(now.saturating_duration_since(asked.at)))
    }
}

impl<K, V> Brief<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(REMEMBERED)
                .expire_after(FromTheQuestion)
                .build(),
        )
    }

    /// The remembered answer, or the one that `ask` gives.
    pub(crate) async fn get<E: Send + Sync + 'static>(
        &self,
        key: K,
        ask: impl Future<Output = Result<V, E>>,
    ) -> Result<V, Arc<E>> {
        let asked = self.0.try_get_with(key, async {
            let at = Instant::now();
            ask.await.map(|answer| Asked { at, answer })
        });
        asked.await.map(|asked| asked.answer)
    }
}
