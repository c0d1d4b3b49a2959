//! Hot rows and lists in memory: as stored, so ciphertext, and not yet judged for any caller. A hub says what is not true any
//! more. It refuses to answer from before a caller's token, to answer without a hub that looked within the last second, and
//! to keep what was read from before the hub's last look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use quick_cache::Weighter;
use quick_cache::sync::Cache as Entries;
use read_models::{Error, Filter, Page, Query, ReadModel, ReadStore, RowKey, Value};
use web::{PositionToken, Problem};

use crate::hub::{Hub, Seen, reaches};
use crate::routes::store_problem;

/// What an entry weighs apart from its values, and each value apart from its text, in bytes.
const ENTRY_BYTES: usize = 500;
const VALUE_BYTES: usize = 48;
/// Questions on their way of which those that were given up are swept out.
const FLIGHTS: usize = 1_024;
/// How often a caller joins others' questions whose answers turn out too old for it.
const JOINED: usize = 2;

/// What is asked of the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// The whole row with this key.
    Row(RowKey),
    /// A page.
    List(Arc<Query>),
}

impl Question {
    fn query(&self, model: &ReadModel) -> Arc<Query> {
        match self {
            Self::Row(key) => Arc::new(Query::new(model, model.with_key(key), 1)),
            Self::List(query) => Arc::clone(query),
        }
    }
}

/// How often the cache was asked, and how often it knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheCounts {
    /// Answered from memory.
    pub hits: u64,
    /// Answered by the database, or by an answer of the database that somebody else was waiting for.
    pub misses: u64,
    /// Those of the misses that somebody else's question answered.
    pub shared: u64,
}

/// One cache for all read models of a process. Clones are the same.
#[derive(Clone)]
pub(crate) struct Cache(Arc<Inner>);

struct Inner {
    store: Arc<dyn ReadStore>,
    /// Missing where it is switched off.
    entries: Option<Entries<Key, Entry, Bytes>>,
    flights: Mutex<HashMap<Key, WeakShared<Flight>>>,
    hits: AtomicU64,
    misses: AtomicU64,
    shared: AtomicU64,
}

/// A read model's name, and the question.
type Key = (Arc<str>, Question);
type Flight = BoxFuture<'static, Result<Arc<Page>, Arc<Error>>>;

#[derive(Clone)]
struct Entry {
    page: Arc<Page>,
    era: u64,
    changes: u64,
}

impl Entry {
    /// A row is removed when it changes; a list is not looked for, so it is true until any row does.
    fn holds(&self, question: &Question, seen: &Seen) -> bool {
        self.era == seen.era
            && (matches!(question, Question::Row(_)) || self.changes >= seen.changes)
    }
}

impl Cache {
    /// Holds about so many bytes; none: it is off.
    pub(crate) fn new(store: Arc<dyn ReadStore>, bytes: u64) -> Self {
        let entries =
            (bytes > 0).then(|| Entries::with_weighter(bytes as usize / ENTRY_BYTES, bytes, Bytes));
        Self(Arc::new(Inner {
            store,
            entries,
            flights: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            shared: AtomicU64::new(0),
        }))
    }

