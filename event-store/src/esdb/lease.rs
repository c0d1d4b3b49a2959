//! Leases and the relay's checkpoint. There is no clock that all could ask, so a lease has run out when somebody has seen
//! it unchanged for its whole time, by a clock of their own; only one can then write the next record. A fence never goes
//! down.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::connection::{Connection, Trouble};
use super::records::{Kind, Lease, Published, newest, replace};
use crate::{Error, Fence, Fenced, Held, RelayCheckpoint};

/// How often a write that another came before, or whose answer was lost, is decided on anew.
const TRIES: usize = 4;

/// What was seen of leases that others hold: by stream, the revision and when it was first seen.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<String, (u64, Instant)>>);

impl Seen {
    /// Whether the record has stood unchanged for its time.
    fn has_run_out(&self, stream: &str, revision: u64, lease: &Lease) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (known, since) = seen.entry(stream.to_owned()).or_insert((revision, now));
        if *known != revision {
            (*known, *since) = (revision, now);
        }
        now.duration_since(*since) >= Duration::from_millis(lease.ttl_ms)
    }
}

/// Takes or renews a lease.
pub(super) async fn acquire(
    connection: &Connection,
    seen: &Seen,
    name: &str,
    holder: Uuid,
    ttl: Duration,
) -> Result<Option<Fence>, Error> {
    let stream = Kind::Lease.stream(name);
    let mut trouble = Trouble::Conflict;
    for _ in 0..TRIES {
        let stands: Option<(u64, Lease)> = newest(connection, &stream).await?;
        let fence = match &stands {
            None => 1,
            Some((_, lease)) if lease.holder == Some(holder) => lease.fence,
            Some((_, lease)) if lease.holder.is_none() => lease.fence + 1,
            Some((revision, lease)) if seen.has_run_out(&stream, *revision, lease) => {
                lease.fence + 1
            }
            Some(_) => return Ok(None),
        };
        let lease = Lease {
            holder: Some(holder),
            fence,
            ttl_ms: ttl.as_millis() as u64,
        };
        let read = stands.map(|(revision, _)| revision);
        match replace(connection, Kind::Lease, &stream, read, &lease).await {
            Ok(()) => return Ok(Some(Fence(fence))),
            Err(again @ (Trouble::Conflict | Trouble::Passing(_))) => trouble = again,
            Err(lasting) => return Err(lasting.into()),
        }
    }
    Err(trouble.into())
}

/// The lease as it stands. How long it lasts is not known: see above.
pub(super) async fn held(connection: &Connection, name: &str) -> Result<Option<Held>, Error> {
    let newest = newest::<Lease>(connection, &Kind::Lease.stream(name)).await?;
    Ok(newest.and_then(|(_, lease)| {
        lease.holder.map(|holder| Held {
            holder,
            fence: Fence(lease.fence),
            remaining_ms: None,
        })
    }))
}

/// Gives a lease up, if it is held.
pub(super) async fn release(
    connection: &Connection,
    name: &str,
    holder: Uuid,
) -> Result<(), Error> {
    let stream = Kind::Lease.stream(name);
    let mut trouble = Trouble::Conflict;
    for _ in 0..TRIES {
        let Some((revision, lease)) = newest::<Lease>(connection, &stream).await? else {
            return Ok(());
        };
        if lease.holder != Some(holder) {
            return Ok(());
        }
        let free = Lease {
            holder: None,
            ..lease
        };
        match replace(connection, Kind::Lease, &stream, Some(revision), &free).await {
            Ok(()) => return Ok(()),
            Err(again @ (Trouble::Conflict | Trouble::Passing(_))) => trouble = again,
            Err(lasting) => return Err(lasting.into()),
        }
    }
    Err(trouble.into())
}

fn published() -> String {
    Kind::Relay.stream("checkpoint")
}

/// How far the relay has published.
pub(super) async fn load_checkpoint(
    connection: &Connection,
) -> Result<Option<RelayCheckpoint>, Error> {
    let newest = newest::<Published>(connection, &published()).await?;
    Ok(newest.map(|(_, published)| published.checkpoint))
}

/// Stores how far the relay has published, if the fence is still the newest.
///
/// The record is written after the one that was read before the lease was: if a successor has written since, this write
/// comes too late. A successor that has not written yet is not disturbed: the checkpoint is true, only older.
pub(super) async fn save_checkpoint(
    connection: &Connection,
    name: &str,
    fence: Fence,
    checkpoint: &RelayCheckpoint,
) -> Result<(), Fenced> {
    let stream = published();
    let record = Published {
        fence: fence.0,
        checkpoint: checkpoint.clone(),
    };
    let mut trouble = Trouble::Conflict;
    for _ in 0..TRIES {
        let stands = newest::<Published>(connection, &stream).await;
        let stands = stands.map_err(Error::from)?;
        let lease = newest::<Lease>(connection, &Kind::Lease.stream(name)).await;
        let held = lease.map_err(Error::from)?.map(|(_, lease)| lease.fence);
        let superseded = stands.as_ref().is_some_and(|(_, it)| it.fence > fence.0);
        if held != Some(fence.0) || superseded {
            return Err(Fenced::Lost);
        }
        let read = stands.map(|(revision, _)| revision);
        match replace(connection, Kind::Relay, &stream, read, &record).await {
            Ok(()) => return Ok(()),
            Err(again @ (Trouble::Conflict | Trouble::Passing(_))) => trouble = again,
            Err(lasting) => return Err(Error::from(lasting).into()),
        }
    }
    Err(Error::from(trouble).into())
}
