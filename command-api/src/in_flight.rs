//! Keeps one process from carrying a command out twice at once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use events::CommandId;

/// The commands this process is carrying out right now.
#[derive(Debug, Default)]
pub struct InFlight(Mutex<HashSet<CommandId>>);

impl InFlight {
    /// Enters a command, unless it is being carried out already.
    pub fn enter(self: &Arc<Self>, command: CommandId) -> Option<InFlightGuard> {
        let entered = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(command);
        entered.then(|| InFlightGuard(Arc::clone(self), command))
    }
}

/// Leaves when dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<InFlight>, CommandId);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.1);
    }
}
