//! What every request is answered from: the store, who may do what, and how positions look on the wire.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use event_store::EventStore;
use events::{Position, Version};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::access::{Access, Gate, authorization};

/// The served log.
pub(crate) struct Node {
    pub store: Arc<dyn EventStore>,
    pub gate: Arc<dyn Gate>,
    pub deciders: BTreeSet<String>,
    pub clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    pub stride: u64,
    pub shutdown: CancellationToken,
    pub subscriptions: AtomicU64,
}

impl Node {
    /// Who sends a request, and what they may do.
    pub async fn admit(&self, metadata: &MetadataMap) -> Result<Access, Status> {
        Ok(self.gate.admit(authorization(metadata).as_deref()).await?)
    }

    /// The log's id and the number of the subscription in this process, as an id.
    pub fn subscription_id(&self) -> Uuid {
        let number = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        Uuid::from_u64_pair(self.store.identity().epoch.as_u64_pair().0, number)
    }

    /// A position as it stands on the wire.
    pub fn on_wire(&self, position: Position) -> u64 {
        position.get().saturating_mul(self.stride)
    }

    /// The last position before one from the wire. The log is gapless, so one may count here.
    pub fn before(&self, on_wire: u64) -> Position {
        Position::new(on_wire.div_ceil(self.stride).saturating_sub(1))
    }

    /// The last position at or before one from the wire.
    pub fn at(&self, on_wire: u64) -> Position {
        Position::new(on_wire / self.stride)
    }
}

/// Revisions count from 0, versions from 1.
pub(crate) fn revision(version: Version) -> u64 {
    version.get().saturating_sub(1)
}

/// The version that has this revision.
pub(crate) fn version(revision: u64) -> Version {
    Version::new(revision.saturating_add(1))
}

/// What is told of a fault; its cause goes to the log.
pub(crate) fn fault(error: &event_store::Error) -> Status {
    match error {
        event_store::Error::Unavailable(_) => {
            tracing::warn!(%error, "a request for the served log cannot be answered");
            Status::unavailable("the event store is unavailable: try again")
        }
        event_store::Error::Invalid(_) => {
            tracing::error!(%error, "a request for the served log failed");
            Status::internal("the event store failed; the server's log says why")
        }
    }
}
