//! Data keys: their wrapped rows are remembered as long as no row has changed, and one loader turns all lookups that wait
//! together into one query.
//!
//! Refuses: to remember an unwrapped key, to give one whose row was not the vault's a second ago, and to let a lookup wait
//! without a bound.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::data_key::DataKey;
use crate::error::{Error, KeyError};
use crate::keys::Keys;
use crate::store::{OPERATION_TIMEOUT, Store, on, within};

/// How old the last look at the count of changes may be for a remembered row to be used. An erasure takes effect
/// everywhere within it.
const ROW_LIFETIME: Duration = Duration::from_secs(1);
/// How old the last look at the count of changes may be before a lookup asks for another, without waiting for it.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How many wrapped keys are remembered at most.
const KNOWN_ROWS: usize = 100_000;
/// How many lookups may wait in line; more wait to get in line.
const WAITING_LOOKUPS: usize = 1_024;
/// How many lookups are answered together at most.
const LOOKUPS_A_BATCH: usize = 512;
/// How many keys one query asks for at most.
const KEYS_A_QUERY: usize = 1_000;
/// The longest a lookup waits: the line, its own query and the one before it.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3 * OPERATION_TIMEOUT.as_secs());

type Found = Result<Arc<DataKey>, KeyError>;

struct Lookup {
    persons: Vec<Uuid>,
    /// `None`: only the count of changes is to be looked at.
    reply: Option<oneshot::Sender<Result<HashMap<Uuid, Found>, Error>>>,
}

/// A count of changes that was read, and when the reading began.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    changes: i64,
}

/// A row of a key that is there.
#[derive(Debug)]
struct Wrapped {
    /// The count of changes before the row was read.
    changes: i64,
    master: String,
    bytes: Vec<u8>,
}

impl Wrapped {
    fn unwrap(&self, keys: &Keys, person: Uuid) -> Found {
        Ok(Arc::new(keys.unwrap_data_key(
            person,
            &self.master,
            &self.bytes,
        )?))
    }
}

/// Wrapped keys, good for as long as the vault counts no change of any: changes are rare, and then all are read again.
struct KnownRows {
    rows: Cache<Uuid, Arc<Wrapped>>,
    last: RwLock<Option<Look>>,
    /// Another look has been asked for.
    asked: AtomicBool,
}

impl KnownRows {
    fn new() -> Self {
        Self {
            rows: Cache::new(KNOWN_ROWS),
            last: RwLock::new(None),
            asked: AtomicBool::new(false),
        }
    }

    /// The last look that is younger than this.
    fn looked(&self, now: Instant, age: Duration) -> Option<Look> {
        self.last
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .filter(|look| now.saturating_duration_since(look.at) < age)
    }

    fn note(&self, look: Look) {
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|before| before.changes != look.changes) {
            self.rows.clear();
        }
        *last = Some(look);
    }

    /// The row, if it was the vault's within the last second.
    fn get(&self, person: Uuid, now: Instant) -> Option<Arc<Wrapped>> {
        let look = self.looked(now, ROW_LIFETIME)?;
        self.rows
            .get(&person)
            .filter(|row| row.changes == look.changes)
    }
}

/// The way to data keys. Its task ends with it.
pub(crate) struct Loader {
    keys: Arc<Keys>,
    known: Arc<KnownRows>,
    queries: Arc<AtomicU64>,
    lookups: mpsc::Sender<Lookup>,
    task: JoinHandle<()>,
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Loader {
    pub(crate) fn start(store: Arc<Store>, keys: Arc<Keys>) -> Self {
        let (lookups, waiting) = mpsc::channel(WAITING_LOOKUPS);
        let known = Arc::new(KnownRows::new());
        let queries = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            store,
            keys: Arc::clone(&keys),
            known: Arc::clone(&known),
            queries: Arc::clone(&queries),
        };
        Self {
            keys,
            known,
            queries,
            lookups,
            task: tokio::spawn(worker.run(waiting)),
        }
    }

