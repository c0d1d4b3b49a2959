//! The rows that a fold works on, by key and, once a change looks for rows by a column, by that column's values. It refuses
//! to know what is stored: whoever folds brings the rows.

use std::collections::{HashMap, HashSet, hash_map};

use events::Partition;

use super::{Row, RowKey};
use crate::Value;

/// Rows in memory. A key without a row says that no row is stored; a key that is not there says that nobody looked.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    rows: HashMap<RowKey, Option<Row>>,
    /// For each column that rows were looked for by: its place among key and columns, and the keys by value. Kept up by
    /// every change from then on, so rows that are never looked for cost nothing.
    places: Vec<(usize, HashMap<Value, HashSet<RowKey>>)>,
}

impl Rows {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A row, if one is there by this key.
    pub fn get(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(key)?.as_ref()
    }

    /// Whether it is known how this row stands.
    pub fn contains_key(&self, key: &RowKey) -> bool {
        self.rows.contains_key(key)
    }

    /// Says how a row stands; `None`: it is not there.
    pub fn insert(&mut self, key: RowKey, row: Option<Row>) {
        self.forget_place(&key);
        if self.places.is_empty() {
            self.rows.insert(key, row);
        } else {
            self.rows.insert(key.clone(), row);
            self.note_place(&key);
        }
    }

    /// Says that a row is not there, unless it is known how it stands.
    pub fn or_absent(&mut self, key: &RowKey) {
        if !self.rows.contains_key(key) {
            self.rows.insert(key.clone(), None);
        }
    }

    /// Forgets how a row stands, and gives the row that was there.
    pub fn remove(&mut self, key: &RowKey) -> Option<Row> {
        self.forget_place(key);
        self.rows.remove(key).flatten()
    }

    /// How many rows are known, those that are not there included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> hash_map::Drain<'_, RowKey, Option<Row>> {
        self.places.clear();
        self.rows.drain()
    }

    pub(super) fn slot(&mut self, key: &RowKey) -> Option<&mut Option<Row>> {
        self.rows.get_mut(key)
    }

    /// The keys of one partition's rows whose column, by its place among key and columns, has this value; in order.
    pub(super) fn find(
        &mut self,
        place: usize,
        value: &Value,
        partition: Partition,
    ) -> Vec<RowKey> {
        if self.places.iter().all(|(known, _)| *known != place) {
            let mut by_value: HashMap<Value, HashSet<RowKey>> = HashMap::new();
            for (key, row) in &self.rows {
                if let Some(row) = row {
                    let value = value_at(key, row, place).clone();
                    by_value.entry(value).or_default().insert(key.clone());
                }
            }
            self.places.push((place, by_value));
        }
        let known = self.places.iter().find(|(known, _)| *known == place);
        let keys = known.and_then(|(_, by_value)| by_value.get(value));
        let ours = |key: &&RowKey| self.get(key).is_some_and(|row| row.partition == partition);
        let mut keys: Vec<RowKey> = keys.into_iter().flatten().filter(ours).cloned().collect();
        keys.sort();
        keys
    }

    /// Before a row changes.
    pub(super) fn forget_place(&mut self, key: &RowKey) {
        for (place, by_value) in &mut self.places {
            if let Some(Some(row)) = self.rows.get(key) {
                let value = value_at(key, row, *place);
                if let Some(keys) = by_value.get_mut(value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        by_value.remove(value);
                    }
                }
            }
        }
    }

    /// After a row has changed.
    pub(super) fn note_place(&mut self, key: &RowKey) {
        for (place, by_value) in &mut self.places {
            if let Some(Some(row)) = self.rows.get(key) {
                let value = value_at(key, row, *place).clone();
                by_value.entry(value).or_default().insert(key.clone());
            }
        }
    }
}

fn value_at<'r>(key: &'r RowKey, row: &'r Row, place: usize) -> &'r Value {
    key.get(place)
        .unwrap_or_else(|| &row.values[place - key.len()])
}

impl IntoIterator for Rows {
    type Item = (RowKey, Option<Row>);
    type IntoIter = hash_map::IntoIter<RowKey, Option<Row>>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

impl Extend<(RowKey, Option<Row>)> for Rows {
    fn extend<I: IntoIterator<Item = (RowKey, Option<Row>)>>(&mut self, rows: I) {
        for (key, row) in rows {
            self.insert(key, row);
        }
    }
}

impl FromIterator<(RowKey, Option<Row>)> for Rows {
    fn from_iter<I: IntoIterator<Item = (RowKey, Option<Row>)>>(rows: I) -> Self {
        Self {
            rows: rows.into_iter().collect(),
            places: Vec::new(),
        }
    }
}

/// The same rows, wherever they were looked for.
impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}
impl Eq for Rows {}