    pub(crate) fn counts(&self) -> CacheCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounts {
            hits: count(&self.0.hits),
            misses: count(&self.0.misses),
            shared: count(&self.0.shared),
        }
    }

    /// Lets go of rows.
    pub(crate) fn forget<'k>(&self, model: &Arc<str>, keys: impl Iterator<Item = &'k RowKey>) {
        if let Some(entries) = &self.0.entries {
            for key in keys {
                entries.remove(&(Arc::clone(model), Question::Row(key.clone())));
            }
        }
    }

    /// The answer as stored, at or past the token, whose positions the store has reached.
    pub(crate) async fn ask(
        &self,
        hub: &Hub,
        model: &Arc<ReadModel>,
        name: &Arc<str>,
        question: Question,
        token: Option<&PositionToken>,
    ) -> Result<Arc<Page>, Problem> {
        let Some(entries) = &self.0.entries else {
            let page = self.0.store.list(model, &question.query(model)).await;
            return page.map(Arc::new).map_err(|error| store_problem(&error));
        };
        let key = (Arc::clone(name), question);
        // First what can be relied on, then the entry: what is found then holds at that place or later.
        if let Some(seen) = hub.reliable(token)
            && let Some(entry) = entries.get(&key)
            && entry.holds(&key.1, &seen)
        {
            self.0.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(entry.page);
        }
        self.0.misses.fetch_add(1, Ordering::Relaxed);
        for _ in 0..JOINED {
            let (flight, joined) = self.join(&key, model);
            let page = flight.await;
            self.0.land(&key);
            let page = page.map_err(|error| store_problem(&error))?;
            if joined && !token.is_none_or(|token| reaches(&page.place, token)) {
                continue;
            }
            self.0
                .shared
                .fetch_add(u64::from(joined), Ordering::Relaxed);
            hub.keep(&page, |seen| {
                let (era, changes) = (seen.era, seen.changes);
                let page = Arc::clone(&page);
                entries.insert(key.clone(), Entry { page, era, changes });
            });
            return Ok(page);
        }
        let page = self.0.store.list(model, &key.1.query(model)).await;
        page.map(Arc::new).map_err(|error| store_problem(&error))
    }

    /// The same question on its way to the database, if somebody waits for it, or a new one.
    fn join(&self, key: &Key, model: &Arc<ReadModel>) -> (Shared<Flight>, bool) {
        let mut flights = self.0.flights();
        if let Some(flight) = flights.get(key).and_then(WeakShared::upgrade) {
            return (flight, true);
        }
        let (store, model) = (Arc::clone(&self.0.store), Arc::clone(model));
        let query = key.1.query(&model);
        let ask = async move {
            let page = store.list(&model, &query).await;
            page.map(Arc::new).map_err(Arc::new)
        };
        let flight = ask.boxed().shared();
        if flights.len() >= FLIGHTS {
            // What nobody waits for any more was left behind by callers who went away.
            flights.retain(|_, flight| flight.upgrade().is_some());
        }
        if let Some(weak) = flight.downgrade() {
            flights.insert(key.clone(), weak);
        }
        (flight, false)
    }
}

impl Inner {
    /// An answer is there: the next question is a new one.
    fn land(&self, key: &Key) {
        let mut flights = self.flights();
        // Another may have begun already.
        let under_way = flights
            .get(key)
            .and_then(WeakShared::upgrade)
            .is_some_and(|flight| flight.peek().is_none());
        if !under_way {
            flights.remove(key);
        }
    }

    // The map is whole after every statement, so a panic elsewhere spoils nothing.
    fn flights(&self) -> MutexGuard<'_, HashMap<Key, WeakShared<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an entry weighs: about how many bytes of memory it takes.
#[derive(Clone)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        weight(key, &entry.page) as u64
    }
}

fn weight(key: &Key, page: &Page) -> usize {
    let text = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::List(texts) => texts.iter().map(|text| text.len() + VALUE_BYTES).sum(),
        _ => 0,
    };
    let values = |row: &[Value]| -> usize { row.iter().map(|v| VALUE_BYTES + text(v)).sum() };
    let asked = match &key.1 {
        Question::Row(key) => values(key),
        Question::List(query) => ENTRY_BYTES + VALUE_BYTES * conditions(&query.filter),
    };
    let rows: usize = page.rows.iter().map(|row| values(row)).sum();
    ENTRY_BYTES + asked + rows
}

/// About how many values a filter takes the room of.
fn conditions(filter: &Filter) -> usize {
    match filter {
        Filter::All(filters) | Filter::Any(filters) => filters.iter().map(conditions).sum(),
        Filter::Not(filter) => conditions(filter),
        Filter::In(_, values) => 4 + 2 * values.len(),
        _ => 4,
    }
}
