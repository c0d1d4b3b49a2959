//! What changes in one read model, for those in this process who need to know: the cache, and whoever listens. One task
//! follows the journal of changed rows while anybody does, reads each changed row once, and sleeps otherwise.
//!
//! It refuses to hold more than a bounded number of changes for anybody: who falls behind reads the journal alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

use read_models::{Changed, Error, Page, Place, ReadModel, ReadStore};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use web::PositionToken;

use crate::changes::{self, Batch};

/// Changes that come within this time are told together.
const GAP: Duration = Duration::from_millis(15);
/// How long the journal goes unread when nothing is heard.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long what was read may stand for what is.
const FRESH: Duration = Duration::from_secs(1);
/// How long the journal is followed after the cache was last used.
const USED: Duration = Duration::from_secs(30);
/// Batches held for those who listen; who is further behind reads the journal.
const HELD: usize = 64;

/// Follows one read model. Its task ends with it.
pub(crate) struct Hub {
    shared: Arc<Shared>,
    task: OnceLock<JoinHandle<()>>,
}

struct Shared {
    store: Arc<dyn ReadStore>,
    model: Arc<ReadModel>,
    began: Instant,
    /// When the cache was last asked, in milliseconds since `began`.
    used_ms: AtomicU64,
    wanted: Notify,
    /// What the cache may rely on. Missing while nobody follows the journal.
    seen: RwLock<Option<Seen>>,
    told: Mutex<Told>,
    first_look: Notify,
    forget: Box<dyn Fn(&Changed) + Send + Sync>,
}

/// How far the journal has been followed, everything before it invalidated.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    place: Arc<Place>,
    /// When the look began: everything committed before that was seen.
    at: Instant,
    /// Raised when what was cached before says nothing any more.
    pub(crate) era: u64,
    /// Raised whenever rows changed.
    pub(crate) changes: u64,
}

/// What those who listen have been told.
struct Told {
    place: Option<Place>,
    era: u64,
    batches: broadcast::Sender<News>,
}

/// What those who listen are told.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// Rows may have changed.
    Batch(Arc<Batch>),
    /// The journal does not lead on from before: only the list does.
    Anew,
}

/// A place, and everything that follows it.
pub(crate) struct Subscription {
    pub(crate) place: Place,
    pub(crate) news: broadcast::Receiver<News>,
}