    /// In this process, an erased person's key is forgotten at once.
    pub(crate) fn forget(&self, person: Uuid) {
        self.known.rows.remove(&person);
    }

    /// How many queries for keys were sent.
    pub(crate) fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    pub(crate) async fn key(&self, person: Uuid) -> Found {
        if let Some(key) = self.remembered(person, Instant::now()) {
            return Ok(key);
        }
        self.ask(vec![person])
            .await?
            .remove(&person)
            .unwrap_or(Err(KeyError::Missing))
    }

    pub(crate) async fn keys(&self, persons: &[Uuid]) -> Result<HashMap<Uuid, Found>, Error> {
        let now = Instant::now();
        let mut found = HashMap::with_capacity(persons.len());
        let mut absent = HashSet::new();
        for &person in persons {
            match self.remembered(person, now) {
                Some(key) => drop(found.insert(person, Ok(key))),
                None => drop(absent.insert(person)),
            }
        }
        if !absent.is_empty() {
            found.extend(self.ask(absent.into_iter().collect()).await?);
        }
        Ok(found)
    }

    /// A key that needs no query. While keys are asked for, the count of changes is looked at beside it.
    fn remembered(&self, person: Uuid, now: Instant) -> Option<Arc<DataKey>> {
        let known = &self.known;
        if known.looked(now, LOOK_AGAIN).is_none() && !known.asked.swap(true, Ordering::AcqRel) {
            let look = Lookup {
                persons: Vec::new(),
                reply: None,
            };
            if self.lookups.try_send(look).is_err() {
                known.asked.store(false, Ordering::Release);
            }
        }
        let row = known.get(person, now)?;
        // A master key that is gone is told by whoever reads the row anew.
        row.unwrap(&self.keys, person).ok()
    }

    async fn ask(&self, persons: Vec<Uuid>) -> Result<HashMap<Uuid, Found>, Error> {
        let stopped = || Error::Unavailable("it is shutting down".into());
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.lookups
                .send(Lookup {
                    persons,
                    reply: Some(reply),
                })
                .await
                .map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        tokio::time::timeout(LOOKUP_TIMEOUT, asking)
            .await
            .unwrap_or_else(|_| {
                Err(Error::Unavailable(
                    "the line for data keys is too long".into(),
                ))
            })
    }
}

struct Worker {
    store: Arc<Store>,
    keys: Arc<Keys>,
    known: Arc<KnownRows>,
    queries: Arc<AtomicU64>,
}

impl Worker {
    async fn run(self, mut waiting: mpsc::Receiver<Lookup>) {
        let mut batch = Vec::with_capacity(LOOKUPS_A_BATCH);
        while waiting.recv_many(&mut batch, LOOKUPS_A_BATCH).await > 0 {
            let result = self.load(&batch).await;
            for lookup in batch.drain(..) {
                let Some(reply) = lookup.reply else {
                    if let Err(error) = &result {
                        tracing::debug!(%error, "the count of changed data keys cannot be read");
                    }
                    continue;
                };
                let answer = result.as_ref().map_err(Clone::clone).map(|found| {
                    lookup
                        .persons
                        .iter()
                        .filter_map(|person| Some((*person, found.get(person)?.clone())))
                        .collect()
                });
                // Whoever no longer waits needs no answer.
                drop(reply.send(answer));
            }
        }
    }

    /// The count of changes, read again unless it just was.
    async fn look(&self) -> Result<Look, Error> {
        let (known, at) = (&self.known, Instant::now());
        known.asked.store(false, Ordering::Release);
        if let Some(look) = known.looked(at, LOOK_AGAIN) {
            return Ok(look);
        }
        let changes = on!(&*self.store, pools => within(
            sqlx::query_scalar("SELECT seq FROM data_key_changes").fetch_one(&pools.read)
        )
        .await)?;
        let look = Look { at, changes };
        known.note(look);
        Ok(look)
    }

