//! Which table of a read model is live, remembered between reads. It never decides that a remembered table still is:
//! every read asks in its own statement ([`crate::sql::get`]) and looks again when it is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::LogIdentity;

use crate::sql::Layout;
use crate::{Error, Generation, ReadModel, errors};

/// How often a read starts over because the live table was switched under it.
pub(crate) const ATTEMPTS: usize = 4;

/// A generation as stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) generation: Generation,
    pub(crate) log: LogIdentity,
    pub(crate) layout: Layout,
}

#[derive(Debug, Default)]
pub(crate) struct LiveTables(Mutex<HashMap<String, Arc<Stored>>>);

impl LiveTables {
    pub(crate) fn find(&self, model: &str) -> Option<Arc<Stored>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(model)
            .cloned()
    }

    pub(crate) fn remember(&self, stored: Stored) -> Arc<Stored> {
        let stored = Arc::new(stored);
        let name = stored.generation.model.clone();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, Arc::clone(&stored));
        stored
    }

    pub(crate) fn forget(&self, model: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(model);
    }
}

/// The table has the columns that the definition wants to read.
pub(crate) fn readable(stored: &Stored, model: &ReadModel) -> Result<(), Error> {
    match stored.layout.mismatch(model) {
        None => Ok(()),
        Some(problem) => Err(Error::Unavailable(format!(
            "the read model {} is not built yet for this definition: the live table {problem}",
            model.name
        ))),
    }
}

pub(crate) fn not_built(model: &str) -> Error {
    Error::Unavailable(format!("the read model {model} is not built yet"))
}

pub(crate) fn keeps_switching(model: &str) -> Error {
    Error::Unavailable(format!(
        "the live table of the read model {model} was switched {ATTEMPTS} times during one read"
    ))
}

/// A live table always answers with a row, if only with the one that says that nothing was found: no row, or no table,
/// means that it was switched or dropped since it was remembered.
pub(crate) fn answer<R>(
    found: Result<Vec<R>, sqlx::Error>,
    timeout: Duration,
) -> Result<Option<Vec<R>>, Error> {
    match found {
        Ok(rows) if !rows.is_empty() => Ok(Some(rows)),
        Err(error) if errors::is_too_slow(&error) => Err(Error::TooSlow(timeout)),
        Err(error) if !errors::is_absent(&error) => Err(error.into()),
        _ => Ok(None),
    }
}
