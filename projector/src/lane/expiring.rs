//! Letting rows go whose time is over, as the read model's rule says ([`ReadModel::retention`](read_models::ReadModel::retention)).
//! They go with the events that come next, like any other change; where none come, in a commit of their own.
//!
//! Refuses: to let a row go that an event which is not taken in yet may still find.

use chrono::{DateTime, Utc};
use event_store::Filter;
use read_models::{EventPlace, SLACK};

use super::{Lane, Trouble};
use crate::ahead::Ahead;
use crate::clock;
use crate::options::ROWS_LET_GO;

impl Lane {
    /// Lets rows go that are due. True when more of them may be there.
    pub(crate) async fn expire(&self) -> bool {
        if self.model.retention.is_none() || self.is_stopped() {
            return false;
        }
        let mut held = self.held.lock().await;
        let Some(mut ahead) = held.ahead.take() else {
            return false;
        };
        match self.let_go(&mut ahead).await {
            Ok(more) => {
                self.report(&mut ahead);
                held.ahead = Some(ahead);
                more
            }
            // What is due now is due later. The lane loads anew.
            Err(Trouble::Fenced) => false,
            Err(trouble) => {
                let (model, partition) = (&self.model.name, self.partition);
                let (Trouble::Fault(reason) | Trouble::Refused(reason) | Trouble::Stop(reason)) =
                    trouble
                else {
                    return false;
                };
                tracing::warn!(model, %partition, reason, "rows that are due could not be removed");
                false
            }
        }
    }

    async fn let_go(&self, ahead: &mut Ahead) -> Result<bool, Trouble> {
        let table = self.table();
        if ahead.lets_go_alone() {
            // Since the last time nothing came that they could have gone with.
            ahead.amend();
            ahead.flush(&table).await?;
        }
        // What waits in a parked stream may find any row that was there when it was recorded.
        if ahead.parked_streams() > 0 {
            return Ok(false);
        }
        let Some(oldest) = self.oldest_to_come(ahead).await? else {
            return Ok(false);
        };
        let Some(due) = self.model.due_at(oldest - SLACK) else {
            return Ok(false);
        };
        let (store, limit) = (&self.context.store, ROWS_LET_GO);
        let rows = store
            .due_rows(&self.model, &self.generation, self.partition, &due, limit)
            .await?;
        let full = rows.len() >= limit as usize;
        ahead.let_go(rows.into_iter().map(|(key, _)| key));
        if full && ahead.lets_go_alone() {
            // Too many to wait: readers begin anew, as after a commit of many rows.
            ahead.amend();
        }
        if full {
            ahead.flush(&table).await?;
        }
        Ok(full)
    }

    /// When the first event was recorded that is not taken in; now, where there is none. `None`: it does not say.
    async fn oldest_to_come(&self, ahead: &mut Ahead) -> Result<Option<DateTime<Utc>>, Trouble> {
        let filter = Filter {
            partition: Some(self.partition),
            categories: Vec::new(),
        };
        // Before the log is read: what is recorded after this look is not older.
        let now = clock::now();
        loop {
            let page = self.context.log.read_all(ahead.covered, &filter, 1).await;
            let page = page.map_err(|error| Trouble::Fault(error.to_string()))?;
            if let Some(event) = page.events.first() {
                let recorded_at = EventPlace::of(self.partition, event).recorded_at;
                return Ok(recorded_at.map(|recorded_at| recorded_at.min(now)));
            }
            if page.through <= ahead.covered {
                return Ok(Some(now));
            }
            ahead.covered = page.through;
        }
    }
}
