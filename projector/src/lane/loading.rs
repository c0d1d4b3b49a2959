//! Loading a lane at its checkpoint.
//!
//! Refuses: a checkpoint that cannot be one of this log's.

use events::{Position, RecordedEvent};

use super::{Lane, Trouble};
use crate::ahead::Ahead;
use crate::context::Context;

impl Lane {
    /// Loads the checkpoint and what stands around it, and refuses one that does not belong to this log.
    pub(super) async fn load(&self) -> Result<Ahead, Trouble> {
        let Context {
            log,
            store,
            options,
            ..
        } = &*self.context;
        let (identity, checkpoints) = store.checkpoints(&self.generation).await?;
        if identity != log.identity() {
            return Err(Trouble::Stop(
                "its checkpoints speak of another log; rebuild the read model".into(),
            ));
        }
        let stored = *checkpoints
            .get(usize::from(self.partition.0))
            .ok_or_else(|| {
                Trouble::Stop(
                    "it has no checkpoint for this partition; rebuild the read model".into(),
                )
            })?;
        // Read after the checkpoint, so that a log which goes on meanwhile is never behind it.
        let head = log
            .head()
            .await
            .map_err(|error| Trouble::Fault(error.to_string()))?;
        if stored.position > head {
            let position = stored.position;
            return Err(Trouble::Stop(format!(
                "its checkpoint {position} is beyond the log's head {head}: the log was set back; rebuild the read model"
            )));
        }
        let mut parked = store.parked(&self.generation).await?;
        parked.retain(|parked| parked.partition == self.partition);
        Ok(Ahead::new(
            stored,
            parked,
            options.cached_rows,
            self.discards.clone(),
        ))
    }

    /// Where the checkpoint lies among events that surround it, it must be one of them.
    pub(super) fn check_place(
        &self,
        ahead: &Ahead,
        after: Position,
        events: &[RecordedEvent],
    ) -> Result<(), Trouble> {
        let at = ahead.reached.position;
        let last = events.last().map_or(after, |event| event.position);
        if at > after
            && at < last
            && events
                .binary_search_by_key(&at, |event| event.position)
                .is_err()
        {
            return Err(Trouble::Stop(format!(
                "its checkpoint {at} is not the position of an event of partition {}; rebuild the read model",
                self.partition
            )));
        }
        Ok(())
    }
}
