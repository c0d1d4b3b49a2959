//! The real store, with a count of what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use events::{LogIdentity, Partition};
use read_models::{
    ChangeFeed, Changed, Checkpoint, Commit, CommitError, Due, Error, Generation, Page, Parked,
    Place, ProjectionStore, Query, ReadModel, ReadStore, Rebuild, Row, RowKey, Search, Status,
    Waiting,
};
use tokio::sync::{Mutex, MutexGuard};

pub struct Counting {
    inner: Arc<dyn ReadStore>,
    looks: AtomicUsize,
    lists: AtomicUsize,
    away: AtomicBool,
    /// Held while the store is not to answer.
    gate: Mutex<()>,
}

impl Counting {
    pub fn new(inner: Arc<dyn ReadStore>) -> Self {
        Self {
            inner,
            looks: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            away: AtomicBool::new(false),
            gate: Mutex::new(()),
        }
    }

    /// How often rows were asked for.
    pub fn lists(&self) -> usize {
        self.lists.load(Ordering::SeqCst)
    }

    /// From now on nobody hears of changes, and the store cannot tell what changed; or again.
    pub fn cut_off(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Questions wait until this is dropped.
    pub async fn close(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    /// How often the checkpoints were looked at.
    pub fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl ProjectionStore for Counting {
    async fn prepare(&self, model: &ReadModel, log: LogIdentity) -> Result<Generation, Error> {
        self.inner.prepare(model, log).await
    }
    async fn live(&self, model: &str) -> Result<Option<Generation>, Error> {
        self.inner.live(model).await
    }
    async fn checkpoints(
        &self,
        generation: &Generation,
    ) -> Result<(LogIdentity, Vec<Checkpoint>), Error> {
        self.inner.checkpoints(generation).await
    }
    async fn swap(&self, generation: &Generation) -> Result<bool, Error> {
        self.inner.swap(generation).await
    }
    async fn load_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        keys: &[RowKey],
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        self.inner
            .load_rows(model, generation, partition, keys)
            .await
    }
    async fn find_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        search: &Search,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        self.inner
            .find_rows(model, generation, partition, search, limit)
            .await
    }
    async fn due_rows(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        due: &Due,
        limit: u32,
    ) -> Result<Vec<(RowKey, Row)>, Error> {
        self.inner
            .due_rows(model, generation, partition, due, limit)
            .await
    }
    async fn commit(&self, commit: Commit<'_>) -> Result<(), CommitError> {
        self.inner.commit(commit).await
    }
    async fn parked(&self, generation: &Generation) -> Result<Vec<Parked>, Error> {
        self.inner.parked(generation).await
    }
    async fn scan(
        &self,
        model: &ReadModel,
        generation: &Generation,
        partition: Partition,
        after: Option<&RowKey>,
        limit: u32,
    ) -> Result<(Checkpoint, Vec<(RowKey, Row)>), Error> {
        self.inner
            .scan(model, generation, partition, after, limit)
            .await
    }
    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }
}

#[async_trait]
impl ReadStore for Counting {
    async fn list(&self, model: &ReadModel, query: &Query) -> Result<Page, Error> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().await);
        self.inner.list(model, query).await
    }
    async fn changes_since(
        &self,
        model: &ReadModel,
        place: &Place,
    ) -> Result<Option<Changed>, Error> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("cut off".into()));
        }
        self.inner.changes_since(model, place).await
    }
    async fn is_built(&self, model: &ReadModel) -> Result<(), Error> {
        self.inner.is_built(model).await
    }
    async fn rebuilds(&self) -> Result<Vec<Rebuild>, Error> {
        self.inner.rebuilds().await
    }
    async fn waiting(&self, limit: u32) -> Result<Vec<Waiting>, Error> {
        self.inner.waiting(limit).await
    }
    async fn status(&self, model: &ReadModel) -> Result<Option<Status>, Error> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.inner.status(model).await
    }
    async fn wait_for_change(&self, patience: Duration) {
        self.inner.wait_for_change(patience).await;
    }
    fn changes(&self) -> ChangeFeed {
        self.inner.changes()
    }
}
