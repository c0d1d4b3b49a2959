//! Which lanes there are now, by partition: what a partition's consumer feeds. Generations come and go while it runs.
//!
//! Refuses: to lock anything while lanes work; a consumer works on a copy of the list.

use std::sync::{Arc, PoisonError, RwLock};

use events::Partition;
use read_models::Generation;

use crate::lane::Lane;

/// The lanes of each partition.
pub(crate) struct Columns(Vec<RwLock<Vec<Arc<Lane>>>>);

impl Columns {
    pub(crate) fn new(partitions: u16) -> Self {
        Self((0..partitions).map(|_| RwLock::default()).collect())
    }

    /// The lanes of a partition, as they are now.
    pub(crate) fn of(&self, partition: Partition) -> Vec<Arc<Lane>> {
        let lanes = self.0[usize::from(partition.0)].read();
        lanes.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds one lane for each partition.
    pub(crate) fn add(&self, lanes: &[Arc<Lane>]) {
        for lane in lanes {
            self.change(lane.partition, |column| column.push(Arc::clone(lane)));
        }
    }

    /// Takes the lanes of a generation out.
    pub(crate) fn remove(&self, generation: &Generation) {
        for partition in (0..self.0.len() as u16).map(Partition) {
            self.change(partition, |column| {
                column.retain(|lane| *lane.generation != *generation);
            });
        }
    }

    fn change(&self, partition: Partition, change: impl FnOnce(&mut Vec<Arc<Lane>>)) {
        let column = self.0[usize::from(partition.0)].write();
        change(&mut column.unwrap_or_else(PoisonError::into_inner));
    }
}
