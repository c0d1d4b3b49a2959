//! Which table of a read model readers see, remembered between reads. It never decides that a remembered table still is it:
//! every read asks in its own statement ([`crate::sql::page`]) and looks again when it is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use events::{LogIdentity, Position};

use crate::sql::{Layout, Seen};
use crate::{Error, Generation, ReadModel, errors};

/// How often a read starts over because the live table was switched under it.
pub(crate) const ATTEMPTS: usize = 4;

/// A table that serves an older or newer definition than the live one is fed as long as it is, this much later, where the
/// live one was.
const KEEPS_UP: Duration = Duration::from_secs(1);

/// A generation as stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) generation: Generation,
    pub(crate) log: LogIdentity,
    pub(crate) layout: Layout,
    /// SQL dashboards, and readers of its definition, see it.
    pub(crate) live: bool,
    /// Readers of its definition see it.
    pub(crate) serves: bool,
}

/// What readers of a definition may see.
pub(crate) struct Candidates {
    pub(crate) live: Option<Stored>,
    /// The table that serves the definition, where another one is live.
    pub(crate) own: Option<Own>,
}

/// A table that serves its definition and is not live.
pub(crate) struct Own {
    pub(crate) stored: Stored,
    /// How far it has come.
    pub(crate) positions: Vec<Position>,
    /// How far the live one has come; looked at later.
    pub(crate) live: Vec<Position>,
}

/// What readers of a definition see.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) stored: Arc<Stored>,
    pub(crate) seen: Seen,
}

/// What was seen of a definition's tables.
#[derive(Debug)]
struct Known {
    choice: Choice,
    /// The choice is looked at again after that: its statements do not tell that there is a better one.
    until: Option<Instant>,
    /// Where the live table stood when its own was judged last.
    judged: Option<(Instant, Vec<Position>)>,
    /// Its own table is as far as the live one was a moment ago.
    is_fed: Option<bool>,
}

/// A read model's name and its definition's hash.
type Key = (String, String);

#[derive(Debug, Default)]
pub(crate) struct LiveTables(Mutex<HashMap<Key, Known>>);

impl LiveTables {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Choice> {
        let known = self.known();
        let known = known.get(key)?;
        let good = known.until.is_none_or(|until| Instant::now() < until);
        good.then(|| known.choice.clone())
    }

    /// The table is not what it was taken for: the next reader looks anew.
    pub(crate) fn forget(&self, key: &Key) {
        if let Some(known) = self.known().get_mut(key) {
            known.until = Some(Instant::now());
        }
    }

    /// Chooses what readers of a definition see: the live table if it is theirs; their own for as long as it keeps up with
    /// the live one; else the live one.
    pub(crate) fn choose(&self, model: &ReadModel, key: Key, found: Candidates) -> Option<Choice> {
        let Some(live) = found.live else {
            self.known().remove(&key);
            return None;
        };
        let mut tables = self.known();
        let (mut judged, mut is_fed) = tables
            .remove(&key)
            .map_or((None, None), |known| (known.judged, known.is_fed));
        let now = Instant::now();
        let live_is_own = live.generation.definition_hash == key.1;
        let (stored, seen, until) = match found.own.filter(|own| own.stored.log == live.log) {
            _ if live_is_own => (live, Seen::Live, None),
            Some(own) => {
                match &judged {
                    Some((at, _)) if now.duration_since(*at) < KEEPS_UP => {}
                    earlier => {
                        let kept_up = |(_, live): &(Instant, Vec<Position>)| {
                            own.positions
                                .iter()
                                .zip(live)
                                .all(|(own, live)| own >= live)
                        };
                        is_fed = earlier.as_ref().map(kept_up);
                        judged = Some((now, own.live));
                    }
                }
                // Where the live table cannot be read, old rows are better than none.
                if is_fed != Some(false) || live.layout.mismatch(model).is_some() {
                    (own.stored, Seen::Serves, Some(now + KEEPS_UP))
                } else {
                    (live, Seen::Live, Some(now + KEEPS_UP))
                }
            }
            None => (live, Seen::Live, Some(now + KEEPS_UP)),
        };
        let choice = Choice {
            stored: Arc::new(stored),
            seen,
        };
        let known = Known {
            choice: choice.clone(),
            until,
            judged,
            is_fed,
        };
        tables.insert(key, known);
        Some(choice)
    }

    /// See `ReadStore::is_built`, after a choice was made.
    pub(crate) fn is_built(&self, model: &ReadModel, key: &Key) -> Result<(), Error> {
        let tables = self.known();
        let name = &model.name;
        let known = tables.get(key).ok_or_else(|| not_built(name))?;
        let Choice { stored, seen } = &known.choice;
        let of_this = stored.generation.definition_hash == key.1 && stored.serves;
        match seen {
            Seen::Live if of_this => Ok(()),
            Seen::Serves if of_this && known.is_fed == Some(true) => Ok(()),
            _ => Err(Error::Unavailable(format!(
                "the read model {name} is being built for this definition"
            ))),
        }
    }
}

/// By what a definition's tables are remembered.
pub(crate) fn key(model: &ReadModel) -> Key {
    (model.name.clone(), model.definition_hash())
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