impl Hub {
    /// Follows nothing yet. `forget` is called with what changed, before anybody may rely on the place it leads to.
    pub(crate) fn new(
        store: Arc<dyn ReadStore>,
        model: Arc<ReadModel>,
        forget: impl Fn(&Changed) + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                model,
                began: Instant::now(),
                used_ms: AtomicU64::new(0),
                wanted: Notify::new(),
                seen: RwLock::new(None),
                told: Mutex::new(Told {
                    place: None,
                    era: 0,
                    batches: broadcast::Sender::new(HELD),
                }),
                first_look: Notify::new(),
                forget: Box::new(forget),
            }),
            task: OnceLock::new(),
        }
    }

    /// What the cache may rely on for this token; nothing while that is too old, or not far enough.
    pub(crate) fn reliable(&self, token: Option<&PositionToken>) -> Option<Seen> {
        self.start();
        self.shared.note_use();
        let seen = self.shared.seen();
        let seen = seen.as_ref().filter(|seen| seen.at.elapsed() < FRESH)?;
        token
            .is_none_or(|token| reaches(&seen.place, token))
            .then(|| seen.clone())
    }

    /// Does something with what was read at a place, if nothing was forgotten since then: what it leaves in the cache will
    /// be forgotten when it changes.
    pub(crate) fn keep(&self, page: &Page, put: impl FnOnce(&Seen)) {
        let seen = self.shared.seen();
        if let Some(seen) = seen.as_ref()
            && page.place.covers(&seen.place)
        {
            put(seen);
        }
    }

    /// Listens from now on; nothing if the read model cannot be read by `deadline`.
    pub(crate) async fn subscribe(&self, deadline: Instant) -> Option<Subscription> {
        self.start();
        // Counted as one who listens from here on.
        let news = self.shared.told().batches.subscribe();
        loop {
            let first_look = self.shared.first_look.notified();
            if let Some(subscription) = self.shared.subscription() {
                return Some(subscription);
            }
            self.shared.wanted.notify_one();
            if timeout_at(deadline, first_look).await.is_err() {
                drop(news);
                return self.shared.subscription();
            }
        }
    }

    /// The place up to which all that follows a subscription has been sent.
    pub(crate) fn told(&self) -> Option<Place> {
        self.shared.told().place.clone()
    }

    /// The task begins with the first who needs it: only then is there sure to be a runtime.
    fn start(&self) {
        self.task
            .get_or_init(|| tokio::spawn(Arc::clone(&self.shared).run()));
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Whether the rows at a place hold all that a token names.
pub(crate) fn reaches(place: &Place, token: &PositionToken) -> bool {
    token.is_of(place.log)
        && token.positions.iter().all(|(partition, position)| {
            let reached = place.positions.get(usize::from(partition.0));
            reached.is_some_and(|reached| reached >= position)
        })
}

impl Shared {
    async fn run(self: Arc<Self>) {
        loop {
            while !self.is_wanted() {
                self.wanted.notified().await;
            }
            self.follow().await;
            self.rest();
        }
    }

    /// Follows the journal for as long as anybody needs it.
    async fn follow(&self) {
        // Taken before the first look, so that no commit falls between the two.
        let mut feed = self.store.changes();
        let mut failing = false;
        while self.is_wanted() {
            let at = Instant::now();
            match (self.look(at).await, failing) {
                (Err(error), false) => {
                    tracing::warn!(model = self.model.name, %error, "changes of a read model cannot be followed; trying again");
                    failing = true;
                }
                (Ok(()), true) => {
                    tracing::info!(
                        model = self.model.name,
                        "changes of a read model are followed again"
                    );
                    failing = false;
                }
                _ => {}
            }
            self.first_look.notify_waiters();
            feed.changed(PATIENCE).await;
            sleep_until(at + GAP).await;
        }
    }

    async fn look(&self, at: Instant) -> Result<(), Error> {
        let seen = self.seen().clone();
        let Some(seen) = seen else {
            return self.begin(at).await;
        };
        match self.store.changes_since(&self.model, &seen.place).await? {
            None => self.begin(at).await,
            Some(changed) => {
                if changed.place != *seen.place {
                    self.take_in(changed, &seen, at).await;
                } else if let Some(seen) = self.seen_mut().as_mut() {
                    seen.at = at;
                }
                Ok(())
            }
        }
    }

    /// The place as it is now, whatever was known before.
    async fn begin(&self, at: Instant) -> Result<(), Error> {
        let status = self.store.status(&self.model).await?;
        let place = status.map(|status| status.place());
        let mut told = self.told();
        told.era += 1;
        told.place.clone_from(&place);
        *self.seen_mut() = place.map(|place| Seen {
            place: Arc::new(place),
            at,
            era: told.era,
            changes: 0,
        });
        // Nobody who listens: nobody to tell.
        _ = told.batches.send(News::Anew);
        Ok(())
    }

    /// Tells of what changed: first the cache, then those who listen.
    async fn take_in(&self, changed: Changed, before: &Seen, at: Instant) {
        let next = Seen {
            place: Arc::new(changed.place.clone()),
            at,
            era: before.era,
            changes: before.changes + u64::from(!changed.rows.is_empty()),
        };
        {
            // Nothing is put into the cache meanwhile, and nobody relies on the new place before it is cleared.
            let mut seen = self.seen_mut();
            (self.forget)(&changed);
            *seen = Some(next);
        }
        let mut batch = Batch {
            since: (*before.place).clone(),
            place: changed.place,
            changed: changed.rows.into_iter().collect(),
            read: None,
        };
        if self.told().batches.receiver_count() > 0 && !batch.changed.is_empty() {
            let keys = batch.changed.iter().map(|(key, _)| key);
            // Who listens reads for itself what could not be read here.
            batch.read = changes::read(&*self.store, &self.model, keys).await.ok();
        }
        let mut told = self.told();
        told.place = Some(batch.place.clone());
        _ = told.batches.send(News::Batch(Arc::new(batch)));
    }

    /// Nobody needs it: what is known grows old from here on.
    fn rest(&self) {
        self.told().place = None;
        *self.seen_mut() = None;
    }

    fn subscription(&self) -> Option<Subscription> {
        let told = self.told();
        told.place.clone().map(|place| Subscription {
            place,
            news: told.batches.subscribe(),
        })
    }

    fn is_wanted(&self) -> bool {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        let used_lately = used > Duration::ZERO && self.began.elapsed().saturating_sub(used) < USED;
        used_lately || self.told().batches.receiver_count() > 0
    }

    fn note_use(&self) {
        let now = self.began.elapsed().as_millis() as u64 + 1;
        let before = self.used_ms.swap(now, Ordering::Relaxed);
        if before == 0 || Duration::from_millis(now.saturating_sub(before)) > FRESH {
            self.wanted.notify_one();
        }
    }

    // What is guarded is whole after every statement, so a panic elsewhere spoils nothing.
    fn seen(&self) -> RwLockReadGuard<'_, Option<Seen>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen_mut(&self) -> RwLockWriteGuard<'_, Option<Seen>> {
        self.seen.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
