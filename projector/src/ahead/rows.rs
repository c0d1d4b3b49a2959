//! Bringing the rows that changes are about to change: from memory, or from the table.
//!
//! Refuses: to know what becomes of them.

use std::collections::HashSet;

use events::RecordedEvent;
use read_models::{Changes, Due, Error, EventPlace, ROWS_A_CHANGE, Row, RowKey, Search};

use super::{Ahead, Table};

impl Ahead {
    /// Brings every row that the changes name: from memory, and the others from the table in one call. Rows that their
    /// first change replaces whole are not looked for; the keys of these are returned.
    pub(super) async fn load(
        &mut self,
        table: &Table<'_>,
        changes: &[(&RecordedEvent, Changes<'_>)],
    ) -> Result<HashSet<RowKey>, Error> {
        let (mut missing, mut unseen): (Vec<RowKey>, HashSet<RowKey>) = Default::default();
        for (key, replaced) in changes.iter().flat_map(|(_, made)| made.touched()) {
            if !self.rows.contains_key(key) {
                let known = self.cache.take(key);
                match (&known, replaced) {
                    (Some(_), _) => {}
                    (None, true) => _ = unseen.insert(key.clone()),
                    (None, false) => missing.push(key.clone()),
                }
                self.rows.insert(key.clone(), known.flatten());
            } else if !replaced && unseen.remove(key) {
                // Another change needs to see it, should the one that replaces it fail.
                missing.push(key.clone());
            }
        }
        if !missing.is_empty() {
            let Table {
                store,
                model,
                generation,
                partition,
            } = *table;
            let found = store
                .load_rows(model, generation, partition, &missing)
                .await?;
            self.rows
                .extend(found.into_iter().map(|(key, row)| (key, Some(row))));
        }
        let due = due_for_all(table, changes);
        for search in changes.iter().flat_map(|(_, made)| made.searches()) {
            self.find(table, search, due.as_ref(), &mut unseen).await?;
        }
        Ok(unseen)
    }

    /// Brings every stored row that a change looks for. The rows named by key, and those that earlier changes look for, are
    /// here before: what the table knows better than memory is therefore as it will be when the change is folded. So if
    /// more come than a change may find, that is how many it finds, and the fold refuses it.
    async fn find(
        &mut self,
        table: &Table<'_>,
        search: &Search,
        due: Option<&Due>,
        unseen: &mut HashSet<RowKey>,
    ) -> Result<(), Error> {
        if self.found.contains(search) {
            return Ok(());
        }
        // Any row in memory may be found in the table as it no longer is.
        let most = ROWS_A_CHANGE + self.rows.len() + 1;
        let mut limit = most;
        let Table {
            store,
            model,
            generation,
            partition,
        } = *table;
        let stored: Vec<(RowKey, Row)> = loop {
            let stored = store
                .find_rows(model, generation, partition, search, limit as u32)
                .await?;
            // A row that no event finds any more does not count as one that a change finds.
            let is_due =
                |(key, row): &&(RowKey, Row)| due.is_some_and(|due| due.holds(key, &row.values));
            let passed_over = stored.iter().filter(is_due).count();
            if stored.len() < limit || most + passed_over <= limit {
                break stored;
            }
            limit = most + passed_over;
        };
        if stored.len() < limit {
            self.found.insert(search.clone());
        }
        for (key, row) in stored {
            if !self.rows.contains_key(&key) || unseen.remove(&key) {
                self.cache.take(&key);
                self.rows.insert(key, Some(row));
            }
        }
        Ok(())
    }
}

/// The rows that none of these events finds, if any of them looks for rows.
fn due_for_all(table: &Table<'_>, changes: &[(&RecordedEvent, Changes<'_>)]) -> Option<Due> {
    table.model.retention.as_ref()?;
    changes
        .iter()
        .find_map(|(_, made)| made.searches().next())?;
    let times = changes
        .iter()
        .map(|(event, _)| EventPlace::of(table.partition, event).recorded_at);
    // One that says nothing of its time is refused by the fold.
    table.model.due_at(times.flatten().min()?)
}
