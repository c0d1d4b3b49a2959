//! What every part of a projector stands on: the log, the database, the settings, and when to stop.
//!
//! Refuses: to sleep through a shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use event_store::EventStore;
use read_models::{OperatedStore, ProjectionStore};
use tokio_util::sync::CancellationToken;

use crate::options::Options;
use crate::yielding::Yielding;

/// What every part of a projector stands on.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) log: Arc<dyn EventStore>,
    pub(crate) store: Arc<dyn ProjectionStore>,
    /// The same database, where operators may ask for something.
    pub(crate) operated: Option<Arc<dyn OperatedStore>>,
    /// For how many read models another version's definition is fed as well: then only one of the versions is brought
    /// messages, and the other has to look at the log.
    pub(crate) side_by_side: Arc<AtomicUsize>,
    /// Builds make way for what readers wait for.
    pub(crate) yielding: Arc<Yielding>,
    pub(crate) options: Options,
    pub(crate) shutdown: CancellationToken,
}

impl Context {
    /// The same for a part that may end before the others.
    pub(crate) fn until(&self, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            shutdown: stop,
            ..self.clone()
        })
    }

    /// Messages may go to a process of another version.
    pub(crate) fn is_side_by_side(&self) -> bool {
        self.side_by_side.load(Ordering::Relaxed) > 0
    }

    /// Waits; false when the projector is to stop.
    pub(crate) async fn pause(&self, pause: Duration) -> bool {
        tokio::select! {
            () = self.shutdown.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}