    /// Everything that the batch asks for, each person once.
    async fn load(&self, batch: &[Lookup]) -> Result<HashMap<Uuid, Found>, Error> {
        let look = self.look().await?;
        let now = Instant::now();
        let mut found = HashMap::new();
        let mut absent = Vec::new();
        for &person in batch.iter().flat_map(|lookup| &lookup.persons) {
            if found.contains_key(&person) {
                continue;
            }
            // The batch before may have brought it, or the look at the count has.
            let row = self.known.get(person, now);
            if row.is_none() {
                absent.push(person);
            }
            let key = row.map_or(Err(KeyError::Missing), |row| row.unwrap(&self.keys, person));
            found.insert(person, key);
        }
        for persons in absent.chunks(KEYS_A_QUERY) {
            self.queries.fetch_add(1, Ordering::Relaxed);
            crate::metrics::KEY_QUERIES.add(1);
            for (person, master, wrapped) in within(select(&self.store, persons)).await? {
                let (Some(master), Some(bytes)) = (master, wrapped) else {
                    found.insert(person, Err(KeyError::Erased));
                    continue;
                };
                let row = Wrapped {
                    changes: look.changes,
                    master,
                    bytes,
                };
                let key = row.unwrap(&self.keys, person);
                if key.is_ok() {
                    self.known.rows.insert(person, Arc::new(row));
                }
                found.insert(person, key);
            }
        }
        Ok(found)
    }
}

type Row = (Uuid, Option<String>, Option<Vec<u8>>);

async fn select(store: &Store, persons: &[Uuid]) -> Result<Vec<Row>, sqlx::Error> {
    match store {
        Store::Sqlite(pools) => {
            // SQLite has no array parameters: the ids go in as JSON of hexadecimal texts.
            let ids: Vec<_> = persons.iter().map(|id| id.simple().to_string()).collect();
            sqlx::query_as(
                "SELECT person, master_key, wrapped FROM data_keys \
                 WHERE person IN (SELECT unhex(value) FROM json_each($1))",
            )
            .bind(serde_json::to_string(&ids).expect("ids are JSON"))
            .fetch_all(&pools.read)
            .await
        }
        Store::Postgres(pools) => {
            sqlx::query_as(
                "SELECT person, master_key, wrapped FROM data_keys WHERE person = ANY($1)",
            )
            .bind(persons)
            .fetch_all(&pools.read)
            .await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERSON: Uuid = Uuid::from_u128(1);

    fn row(changes: i64) -> Arc<Wrapped> {
        Arc::new(Wrapped {
            changes,
            master: "m".into(),
            bytes: vec![],
        })
    }

    #[test]
    fn a_row_is_used_for_less_than_a_second_after_a_look() {
        let (known, at) = (KnownRows::new(), Instant::now());
        known.rows.insert(PERSON, row(7));
        assert!(known.get(PERSON, at).is_none(), "nobody has looked");
        known.note(Look { at, changes: 7 });
        let after = |ms| at + Duration::from_millis(ms);
        assert!(known.get(PERSON, after(999)).is_some());
        assert!(known.get(PERSON, after(1_000)).is_none());
        let again = Look {
            at: after(1_000),
            changes: 7,
        };
        known.note(again);
        assert!(known.get(PERSON, after(1_999)).is_some());
    }

    #[test]
    fn a_row_read_before_a_change_is_not_used_after_it() {
        let (known, at) = (KnownRows::new(), Instant::now());
        known.note(Look { at, changes: 7 });
        known.note(Look { at, changes: 8 });
        // Its query began before the change, and its answer comes after.
        known.rows.insert(PERSON, row(7));
        assert!(known.get(PERSON, at).is_none());
        known.rows.insert(PERSON, row(8));
        assert!(known.get(PERSON, at).is_some());
    }
}
